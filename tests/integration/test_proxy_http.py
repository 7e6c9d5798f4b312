"""HTTP as it should not be: half, junk, too large, too slow. Others are served meanwhile."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.integration.proxy_process import (
    BOUND_S,
    Http,
    ProxyServer,
    eventually,
    proxy_process,
    read_all,
)

REQUEST = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
VERSION = b'{"version": "2.12.0"}\n'


@pytest.fixture
def hasty() -> Iterator[ProxyServer]:
    """A proxy that waits a quarter of a second where others wait many."""
    shorten = "\n".join(
        f"import harness.proxy.server as s; s.{name} = 0.25"
        for name in ("_READ_TIMEOUT_S", "_IDLE_TIMEOUT_S", "_WRITE_TIMEOUT_S")
    )
    with proxy_process(prepare=shorten) as server:
        yield server


@pytest.fixture
def unread() -> Iterator[ProxyServer]:
    """A proxy that waits two seconds until somebody takes its answer."""
    shorten = "import harness.proxy.server as s; s._WRITE_TIMEOUT_S = 2"
    with proxy_process(prepare=shorten) as server:
        yield server


@pytest.fixture
def broken() -> Iterator[ProxyServer]:
    """A proxy whose list of proxies has a fault of ours in it."""
    prepare = (
        "import harness.proxy.api as a, logging; logging.disable()\n"
        "a.proxy_json = lambda proxy: proxy.nonsense"
    )
    with proxy_process(prepare=prepare) as server:
        yield server


def statuses(answers: bytes) -> list[int]:
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(
    "half",
    [
        b"G",
        b"GET /version HTTP/1.1\r\nHost:",
        b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
        b"POST /proxies HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
)
def test_half_a_request_holds_up_nobody(api: Http, half: bytes):
    """While it hangs, others are answered; when its end comes it is refused and closed."""
    with api.dial() as connection:
        connection.sendall(half)
        assert api.call("GET", "/version").status == 200

        connection.shutdown(socket.SHUT_WR)
        assert statuses(read_all(connection)) == [400]
    assert api.call("GET", "/proxies").json == {}


@pytest.mark.parametrize("half", [b"", b"GET /version HTTP/1.1\r\nHost:"])
def test_a_connection_on_which_nothing_comes_is_closed(hasty: ProxyServer, half: bytes):
    """A request has so long to arrive, an idle connection to bring one."""
    with hasty.http.dial() as connection:
        connection.sendall(half)
        assert read_all(connection) == b""


def test_a_request_that_trickles_is_closed(hasty: ProxyServer):
    """The bound is for the whole request: a byte now and then does not extend it."""
    with hasty.http.dial() as connection:
        connection.settimeout(0.05)

        assert any(closed_after(connection, b"x") for _ in range(200))


def closed_after(connection: socket.socket, data: bytes) -> bool:
    """Send; whether the other side has closed by the time the socket's timeout is over."""
    try:
        connection.sendall(data)
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


async def test_a_reader_that_never_reads_is_given_up(unread: ProxyServer):
    """An answer that nobody takes does not keep its connection for ever."""
    http, before = unread.http, unread.descriptors()
    name = "n" * 500_000
    for number in range(12):
        body = {"name": f"{number}{name}", "upstream": "127.0.0.1:1", "enabled": False}
        assert http.call("POST", "/proxies", body).status == 201

    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(http.address)
        lazy.sendall(b"GET /proxies HTTP/1.1\r\nHost: x\r\n\r\n")
        assert lazy.recv(9) == b"HTTP/1.1 "

        async def descriptors() -> int:
            return unread.descriptors()

        await eventually(descriptors, lambda count: count == before)


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"\x00" * 100,
        b"hello\r\n\r\n",
        b"GET /version\r\n\r\n",
        b"GET /version HTTP/1.1\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"GET /ver sion HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /proxies HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        pytest.param(
            b"GET /version HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
            id="headers without end",
        ),
    ],
)
def test_junk_is_refused(api: Http, junk: bytes):
    """4xx and the end; the next one is served."""
    (status,) = statuses(api.raw(junk))

    assert 400 <= status < 500
    assert api.call("GET", "/version").body == VERSION


