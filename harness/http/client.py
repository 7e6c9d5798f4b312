"""
One request and its answer, on a connection of its own.

Whoever asks bounds the time: `async with asyncio.timeout(...)` around it. However it ends, its
connection is gone afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import h11

from harness.address import Address
from harness.errors import InvalidValue

__all__ = ["Answer", "AnswerTooLarge", "exchange"]

_READ_BYTES: Final = 64 * 1024
_AGENT: Final = "ws-harness"


@dataclass(frozen=True)
class Answer:
    """
    One answer, whole.

    Attributes:
        status: 200 to 599.
        headers: By name in lower case; of those that came more than once the last.
        body: b"" where there is none.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class AnswerTooLarge(ConnectionError):
    """An answer that was longer than whoever asked would have."""


def _unnoticed() -> None:
    """Nobody wants to know when the request leaves."""


async def exchange(
    address: Address,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    max_bytes: int,
    leaving: Callable[[], None] = _unnoticed,
) -> Answer:
    """
    Ask once.

    Args:
        address: Where to.
        method: In capitals.
        path: Path and query, quoted.
        headers: On top of host, agent and length; their values are sent as UTF-8.
        body: What is sent after the headers.
        max_bytes: The largest body of an answer.
        leaving: Called before the first byte of the request leaves. As long as it was not, the
            server certainly knows nothing of the request, however this ends; afterwards it may.

    Raises:
        InvalidValue: If method, path or a header cannot be sent; nothing was.
        AnswerTooLarge: If the answer is larger than `max_bytes`.
        OSError: If no connection came about, or it was lost, or what came is no HTTP.
    """
    http = h11.Connection(h11.CLIENT)
    data = _request(http, address, method, path, headers or {}, body)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        leaving()
        writer.write(data)
        return await _answer(http, reader, max_bytes)
    except h11.RemoteProtocolError as wrong:
        raise ConnectionError(str(wrong)) from None
    finally:
        # Not close(): it would wait for a server that does not read.
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _request(
    http: h11.Connection,
    address: Address,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
) -> bytes:
    texts = [
        ("Host", str(address)),
        ("User-Agent", _AGENT),
        *headers.items(),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    try:
        whole = [(name.encode("ascii"), text.encode()) for name, text in texts]
        data = http.send(h11.Request(method=method, target=path, headers=whole)) or b""
    except (h11.LocalProtocolError, UnicodeEncodeError) as wrong:
        raise InvalidValue(f"{method} {path}: this request cannot be sent: {wrong}") from None
    data += http.send(h11.Data(data=body)) or b""
    return data + (http.send(h11.EndOfMessage()) or b"")


async def _answer(http: h11.Connection, reader: asyncio.StreamReader, max_bytes: int) -> Answer:
    head: h11.Response | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > max_bytes:
                raise AnswerTooLarge("the answer does not end")
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode("ascii"): text.decode("latin-1") for name, text in head.headers}
            return Answer(head.status_code, headers, bytes(body))
        elif not isinstance(event, h11.InformationalResponse):
            raise ConnectionError("the server closed before it answered")
