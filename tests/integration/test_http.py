"""The HTTP server and client that our programs share, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from harness.address import Address
from harness.errors import InvalidValue
from harness.http.client import Answer, AnswerTooLarge, exchange
from harness.http.messages import Options, Request, Response, Stream
from harness.http.server import listen
from harness.proxy.ports import Reservation
from tests.integration.wire import BOUND_S, End, Upstream

PLAIN = Options()
HASTY = Options(idle_timeout_s=0.25, read_timeout_s=0.25, write_timeout_s=0.25)


class Site:
    """A server of made-up paths."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.closed = asyncio.Event()
        self.go_on = asyncio.Event()

    async def handle(self, request: Request) -> Response | Stream:
        self.requests.append(request)
        paths: dict[str, Callable[[], Awaitable[Response] | Stream]] = {
            "/few": lambda: Stream(200, "text/x-few", self._few()),
            "/quiet": lambda: Stream(200, "text/x-quiet", self._quiet()),
            "/flood": lambda: Stream(200, "text/x-flood", self._flood()),
            "/broken": lambda: Stream(200, "text/x-broken", self._broken()),
            "/late": self._late,
        }
        made = paths[request.path]() if request.path in paths else None
        if isinstance(made, Stream):
            return made
        if made is not None:
            return await made
        status = int(request.query.get("status", "200"))
        return Response(status, request.path.encode(), "text/plain", (("X-Own", "a"),))

    async def _late(self) -> Response:
        await self.go_on.wait()
        raise TimeoutError("the handler's own")

    async def _few(self) -> AsyncGenerator[bytes, None]:
        for n in range(3):
            yield b"%d\n" % n

    async def _quiet(self) -> AsyncGenerator[bytes, None]:
        try:
            yield b"first\n"
            await self.go_on.wait()
            yield b"last\n"
        finally:
            self.closed.set()

    async def _flood(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            self.closed.set()

    async def _broken(self) -> AsyncGenerator[bytes, None]:
        yield b"first\n"
        raise LookupError("a mistake of ours")


@pytest.fixture
def site() -> Site:
    return Site()


@asynccontextmanager
async def served(site: Site, options: Options = PLAIN) -> AsyncIterator[Address]:
    listening = await listen(site.handle, "127.0.0.1", 0, options=options)
    try:
        async with asyncio.timeout(BOUND_S):
            yield Address(listening.host, listening.port)
    finally:
        await listening.close()


async def ask(address: Address, path: str, *, method: str = "GET", **headers: str) -> Answer:
    return await exchange(address, method, path, headers=headers, max_bytes=1 << 20)


@asynccontextmanager
async def dialled(address: Address, request: bytes) -> AsyncIterator[End]:
    """A connection on which this was sent; broken off at the end."""
    end = End(*await asyncio.open_connection(address.host, address.port, limit=4096))
    try:
        end.writer.write(request)
        yield end
    finally:
        end.writer.transport.abort()


def get(path: str, version: str = "1.1") -> bytes:
    return f"GET {path} HTTP/{version}\r\nHost: x\r\n\r\n".encode()


async def test_a_request_arrives_whole_and_so_does_its_answer(site: Site):
    """
    Path, query, headers and body there; status, headers and body here.
    """
    async with served(site) as address:
        answer = await exchange(
            address,
            "PUT",
            "/a%20b?status=599&x=1&x=2",
            headers={"X-Odd": "ü"},
            body=b"{}",
            max_bytes=10,
        )

    (request,) = site.requests
    assert (request.method, request.path, request.body) == ("PUT", "/a%20b", b"{}")
    assert request.query == {"status": "599", "x": "2"}
    assert request.headers["x-odd"].encode("latin-1").decode() == "ü"
    assert request.headers["host"] == str(address)
    assert (answer.status, answer.body) == (599, b"/a%20b")
    assert (answer.headers["x-own"], answer.headers["content-type"]) == ("a", "text/plain")


async def test_headers_that_come_twice_are_joined(site: Site):
    """
    Neither is lost, so that a second Authorization cannot stand in for the first.
    """
    async with (
        served(site) as address,
        dialled(address, b"GET / HTTP/1.0\r\nA: 1\r\nA: 2\r\n\r\n") as end,
    ):
        assert await end.ending() == "fin"

    assert site.requests[0].headers["a"] == "1, 2"


async def test_a_stream_arrives_whole_and_its_connection_ends(site: Site):
    """
    In chunks, one for each piece; without them for HTTP/1.0; without a body for HEAD.
    """
    async with served(site) as address:
        answer = await ask(address, "/few")
        async with dialled(address, get("/few")) as end:
            raw = await end.reader.read(1 << 16)
            assert await end.ending() == "fin"
        async with dialled(address, get("/few", "1.0")) as end:
            old = await end.reader.read(1 << 16)
            assert await end.ending() == "fin"
        head = await ask(address, "/few", method="HEAD")

    assert (answer.body, answer.headers["content-type"]) == (b"0\n1\n2\n", "text/x-few")
    assert raw.endswith(b"\r\n\r\n2\r\n0\n\r\n2\r\n1\n\r\n2\r\n2\n\r\n0\r\n\r\n")
    assert old.endswith(b"\r\n\r\n0\n1\n2\n")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_stream_ends_when_its_peer_leaves(site: Site, how: str):
    """
    Also where there is nothing to write just then: the generator is closed.
    """
    async with served(site) as address, dialled(address, get("/quiet")) as end:
        await end.reader.readuntil(b"first\n")
        if how == "reset":
            end.reset()
        else:
            end.writer.write_eof()

        await site.closed.wait()


async def test_what_a_peer_says_during_a_stream_is_not_listened_to(site: Site):
    """
    A second request on the same connection is thrown away; the stream goes on.
    """
    async with served(site) as address, dialled(address, get("/quiet")) as end:
        await end.reader.readuntil(b"first\n")
        await end.send(get("/") * 1000)
        site.go_on.set()

        assert (await end.reader.read()).endswith(b"5\r\nlast\n\r\n0\r\n\r\n")
    assert [request.path for request in site.requests] == ["/quiet"]


async def test_a_slow_reader_of_a_stream_is_dropped_and_nobody_else(site: Site):
    """
    It is cut off after the write time-out; one that reads, and who asks meanwhile, is served.
    """
    async with served(site, HASTY) as address:
        quiet = Site()
        async with served(quiet, HASTY) as other, dialled(other, get("/quiet")) as reader:
            lazy = socket.socket()
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect((address.host, address.port))
            lazy.sendall(get("/flood"))
            await site.closed.wait()
            lazy.close()

            assert (await ask(address, "/still")).body == b"/still"
            quiet.go_on.set()
            assert (await reader.reader.read()).endswith(b"0\r\n\r\n")


async def test_a_stream_that_fails_is_seen_to_be_cut(site: Site, caplog: pytest.LogCaptureFixture):
    """
    No end is written that would make half of it pass for the whole; the log says why.
    """
    async with served(site) as address:
        with pytest.raises(ConnectionError):
            await ask(address, "/broken")
        assert (await ask(address, "/still")).status == 200

    assert "a mistake of ours" in caplog.text


async def test_an_answer_that_takes_too_long_is_503_and_a_mistake_of_ours_500(
    site: Site, caplog: pytest.LogCaptureFixture
):
    """
    A time-out of the handler's own is a mistake, not the server's bound.
    """
    async with served(site, Options(answer_timeout_s=0.05)) as address:
        late = await ask(address, "/late")
        site.go_on.set()
        wrong = await ask(address, "/late")

    assert (late.status, late.body) == (503, b"no answer within 0.05 s\n")
    assert (wrong.status, b"the handler's own" in wrong.body) == (500, True)
    assert "http: GET /late failed" in caplog.text


async def test_browsers_are_refused_where_that_is_asked_for(site: Site):
    """
    And served elsewhere.
    """
    agent = b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: Mozilla/5.0\r\nConnection: close\r\n\r\n"
    statuses = []
    for refuse in (False, True):
        async with (
            served(site, Options(refuse_browsers=refuse)) as address,
            dialled(address, agent) as end,
        ):
            statuses.append((await end.reader.read())[9:12])

    assert statuses == [b"200", b"403"]


async def test_a_closed_server_has_cut_everybody_off(site: Site):
    """
    Idle connections, running answers and streams; its port is free again.
    """
    listening = await listen(site.handle, "127.0.0.1", 0)
    address = Address(listening.host, listening.port)
    async with (
        asyncio.timeout(BOUND_S),
        dialled(address, b"") as idle,
        dialled(address, get("/late")) as waiting,
        dialled(address, get("/quiet")) as streaming,
    ):
        await streaming.reader.readuntil(b"first\n")
        # The kernel accepts before the server does.
        while len(site.requests) < 2:
            await asyncio.sleep(0)
        await listening.close()

        assert site.closed.is_set()
        for end in (idle, waiting, streaming):
            assert await end.ending() in ("fin", "reset")
        with pytest.raises(ConnectionRefusedError):
            await ask(address, "/")


# ---- the client


async def told(address: Address, *, timeout_s: float = BOUND_S) -> tuple[BaseException, bool]:
    """How a request to there fails, and whether it was told that it leaves."""
    left = False

    def leaving() -> None:
        nonlocal left
        left = True

    with pytest.raises((OSError, InvalidValue)) as failed:
        async with asyncio.timeout(timeout_s):
            await exchange(address, "GET", "/", max_bytes=10, leaving=leaving)
    return failed.value, left


async def test_a_refused_connection_leaves_nothing():
    """
    The caller is not told that its request leaves.
    """
    port = Reservation("127.0.0.1")
    error, left = await told(port.address)
    port.close()

    assert (type(error), left) == (ConnectionRefusedError, False)


async def test_a_connection_that_never_comes_about_leaves_nothing():
    """
    A listener whose queue is full answers no SYN; the caller's bound ends the wait.
    """
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    address = Address(*full.getsockname())
    fillers = [socket.socket() for _ in range(2)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex((address.host, address.port))

    error, left = await told(address, timeout_s=0.2)

    for each in (*fillers, full):
        each.close()
    assert (type(error), left) == (TimeoutError, False)


@pytest.mark.parametrize("how", ["reset", "fin", "silence", "junk", "half"])
async def test_a_request_that_left_may_have_arrived(upstream: Upstream, how: str):
    """
    However its answer is lost, the caller knows that the request was on its way.
    """
    asking = asyncio.create_task(
        told(Address.parse(upstream.address), timeout_s=0.3 if how == "silence" else BOUND_S)
    )
    end = await upstream.accepted()
    await end.receive(10)
    match how:
        case "reset":
            end.reset()
        case "fin":
            end.close()
        case "junk":
            await end.send(b"SSH-2.0\r\n\r\n")
        case "half":
            await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12")
            end.close()
    error, left = await asking

    expected = {"reset": ConnectionResetError, "silence": TimeoutError}
    assert (type(error), left) == (expected.get(how, ConnectionError), True)


async def test_an_answer_that_is_too_large_is_not_kept(site: Site):
    """
    It says so by its class: asking again would bring the same.
    """
    async with served(site) as address:
        with pytest.raises(AnswerTooLarge):
            await exchange(address, "GET", "/eleven-bytes", max_bytes=10)


async def test_what_is_said_before_the_answer_is_not_the_answer(upstream: Upstream):
    """
    Informational responses may precede it.
    """
    asking = asyncio.create_task(ask(Address.parse(upstream.address), "/"))
    end = await upstream.accepted()
    await end.receive(10)
    await end.send(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")

    assert (await asking).status == 204


@pytest.mark.parametrize(
    ("path", "headers"), [("/a b", {}), ("/ü", {}), ("/", {"X": "a\r\nB: c"}), ("/", {"": "a"})]
)
async def test_what_cannot_be_sent_is_refused_before_anybody_is_asked(
    path: str, headers: dict[str, str]
):
    """
    Nothing listens there, and nobody notices.
    """
    with pytest.raises(InvalidValue, match="cannot be sent"):
        await exchange(Address("127.0.0.1", 1), "GET", path, headers=headers, max_bytes=1)


async def test_a_cancelled_request_takes_its_connection_along(upstream: Upstream):
    """
    The server sees the end of it at once.
    """
    asking = asyncio.create_task(ask(Address.parse(upstream.address), "/"))
    end = await upstream.accepted()
    await end.receive(10)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert await end.ending() in ("fin", "reset")
