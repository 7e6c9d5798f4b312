"""
From an address to a session: connect, upgrade, hello; and back to nothing.

Rule: tokens and headers go on the wire and nowhere else. The library logs every
frame at DEBUG, so it is given a logger that no setting of the user's reaches.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from harness.address import Address, address_of_url, refuse_remote
from harness.client.endings import ending_of, why_not_connected
from harness.dialects.base import Answer, Dialect, Refusal, Welcome
from harness.errors import ConnectFailed, InvalidValue

__all__ = ["Door", "drop", "enter"]

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024

_NOWHERE: Final = logging.Logger("harness.client.wire")  # noqa: LOG001
_NOWHERE.disabled = True

_NEXT: Final[Mapping[str, str]] = {
    "refused": "is the daemon running, and is this its port?",
    "timeout": "the daemon, or what stands before it, is silent; see daemon.log and proxy.log",
    "rejected": "check the path, the headers and the subprotocols; is this a WebSocket server?",
    "unauthorized": "set EXAI_WS_TOKEN, or give token=..., to what the daemon was started with",
    "tls": "give the certificate to trust as ca_file=...; is the daemon's made out to the URL's"
    " host, and does that port speak TLS?",
    "unreachable": "check the host's name and the network",
}


@dataclass(frozen=True, kw_only=True)
class Door:
    """
    Where to connect, and what to show at the door. The arguments are `Session`'s.

    Raises:
        InvalidValue: If the URL is none, or `ca_file` cannot be read.
    """

    url: str = field(repr=False)
    dialect: Dialect = field(repr=False)
    token: str | None = field(repr=False)
    session_id: str | None
    headers: Mapping[str, str] = field(repr=False)
    subprotocols: tuple[str, ...]
    open_timeout_s: float
    close_timeout_s: float
    ping_interval_s: float | None
    ping_timeout_s: float
    allow_remote: bool
    via: Address | None = None
    ca_file: Path | None = None
    promises: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Both now rather than when it is opened: they are the caller's mistakes.
        address_of_url(self.url)
        _ = self.trust

    @property
    def address(self) -> Address:
        """Host and port."""
        return address_of_url(self.url)

    @property
    def is_secure(self) -> bool:
        """Whether it is reached over TLS."""
        return urlsplit(self.url).scheme == "wss"

    @cached_property
    def trust(self) -> ssl.SSLContext | None:
        """What the certificate is checked with, None for what the system trusts."""
        if self.ca_file is None:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise InvalidValue(
                f"no certificates can be read from {self.ca_file}",
                [
                    ("found", error.strerror or str(error)),
                    ("next", "give a file of certificates in PEM form as ca_file"),
                ],
            ) from None

    def __str__(self) -> str:
        """The URL without user, password and query, which may hold secrets."""
        parts = urlsplit(self.url)
        through = "" if self.via is None else f" through {self.via}"
        return f"{parts.scheme}://{self.address}{parts.path}{through}"

    def hide(self, text: str) -> str:
        """Take the token out of what somebody else said."""
        return text.replace(self.token, "***") if self.token else text


class _Dial(connect):
    """The library's way to connect; follows no redirect and keeps hold of what it opened."""

    opened: ClientConnection | None = None

    async def open_tcp_connection(self) -> ClientConnection:
        self.opened = await super().open_tcp_connection()
        return self.opened

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def enter(door: Door) -> tuple[ClientConnection, Welcome]:
    """
    Connect and be taken in. Where that fails, nothing stays behind.

    Raises:
        TargetRefused: If the address is not on this machine and there is no leave.
        ConnectFailed: If no session came about.
    """
    refuse_remote(door.address, what="daemon", allow_remote=door.allow_remote)
    if door.via is not None:
        refuse_remote(door.via, what="proxy", allow_remote=door.allow_remote)
    dial = _dial(door)
    taken: Welcome | Refusal | None = None
    greeted = False
    try:
        async with asyncio.timeout(door.open_timeout_s) as limit:
            connection = await dial
            hello = door.dialect.hello(token=door.token, session_id=door.session_id)
            if hello is None:
                taken = Welcome(session_id="")
            else:
                greeted = True
                await connection.send(hello, text=True)
                taken = await _taken(door.dialect, connection)
    except ConnectionClosed as closed:
        ending = ending_of(closed)
        kind = "reset" if ending.kind == "reset" else "closed"
        awaited = "hello" if greeted else "the upgrade"
        raise _failed(door, kind, f"{ending} before {awaited} was answered") from None
    except (OSError, InvalidHandshake) as error:
        why = _why(door, dial.opened, error, late=limit.expired(), greeted=greeted)
        raise _failed(door, *why) from None
    finally:
        if not isinstance(taken, Welcome) and dial.opened is not None:
            await drop(dial.opened, within_s=0 if taken is None else door.close_timeout_s)
    if isinstance(taken, Refusal):
        raise _refused(door, taken)
    return connection, taken if taken.promises else replace(taken, promises=door.promises)


