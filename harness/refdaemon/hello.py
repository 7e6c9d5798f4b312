"""The first frame of a connection: who it is, and which session that comes to."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from harness.dialects import exai
from harness.dialects.exai import FrameError
from harness.refdaemon import requests
from harness.refdaemon.session import Session, SpoiltSession
from harness.refdaemon.state import State

__all__ = ["NO_HELLO", "TurnedAway", "read_hello", "session_for"]


@dataclass(frozen=True)
class TurnedAway:
    """Why a connection gets no session: the code it is closed with, and the word in `hello_ack`."""

    code: int
    error: str


NO_HELLO: Final = TurnedAway(exai.CLOSE_INVALID_HELLO, "invalid_hello")
"""What came first is no hello that can be read."""

_ANOTHER_FRAME: Final = TurnedAway(exai.CLOSE_MISSING_HELLO, "missing_hello")
_WRONG_TOKEN: Final = TurnedAway(exai.CLOSE_UNAUTHORIZED, "unauthorized")
_FULL: Final = TurnedAway(exai.CLOSE_OVERLOADED, "too_many_sessions")


def read_hello(state: State, frame: bytes | str) -> exai.Hello | TurnedAway:
    """Read a first frame, and look at its token."""
    try:
        hello = exai.decode_request(frame)
    except FrameError as error:
        requests.meet(state, error)
        return NO_HELLO if error.kind == "json" or error.op == "hello" else _ANOTHER_FRAME
    if not isinstance(hello, exai.Hello):
        return _ANOTHER_FRAME
    return hello if requests.same(hello.token, state.config.server.token) else _WRONG_TOKEN


def session_for(state: State, name: str | None) -> tuple[Session, bool] | TurnedAway:
    """
    The session of that name, known or new; a new one of another name, where that is none.

    A connection that it has is told that it was replaced.

    Returns:
        The session, and whether it was known; or why there is none.
    """
    if name is None or not exai.usable_session_id(name):
        name = secrets.token_urlsafe(24)
    session = state.sessions.get(name)
    if session is not None and session.line is not None:
        session.line.replaced()
    elif (refused := state.admission.join(name)) is not None:
        state.figures.limits[refused.limit] += 1
        return _FULL
    if session is not None:
        return session, True
    kind = SpoiltSession if state.defects else Session
    session = state.sessions[name] = kind(state, name)
    return session, False