def test_a_body_that_is_too_large_is_refused(api: Http):
    """413, and the answer arrives although the client is still sending."""
    reply = api.call("POST", "/proxies", b"x" * (20 << 20))

    assert (reply.status, reply.body) == (413, b"request body too large\n")
    assert api.call("GET", "/version").status == 200


def test_a_large_body_that_is_allowed_is_read(api: Http):
    """Half a megabyte of name is odd and legal."""
    body = {"name": "n" * 500_000, "upstream": "127.0.0.1:1"}

    assert api.call("POST", "/proxies", body).status == 201


def test_requests_follow_each_other_on_one_connection(api: Http):
    """Keep-alive: the connection stays for the next request."""
    with api.dial() as connection:
        for _ in range(3):
            connection.sendall(REQUEST)
            answer = b""
            while not answer.endswith(VERSION):
                part = connection.recv(1 << 16)
                assert part
                answer += part
            assert statuses(answer) == [200]


def test_pipelined_requests_are_answered_in_order(api: Http):
    """Three in one packet, the last cut in two."""
    create = json.dumps({"name": "edge", "upstream": "127.0.0.1:1"}).encode()
    post = b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
    show = b"GET /proxies/edge HTTP/1.1\r\nHost: x\r\n\r\n"
    with api.dial() as connection:
        connection.sendall(REQUEST + post % (len(create), create) + show[:20])
        connection.sendall(show[20:])
        connection.shutdown(socket.SHUT_WR)

        assert statuses(read_all(connection)) == [200, 201, 200]


def test_a_connection_is_closed_when_its_client_asks_for_it(api: Http):
    """One answer, then the end, without the client ending first."""
    with api.dial() as connection:
        connection.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

        assert read_all(connection).endswith(VERSION)


def test_http_1_0_is_answered(api: Http):
    """Without Host, closed after the answer."""
    assert api.raw(b"GET /version HTTP/1.0\r\n\r\n").endswith(VERSION)


def test_a_chunked_body_is_read(api: Http):
    """As Go's client sends it when it does not know the length."""
    body = json.dumps({"name": "edge", "upstream": "127.0.0.1:1"}).encode()
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    request = b"POST /proxies HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    assert statuses(api.raw(request + chunks)) == [201]


def test_a_client_that_asks_before_it_sends_its_body_is_told_to(api: Http):
    """`Expect: 100-continue`, as curl sends with larger bodies."""
    body = json.dumps({"name": "edge", "upstream": "127.0.0.1:1"}).encode()
    with api.dial() as connection:
        connection.sendall(
            b"POST /proxies HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        assert statuses(connection.recv(1 << 16)) == [100]

        connection.sendall(body)
        connection.shutdown(socket.SHUT_WR)
        assert statuses(read_all(connection)) == [201]


def test_every_answer_has_a_request_id_of_its_own(api: Http):
    """Twenty characters, as Toxiproxy's."""
    ids = {api.call("GET", "/version").headers["x-toxiproxy-request-id"] for _ in range(3)}

    assert len(ids) == 3
    assert {len(number) for number in ids} == {20}


def test_a_fault_of_our_own_is_answered_500(broken: ProxyServer):
    """The request that met it is told, the next one is served, on the same connection too."""
    http = broken.http
    body = {"name": "edge", "upstream": "127.0.0.1:1", "enabled": False}
    assert http.call("POST", "/proxies", body).status == 500

    answers = http.raw(b"GET /proxies HTTP/1.1\r\nHost: x\r\n\r\n" + REQUEST)

    assert statuses(answers) == [500, 200]
    assert b"internal error" in answers


async def test_connections_to_the_api_leave_nothing(proxy_server: ProxyServer):
    """Whole requests, half ones and junk: every descriptor comes back."""
    http = proxy_server.http
    before = proxy_server.descriptors()
    for _ in range(30):
        http.call("GET", "/version")
        http.raw(b"junk\r\n\r\n")
        with http.dial() as connection:
            connection.settimeout(BOUND_S)
            connection.sendall(b"GET /ver")

    async def descriptors() -> int:
        return proxy_server.descriptors()

    await eventually(descriptors, lambda count: count == before)