def _dial(door: Door) -> _Dial:
    # The library takes Host and SNI from the URL, and these for the TCP connection.
    tcp: dict[str, Any] = {}
    if door.via is not None:
        tcp |= {"host": door.via.host, "port": door.via.port}
    if door.is_secure and door.trust is not None:
        tcp["ssl"] = door.trust
    try:
        return _Dial(
            door.url,
            additional_headers=door.headers,
            subprotocols=[Subprotocol(name) for name in door.subprotocols] or None,
            compression=None,
            proxy=None,
            open_timeout=None,
            # Of a peer that answers no ping: it will not answer a close frame either.
            close_timeout=door.close_timeout_s,
            ping_interval=door.ping_interval_s,
            ping_timeout=door.ping_timeout_s,
            max_size=MAX_FRAME_BYTES,
            logger=_NOWHERE,
            **tcp,
        )
    except InvalidURI as error:
        raise InvalidValue(
            f"{door} cannot be connected to: {error.msg}",
            [("next", "write it as ws://host:port/path, without a fragment")],
        ) from None


async def _taken(dialect: Dialect, connection: ClientConnection) -> Welcome | Refusal:
    while True:
        match dialect.receive(await connection.recv(decode=False)):
            case Welcome() | Refusal() as taken:
                return taken
            case Answer(failure=failure) if failure is not None:
                refused = failure.code == "UNAUTHORIZED"
                return Refusal(reason="unauthorized" if refused else failure.code)


def _why(
    door: Door, opened: ClientConnection | None, error: Exception, *, late: bool, greeted: bool
) -> tuple[str, str]:
    lost = None if opened is None else opened.connection_exc
    if not late:
        return why_not_connected(error, lost)
    if opened is None:
        how = "nobody accepted the connection" + (
            ", or the TLS handshake was not answered" if door.is_secure else ""
        )
    elif greeted:
        how = "hello was sent and never answered"
    elif opened.protocol.handshake_exc is not None:
        # After a bad answer the library waits for the server to close.
        return why_not_connected(opened.protocol.handshake_exc, lost)
    else:
        how = "the connection was accepted, the upgrade never answered"
    return "timeout", f"not open within {door.open_timeout_s:g} s: {how}"


def _refused(door: Door, refusal: Refusal) -> ConnectFailed:
    if refusal.reason != "unauthorized":
        return _failed(door, refusal.reason, f'the daemon answered hello with "{refusal.reason}"')
    if door.token is None:
        return _failed(door, "unauthorized", "the daemon wants a token, and none was given")
    return _failed(door, "unauthorized", "the daemon refused the token it was given")


def _failed(door: Door, kind: str, how: str) -> ConnectFailed:
    kind = door.hide(kind)
    next_step = _NEXT.get(kind, "daemon.log and proxy.log tell what they saw")
    return ConnectFailed(
        f"no session: {door.hide(how)}",
        [("address", str(door)), ("next", next_step)],
        kind=kind,
    )


async def drop(connection: ClientConnection, *, within_s: float) -> None:
    """Close in good manners where that takes no longer than `within_s` seconds, else at once."""
    try:
        if within_s:
            # The library bounds the handshake, but not the wait for a peer that does not read.
            async with asyncio.timeout(within_s):
                await connection.close()
    except TimeoutError:
        pass
    finally:
        connection.transport.abort()
        await connection.wait_closed()
