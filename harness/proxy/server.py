"""
The proxy as a program: its API over HTTP/1.1 on h11.

The API is not the data path; here plainness counts, there (`relay`) speed does.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from http import HTTPStatus

import h11

from harness.address import Address, refuse_remote
from harness.errors import EXIT_VALID, EnvironmentFailed
from harness.program import announce, stop_signal
from harness.proxy.api import Api
from harness.proxy.bodies import Answer, error
from harness.proxy.ports import reason

__all__ = ["serve"]

# From the first byte of a request to its last.
_READ_TIMEOUT_S = 15.0
_ANSWER_TIMEOUT_S = 25.0
_IDLE_TIMEOUT_S = 60.0
_WRITE_TIMEOUT_S = 30.0
# How long what is left of a refused request is read and thrown away. Closing on unread
# bytes would send a reset, and the reset would overtake the answer.
_LINGER_S = 2.0
_MAX_BODY_BYTES = 1 << 20

_log = logging.getLogger(__name__)


async def serve(listen: Address, *, seed: int, allow_remote: bool = False) -> int:
    """
    Serve the API until SIGTERM or SIGINT, then close every proxy.

    Prints `{"listening": "http://…"}` when it listens.

    Args:
        listen: Where the API listens; port 0 lets the system choose.
        seed: Root seed of jitter and toxicity.
        allow_remote: Whether anything but loopback may be listened on or connected to.

    Returns:
        0.

    Raises:
        TargetRefused: If `listen` is not loopback and remote targets are not allowed.
        EnvironmentFailed: If it cannot listen there.
    """
    refuse_remote(listen, what="the API's address", allow_remote=allow_remote)
    api = Api(seed=seed, allow_remote=allow_remote)
    stop = stop_signal()
    try:
        server = await asyncio.start_server(
            lambda reader, writer: _converse(api, reader, writer), listen.host, listen.port
        )
    except OSError as failure:
        raise EnvironmentFailed(
            f"the proxy's API cannot listen on {listen}: {reason(failure)}",
            [("next", "end what listens there, or give another --port; --port 0 finds a free one")],
        ) from None
    host, port = server.sockets[0].getsockname()[:2]
    announce(f"http://{Address(host, port)}")
    _log.info("proxy: API on %s, seed %d", Address(host, port), seed)
    await stop.wait()
    server.close()
    api.close()
    # One turn of the loop lets the closed sockets go.
    await asyncio.sleep(0)
    return EXIT_VALID


async def _converse(api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection, one after the other."""
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=64 * 1024)
    try:
        while await _exchange(api, http, reader, writer):
            http.start_next_cycle()
        if http.their_state is not h11.DONE:
            await _linger(reader, writer)
        writer.close()
        async with asyncio.timeout(_WRITE_TIMEOUT_S):
            await writer.wait_closed()
    except (OSError, asyncio.CancelledError):
        # Half a request, or nobody left who reads the answer: this connection only. Only
        # the program's end cancels, and asyncio's streams complain of a cancelled task.
        pass
    finally:
        writer.transport.abort()


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say that nothing more will come, and wait for the other side to say so too."""
    if writer.transport.is_closing():
        return
    writer.write_eof()
    try:
        async with asyncio.timeout(_LINGER_S):
            while await reader.read(64 * 1024):
                pass
    except TimeoutError:
        pass


async def _exchange(
    api: Api, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Answer one request. Returns whether another may follow."""
    try:
        request, body = await _read(http, reader, writer)
    except h11.RemoteProtocolError as wrong:
        if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            text = f"{wrong}\n".encode()
            plain = Answer(wrong.error_status_hint, text, "text/plain; charset=utf-8")
            await _write(http, writer, "", plain)
        return False
    if request is None:
        return False
    method = request.method.decode()
    headers = dict(request.headers)
    if headers.get(b"user-agent", b"").startswith(b"Mozilla/"):
        # A web page must not be able to drive the proxy through its reader's browser.
        answer = Answer(403, b"User agent not allowed\n", "text/plain; charset=utf-8")
    elif body is None:
        answer = Answer(413, b"request body too large\n", "text/plain; charset=utf-8")
    else:
        answer = await _answer(api, method, request.target.decode("ascii", "replace"), body)
    await _write(http, writer, method, answer)
    _log.debug("proxy: %s %s: %d", method, request.target, answer.status)
    return http.our_state is h11.DONE and http.their_state is h11.DONE


async def _answer(api: Api, method: str, target: str, body: bytes) -> Answer:
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            return await api.handle(method, target, body)
    except TimeoutError:
        return error(503, f"no answer within {_ANSWER_TIMEOUT_S:g} s")
    except Exception as failure:  # noqa: BLE001
        # A mistake of ours in one request must not take the other requests' server away.
        _log.exception("proxy: %s %s failed", method, target)
        return error(500, f"internal error: {failure!r}")


async def _read(
    http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[h11.Request | None, bytes | None]:
    """The next request and its body; no request at the end, no body where it is too large."""
    loop = asyncio.get_running_loop()
    request: h11.Request | None = None
    body = bytearray()
    started = http.trailing_data[0] != b""
    deadline = loop.time() + (_READ_TIMEOUT_S if started else _IDLE_TIMEOUT_S)
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            if http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                writer.write(http.send(go_on) or b"")
            async with asyncio.timeout_at(deadline):
                http.receive_data(await reader.read(64 * 1024))
            if not started:
                started = True
                deadline = loop.time() + _READ_TIMEOUT_S
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _MAX_BODY_BYTES:
                return request, None
        elif isinstance(event, h11.EndOfMessage):
            return request, bytes(body)
        else:
            return None, None


async def _write(
    http: h11.Connection, writer: asyncio.StreamWriter, method: str, answer: Answer
) -> None:
    headers = [("X-Toxiproxy-Request-Id", secrets.token_hex(10))]
    if answer.content_type is not None:
        headers.append(("Content-Type", answer.content_type))
    if answer.status >= 400:
        headers.append(("X-Content-Type-Options", "nosniff"))
    if answer.status != 204:
        headers.append(("Content-Length", str(len(answer.body))))
    reason = HTTPStatus(answer.status).phrase
    data = http.send(
        h11.Response(status_code=answer.status, headers=headers, reason=reason.encode())
    )
    assert data is not None
    if method != "HEAD" and answer.body:
        data += http.send(h11.Data(data=answer.body)) or b""
    writer.write(data + (http.send(h11.EndOfMessage()) or b""))
    async with asyncio.timeout(_WRITE_TIMEOUT_S):
        await writer.drain()
