"""
Any WebSocket: a call is one message, and the next message that comes is its reply.

Whoever answers the upgrade has taken us in. Nothing on the wire says which message
a reply belongs to, so a daemon that also speaks unasked wants a dialect of its own.
"""

from __future__ import annotations

from typing import Any

from harness.dialects.base import Answer, Dialect, Incoming
from harness.errors import InvalidValue

__all__ = ["Plain"]


class Plain(Dialect):
    """
    Messages as they are: no hello, no ids, no tools.

    A call's tool is the message: text, or bytes for a binary one. Its key is not sent.
    """

    name = "plain"
    one_at_a_time = True

    def call(
        self, *, request_id: str, tool: str | bytes, arguments: dict[str, Any], key: str | None
    ) -> bytes:
        """The message itself."""
        if arguments:
            raise InvalidValue(
                f'dialect "{self.name}" sends a message as it is; it has no place for arguments',
                [
                    ("found", f"arguments {', '.join(map(str, arguments))}"),
                    ("next", "put them into the message, for instance call(json.dumps({...}))"),
                ],
            )
        if isinstance(tool, bytes):
            return tool
        try:
            return tool.encode()
        except UnicodeEncodeError as error:
            raise InvalidValue(
                f"the message is no text: {error}", [("next", "send it as bytes")]
            ) from None

    def receive(self, frame: bytes | str) -> Incoming:
        """Every message is an answer; bytes that are UTF-8 come as text."""
        return Answer(kind="call", request_id=None, value=(_text(frame),))


def _text(frame: bytes | str) -> bytes | str:
    if isinstance(frame, str):
        return frame
    try:
        return frame.decode()
    except UnicodeDecodeError:
        return frame
