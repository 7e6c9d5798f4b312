"""
The proxy as a program: its API over HTTP/1.1 on h11.

The API is not the data path; here plainness counts, there (`relay`) speed does.
"""

from __future__ import annotations

import asyncio
import logging
import secrets

import h11

from harness.address import Address, refuse_remote
from harness.errors import EXIT_VALID, EnvironmentFailed
from harness.program import announce, stop_signal
from harness.proxy.api import Api
from harness.proxy.bodies import Answer

__all__ = ["serve"]

_READ_TIMEOUT_S = 15.0
_ANSWER_TIMEOUT_S = 25.0
_IDLE_TIMEOUT_S = 60.0
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
    except OSError as error:
        raise EnvironmentFailed(
            f"the proxy's API cannot listen on {listen}: {error.strerror or error}",
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
    except (TimeoutError, ConnectionError):
        # Half a request, or nobody left to answer: this connection only.
        pass
    finally:
        writer.close()


async def _exchange(
    api: Api, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Answer one request. Returns whether another may follow."""
    try:
        request, body = await _read(http, reader)
    except h11.RemoteProtocolError as error:
        if http.our_state is h11.IDLE:
            status = error.error_status_hint
            _write(http, writer, "", Answer(status, f"{error}\n".encode(), "text/plain"))
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
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            answer = await api.handle(method, request.target.decode("ascii", "replace"), body)
    _write(http, writer, method, answer)
    await writer.drain()
    _log.debug("proxy: %s %s: %d", method, request.target, answer.status)
    return http.our_state is h11.DONE and http.their_state is h11.DONE


async def _read(
    http: h11.Connection, reader: asyncio.StreamReader
) -> tuple[h11.Request | None, bytes | None]:
    """The next request and its body; no request at the end, no body where it is too large."""
    request: h11.Request | None = None
    body = bytearray()
    bound = _IDLE_TIMEOUT_S
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            async with asyncio.timeout(bound):
                http.receive_data(await reader.read(64 * 1024))
            bound = _READ_TIMEOUT_S
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


def _write(http: h11.Connection, writer: asyncio.StreamWriter, method: str, answer: Answer) -> None:
    headers = [("X-Toxiproxy-Request-Id", secrets.token_hex(10))]
    if answer.content_type is not None:
        headers.append(("Content-Type", answer.content_type))
    if answer.status >= 400:
        headers.append(("X-Content-Type-Options", "nosniff"))
    if answer.status != 204:
        headers.append(("Content-Length", str(len(answer.body))))
    writer.write(http.send(h11.Response(status_code=answer.status, headers=headers)) or b"")
    if method != "HEAD" and answer.body:
        writer.write(http.send(h11.Data(data=answer.body)) or b"")
    writer.write(http.send(h11.EndOfMessage()) or b"")
