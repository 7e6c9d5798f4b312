"""The op dialect, seen from the client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from harness.dialects.base import (
    Answer,
    Dialect,
    Failure,
    Incoming,
    Junk,
    Kind,
    Progress,
    Refusal,
    Welcome,
)
from harness.dialects.exai.frames import (
    CallTool,
    CallToolRes,
    Cancel,
    Cancelled,
    Error,
    Fault,
    Health,
    HealthRes,
    Hello,
    HelloAck,
    ListTools,
    ListToolsRes,
    Ping,
    Pong,
    ProgressFrame,
    Reconfigured,
    Reply,
    StreamChunk,
)
from harness.dialects.exai.reading import UNREADABLE, decode_reply, encode
from harness.errors import InvalidValue

__all__ = ["Exai"]

_QUESTIONS: Final[dict[Kind, Any]] = {
    "tools": ListTools,
    "health": Health,
    "pong": Ping,
    "cancel": Cancel,
}

# Counters and times only grow; these come back to what they were, where a test leaves nothing.
_LASTING: Final = (
    "connections",
    "sessions",
    "running_calls",
    "draining",
    "pid",
    "tool_state",
    "open_breakers",
    "configuration",
)


class Exai(Dialect):
    """The op dialect, seen from the client."""

    name = "exai"
    questions = frozenset(_QUESTIONS)

    def hello(self, *, token: str | None, session_id: str | None) -> bytes:
        """The first frame of a connection."""
        return encode(Hello(token=token, session_id=session_id))

    def call(
        self, *, request_id: str, tool: str | bytes, arguments: dict[str, Any], key: str | None
    ) -> bytes:
        """Run a tool."""
        if isinstance(tool, bytes):
            raise InvalidValue(
                f'dialect "{self.name}" calls tools by name; expected text, found bytes',
                [("next", "give the tool's name, and what it is to work on as arguments")],
            )
        raw = msgspec.Raw(encode(arguments))
        return encode(CallTool(request_id=request_id, name=tool, arguments=raw, key=key))

    def ask(self, kind: Kind, request_id: str) -> bytes:
        """Ask for tools, health or a pong, or cancel the call of that id."""
        return encode(_QUESTIONS[kind](request_id))

    def receive(self, frame: bytes | str) -> Incoming:
        """What a frame of the daemon means. Never raises."""
        try:
            reply = decode_reply(frame)
        except UNREADABLE as error:
            return Junk(why=str(error))
        return _meaning(reply)

    def fingerprint(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Who is connected, what runs, which process it is, and what its tools remember."""
        return {name: report[name] for name in _LASTING if name in report}


def _failure(fault: Fault | None, *, ok: bool = True) -> Failure | None:
    if fault is None:
        # "Not ok" without an error proves nothing, least of all that the tool ran.
        return None if ok else Failure(code="", message="the daemon gave no reason")
    return Failure(code=fault.code, message=fault.message, details=fault.details)


def _meaning(reply: Reply) -> Incoming:
    match reply:
        case HelloAck(ok=True):
            return Welcome(
                session_id=reply.session_id or "",
                promises=tuple(reply.promises or ()),
                clock=reply.clock or "",
                resumed=reply.resumed,
            )
        case HelloAck():
            return Refusal(reason=reply.error or "refused without a word")
        case CallToolRes():
            return Answer(
                kind="call",
                request_id=reply.request_id,
                value=reply.outputs,
                failure=_failure(reply.error, ok=reply.ok),
                received_ns=reply.received_ns,
                began_ns=reply.began_ns,
                answered_ns=reply.answered_ns,
                replayed=reply.replayed,
            )
        case ListToolsRes():
            return Answer(kind="tools", request_id=reply.request_id, value=reply.tools)
        case Pong():
            return Answer(kind="pong", request_id=reply.request_id, value=reply.timestamp)
        case HealthRes():
            return Answer(kind="health", request_id=reply.request_id, value=reply.health)
        case Cancelled():
            return Answer(
                kind="cancel",
                request_id=reply.request_id,
                value=reply.ok,
                failure=_failure(reply.error),
            )
        case ProgressFrame():
            return Progress(
                request_id=reply.request_id,
                progress=reply.progress,
                total=reply.total,
                message=reply.message,
            )
        case StreamChunk():
            return Progress(
                request_id=reply.request_id,
                progress=reply.index + 1,
                total=None,
                message=reply.chunk,
            )
        case Reconfigured():
            # No question of ours; whoever asks it speaks the dialect by hand.
            return Answer(
                kind=None, request_id=reply.request_id, failure=_failure(reply.error, ok=reply.ok)
            )
        case Error():
            # An error frame may answer a request of any kind; the id tells which.
            return Answer(kind=None, request_id=reply.request_id, failure=_failure(reply.error))
