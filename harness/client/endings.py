"""
How connections end and why they never begin: what the library raises, in our words.

No socket here. Rule: nothing in this file shows a token or a header; whoever
uses its sentences hides the token in what the daemon said.
"""

from __future__ import annotations

import errno
import ssl
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
)

__all__ = ["OPEN", "Ending", "ending_of", "why_not_connected"]


@dataclass(frozen=True, kw_only=True)
class Ending:
    """
    How a connection ended, seen from the client.

    Attributes:
        kind: "open" (it has not), "reset" (an RST came), "eof" (a FIN came, without a close
            frame), "closed" (with a close frame) or "lost" (none of these: the kernel gave up).
        code: The close code of the first close frame.
        reason: That frame's reason.
        first: Who sent it.
        detail: What the library said, where that adds something. Two endings are equal whatever
            it says.
    """

    kind: Literal["open", "reset", "eof", "closed", "lost"]
    code: int | None = None
    reason: str = ""
    first: Literal["client", "daemon"] | None = None
    detail: str = field(default="", compare=False)

    def __str__(self) -> str:
        match self.kind:
            case "open":
                return "the connection is open"
            case "reset":
                return "the connection was reset (RST)"
            case "eof":
                return "the connection ended (FIN) without a close frame"
            case "closed":
                said = f'{self.code} "{self.reason}"' if self.reason else f"{self.code}"
                return f"the {self.first} closed the connection first, with code {said}"
            case "lost":
                return f"the connection was lost: {self.detail}"

    def settings(self) -> dict[str, Any]:
        """What there is to say, for the history."""
        said = {"code": self.code, "reason": self.reason, "first": self.first}
        return {"kind": self.kind} | {name: value for name, value in said.items() if value}


OPEN: Final = Ending(kind="open")


def ending_of(closed: ConnectionClosed) -> Ending:
    """Read the ending off what `recv` raised once the connection was gone."""
    received, sent = closed.rcvd, closed.sent
    cause = closed.__cause__
    detail = "" if cause is None else f"{type(cause).__name__}: {cause}"
    if received is not None and (sent is None or closed.rcvd_then_sent):
        return Ending(
            kind="closed", code=received.code, reason=received.reason, first="daemon", detail=detail
        )
    if sent is not None:
        return Ending(
            kind="closed", code=sent.code, reason=sent.reason, first="client", detail=detail
        )
    if isinstance(cause, ConnectionResetError):
        return Ending(kind="reset", detail=detail)
    # A broken pipe is a write after the peer's FIN: the reset only answered that write.
    if cause is None or isinstance(cause, EOFError | BrokenPipeError):
        return Ending(kind="eof", detail=detail)
    return Ending(kind="lost", detail=detail)


def why_not_connected(error: Exception, lost: BaseException | None) -> tuple[str, str]:
    """
    Why no connection came about.

    Args:
        error: What the library raised.
        lost: What ended the TCP connection, where there was one and something did.

    Returns:
        The kind (see `errors.ConnectFailed`; also "unreachable" and "tls") and a sentence.
    """
    if isinstance(error, TimeoutError):
        return "timeout", "the system gave up connecting"
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return "rejected", f"the upgrade was answered with HTTP {status}, expected 101"
    # asyncio raises one without a number for an end in the middle of the TLS handshake.
    if isinstance(error, ConnectionResetError) and error.errno is None and lost is None:
        return "closed", "the connection was closed before the TLS handshake was over"
    if isinstance(error, ConnectionResetError) or isinstance(lost, ConnectionResetError):
        return "reset", "the connection was reset (RST) before the upgrade was answered"
    if isinstance(error, InvalidMessage) and isinstance(error.__cause__, EOFError):
        return "closed", "the connection was closed before the upgrade was answered"
    if isinstance(error, InvalidHandshake):
        return "rejected", f"the upgrade went wrong: {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "tls", f"the daemon's certificate was not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "tls", f"the TLS handshake failed: {error}"
    # With several addresses to try, asyncio puts all failures into one OSError without a number.
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "refused", "nobody listens there"
    return "unreachable", f"{type(error).__name__}: {error}"
