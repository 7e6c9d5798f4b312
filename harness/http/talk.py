"""
One connection of a server: its requests, one after the other.

Each wait of it has a bound in `Options`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus
from typing import Final

import h11

from harness.http.messages import TEXT, Header, Options, Request, Response, Stream

__all__ = ["Handle", "Talk"]

Handle = Callable[[Request], Awaitable[Response | Stream]]
"""
Answers one request. It is not told when its peer leaves, so what it began it finishes; it is
cancelled when it takes too long, or when the server is closed.
"""

_READ_BYTES: Final = 64 * 1024
_MAX_HEAD_BYTES: Final = 64 * 1024
_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}

_log = logging.getLogger(__name__)


class Talk:
    """One connection: its requests, one after the other."""

    def __init__(
        self,
        handle: Handle,
        options: Options,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._handle = handle
        self._options = options
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)

    async def converse(self) -> None:
        """Answer until either side ends it."""
        try:
            while await self._exchange():
                self._http.start_next_cycle()
            if self._http.their_state is not h11.DONE:
                await self._linger()
            self._writer.close()
            async with asyncio.timeout(self._options.write_timeout_s):
                await self._writer.wait_closed()
        except OSError:
            # Half a request, or nobody left who reads the answer: this connection only.
            pass
        finally:
            self._writer.transport.abort()

    async def _linger(self) -> None:
        """Say that nothing more will come, and wait for the other side to say so too."""
        if self._writer.transport.is_closing():
            return
        self._writer.write_eof()
        try:
            async with asyncio.timeout(self._options.linger_s):
                await self._until_it_left()
        except TimeoutError:
            pass

    async def _until_it_left(self) -> None:
        """Throw away what comes until the peer says that it sends no more."""
        while await self._reader.read(_READ_BYTES):
            pass

    async def _exchange(self) -> bool:
        """Answer one request. Returns whether another may follow."""
        http, options = self._http, self._options
        try:
            request, too_large = await self._read()
        except h11.RemoteProtocolError as wrong:
            if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                plain = Response(wrong.error_status_hint, f"{wrong}\n".encode(), TEXT)
                await self._write("", plain)
            return False
        if request is None:
            return False
        answer: Response | Stream
        if options.refuse_browsers and request.headers.get("user-agent", "").startswith("Mozilla/"):
            answer = Response(403, b"User agent not allowed\n", TEXT)
        elif too_large:
            answer = Response(413, b"request body too large\n", TEXT)
        else:
            answer = await self._answer(request)
        _log.debug("%s: %s %s: %d", options.name, request.method, request.target, answer.status)
        if isinstance(answer, Stream):
            await self._pour(request.method, answer)
        else:
            await self._write(request.method, answer)
        return http.our_state is h11.DONE and http.their_state is h11.DONE

    async def _answer(self, request: Request) -> Response | Stream:
        options = self._options
        try:
            async with asyncio.timeout(options.answer_timeout_s) as bound:
                return await self._handle(request)
        except Exception as failure:  # noqa: BLE001
            if bound.expired():
                return options.failed(503, f"no answer within {options.answer_timeout_s:g} s")
            # A mistake of ours in one request must not take the other requests' server away.
            _log.exception("%s: %s %s failed", options.name, request.method, request.target)
            return options.failed(500, f"internal error: {failure!r}")

    async def _read(self) -> tuple[Request | None, bool]:
        """The next request, none at the end; and whether its body is too large, and left out."""
        http, options = self._http, self._options
        loop = asyncio.get_running_loop()
        head: h11.Request | None = None
        body = bytearray()
        started = http.trailing_data[0] != b""
        deadline = loop.time() + (options.read_timeout_s if started else options.idle_timeout_s)
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                if http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    self._writer.write(http.send(go_on) or b"")
                async with asyncio.timeout_at(deadline):
                    http.receive_data(await self._reader.read(_READ_BYTES))
                if not started:
                    started = True
                    deadline = loop.time() + options.read_timeout_s
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > options.max_body_bytes:
                    return _request(head, b""), True
            elif isinstance(event, h11.EndOfMessage):
                return _request(head, bytes(body)), False
            else:
                return None, False

    async def _write(self, method: str, answer: Response) -> None:
        headers = list(self._options.every_answer())
        if answer.content_type is not None:
            headers.append(("Content-Type", answer.content_type))
        if answer.status != 204:
            headers.append(("Content-Length", str(len(answer.body))))
        data = self._head(answer.status, [*headers, *answer.headers])
        if method != "HEAD" and answer.body:
            data += self._http.send(h11.Data(data=answer.body)) or b""
        await self._send(data + (self._http.send(h11.EndOfMessage()) or b""))

    async def _pour(self, method: str, answer: Stream) -> None:
        """Write a stream to its end, or until nobody reads it any more."""
        loop = asyncio.get_running_loop()
        headers = [*self._options.every_answer(), ("Content-Type", answer.content_type)]
        head = self._head(answer.status, [*headers, ("Connection", "close")])
        pouring = loop.create_task(self._pour_chunks(head, answer, empty=method == "HEAD"))
        leaving = loop.create_task(self._until_it_left())
        try:
            await asyncio.wait((pouring, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pouring, leaving):
                task.cancel()
            poured, left = await asyncio.gather(pouring, leaving, return_exceptions=True)
        if isinstance(left, OSError):
            raise left
        if isinstance(poured, asyncio.CancelledError):
            raise ConnectionAbortedError("the peer left")
        if poured is not None:
            raise poured

    async def _pour_chunks(self, head: bytes, answer: Stream, *, empty: bool) -> None:
        async with aclosing(answer.chunks) as chunks:
            await self._send(head)
            if not empty:
                async for chunk in chunks:
                    await self._send(self._http.send(h11.Data(data=chunk)) or b"")
        await self._send(self._http.send(h11.EndOfMessage()) or b"")

    def _head(self, status: int, headers: list[Header]) -> bytes:
        if status >= 400:
            headers = [*headers, ("X-Content-Type-Options", "nosniff")]
        head = h11.Response(status_code=status, headers=headers, reason=_PHRASES.get(status, b""))
        return self._http.send(head) or b""

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        async with asyncio.timeout(self._options.write_timeout_s):
            await self._writer.drain()


def _request(head: h11.Request | None, body: bytes) -> Request:
    assert head is not None
    headers: dict[str, str] = {}
    for raw, value in head.headers:
        name, text = raw.decode("ascii"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return Request(head.method.decode(), head.target.decode("ascii", "replace"), headers, body)
