"""One call to a daemon by hand: what it answered, or what is known of a call it did not answer."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from harness.client.session import Session
from harness.dialects.exai import Exai
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


async def call_once(
    url: str,
    tool: str,
    arguments: str,
    *,
    timeout_s: float,
    token: str | None,
    allow_remote: bool = False,
) -> int:
    """
    Connect, say hello, call one tool, print its reply.

    Args:
        url: The daemon's address.
        tool: The tool's name.
        arguments: Its arguments, a JSON object as text.
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
        dialect=Exai(),
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
