"""One call to a daemon by hand: what it answered, or what is known of a call it did not answer."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from harness.client.session import Session
from harness.dialects.base import Dialect
from harness.dialects.exai import Exai
from harness.dialects.plain import Plain
from harness.errors import (
    EXIT_INVALID,
    EXIT_UNKNOWN,
    EXIT_VALID,
    CallFailed,
    CallUnknown,
    ConnectFailed,
    InvalidValue,
)
from harness.program import complain

__all__ = ["call_once"]

_DIALECTS: Final[Mapping[str, type[Dialect]]] = {"exai": Exai, "plain": Plain}


async def call_once(
    url: str,
    tool: str,
    arguments: str,
    *,
    dialect: Literal["exai", "plain"] = "exai",
    timeout_s: float,
    token: str | None,
    allow_remote: bool = False,
) -> int:
    """
    Connect, say hello where the dialect has one, call one tool, print its reply.

    Args:
        url: The daemon's address.
        tool: The tool's name; in the dialect plain, the message.
        arguments: Its arguments, a JSON object as text.
        dialect: The daemon's language.
        timeout_s: The time limit of the call, in seconds.
        token: The daemon's token.
        allow_remote: Whether the daemon may be on another machine.

    Returns:
        0 answered; 1 it certainly did not happen; 2 it may have happened.

    Raises:
        InvalidValue: If the URL is none, or the arguments are no JSON object.
    """
    session = Session(
        url,
        dialect=_DIALECTS[dialect](),
        process="call",
        token=token,
        call_timeout_s=timeout_s,
        allow_remote=allow_remote,
    )
    given = _object(arguments)
    try:
        async with session:
            reply = await session.call(tool, given)
    except (ConnectFailed, CallFailed) as error:
        complain("harness call", error)
        return EXIT_INVALID
    except CallUnknown as error:
        complain("harness call", error)
        return EXIT_UNKNOWN
    if reply.failure is not None:
        print(f"{reply.failure.code}: {reply.failure.message}")
    else:
        print(reply.text)
    print(f"answered after {reply.elapsed_ms:.2f} ms", file=sys.stderr)
    return EXIT_VALID


def _object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidValue(
            f"the tool's arguments are no JSON object: {error}",
            [("found", text[:200]), ("next", 'quote them for the shell: \'{"text": "hi"}\'')],
        ) from None
