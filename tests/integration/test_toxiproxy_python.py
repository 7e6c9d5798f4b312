"""
The client `toxiproxy-python`, unchanged, drives our proxy.

It blocks, so what it is tested against runs in threads. Its host and port are class-wide,
so a process drives one server at a time.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import warnings
from collections.abc import Iterator

import pytest

from harness.clock import now
from tests.integration.proxy_process import BOUND_S, ProxyServer
from tests.integration.wire import MS

with warnings.catch_warnings():
    # `future`, which it is built on, imports modules that Python is about to drop.
    warnings.simplefilter("ignore", DeprecationWarning)
    from toxiproxy import Toxiproxy
    from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists
    from toxiproxy.proxy import Proxy


@pytest.fixture
def toxiproxy(proxy_server: ProxyServer) -> Toxiproxy:
    """The client, pointed at our server."""
    client = Toxiproxy()
    client.update_api_consumer(*proxy_server.http.address)
    return client


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(1 << 16):
                self.request.sendall(data)


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = False
    request_queue_size = 64


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of an echo server that runs in threads."""
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield "{}:{}".format(*server.server_address)
        server.shutdown()
        thread.join(BOUND_S)


@pytest.fixture
def edge(toxiproxy: Toxiproxy, echo: str) -> Proxy:
    """A proxy before the echo server."""
    return toxiproxy.create(name="edge", upstream=echo)


def dial(proxy: Proxy) -> socket.socket:
    host, _, port = proxy.listen.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=BOUND_S)


def echoed(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return connection.recv(len(data))


def test_it_finds_the_server_running(toxiproxy: Toxiproxy):
    """Version as raw bytes, as this client has it."""
    assert toxiproxy.running()
    assert toxiproxy.version() == b'{"version": "2.12.0"}\n'


def test_it_creates_and_finds_proxies(toxiproxy: Toxiproxy, edge: Proxy, echo: str):
    """With all the fields it reads."""
    found = toxiproxy.get_proxy("edge")

    assert (found.name, found.upstream, found.enabled) == ("edge", echo, True)
    assert found.listen == edge.listen
    assert toxiproxy.get_proxy("other") is None
    with dial(found) as connection:
        assert echoed(connection, b"hello") == b"hello"


def test_it_creates_disabled_proxies(toxiproxy: Toxiproxy, echo: str):
    """And enables them."""
    proxy = toxiproxy.create(name="edge", upstream=echo, listen="127.0.0.1:0", enabled=False)
    assert proxy.enabled is False

    proxy.enable()

    with dial(toxiproxy.get_proxy("edge")) as connection:
        assert echoed(connection, b"hello") == b"hello"


def test_it_destroys_proxies(toxiproxy: Toxiproxy, edge: Proxy):
    """One, then all."""
    other = toxiproxy.create(name="other", upstream="127.0.0.1:1")

    assert edge.destroy()
    assert list(toxiproxy.proxies()) == ["other"]
    toxiproxy.destroy_all()
    assert toxiproxy.proxies() == {}
    with pytest.raises(NotFound):
        other.destroy()


def test_it_populates(toxiproxy: Toxiproxy, echo: str):
    """Its populate is made of single calls; what is there already is left alone."""
    wanted = [{"name": name, "upstream": echo, "listen": "127.0.0.1:0"} for name in ("one", "two")]

    assert [proxy.name for proxy in toxiproxy.populate(wanted)] == ["one", "two"]
    same = [
        {"name": proxy.name, "upstream": proxy.upstream, "listen": proxy.listen}
        for proxy in toxiproxy.proxies().values()
    ]
    assert toxiproxy.populate(same) == []


def test_it_adds_lists_and_destroys_toxics(edge: Proxy):
    """Named by it, or by the server's rule."""
    edge.add_toxic(type="latency", attributes={"latency": 5, "jitter": 1})
    edge.add_toxic(name="hole", type="timeout", stream="upstream", toxicity=0.5)

    toxics = edge.toxics()
    assert list(toxics) == ["hole", "latency_downstream"]
    assert toxics["latency_downstream"].attributes == {"latency": 5, "jitter": 1}
    assert (toxics["hole"].stream, toxics["hole"].toxicity) == ("upstream", 0.5)
    assert edge.get_toxic("hole").type == "timeout"
    assert edge.destroy_toxic("hole")
    assert edge.get_toxic("hole") is None


def test_a_latency_bites(edge: Proxy):
    """The echo takes at least as long, and no longer once it is destroyed."""
    edge.add_toxic(type="latency", attributes={"latency": 150})
    with dial(edge) as connection:
        started = now()
        assert echoed(connection, b"slow") == b"slow"
        assert now() - started >= 150 * MS

        edge.destroy_toxic("latency_downstream")
        started = now()
        assert echoed(connection, b"fast") == b"fast"
        assert now() - started < 150 * MS


def test_a_timeout_bites(edge: Proxy):
    """What is sent is gone, and the connection is closed."""
    edge.add_toxic(type="timeout", stream="upstream", attributes={"timeout": 100})
    with dial(edge) as connection:
        assert echoed(connection, b"gone") == b""


def test_down_refuses_and_comes_back(edge: Proxy):
    """Inside the context nobody gets in, and those inside are thrown out."""
    with dial(edge) as connection, edge.down():
        assert connection.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            dial(edge)
    with dial(edge) as connection:
        assert echoed(connection, b"back") == b"back"


def test_it_resets(toxiproxy: Toxiproxy, edge: Proxy):
    """Toxics gone, proxies enabled."""
    edge.add_toxic(type="latency", attributes={"latency": 60_000})
    edge.disable()

    assert toxiproxy.reset()

    assert edge.toxics() == {}
    with dial(edge) as connection:
        assert echoed(connection, b"well") == b"well"


def test_a_conflict_is_its_proxy_exists(toxiproxy: Toxiproxy, edge: Proxy):
    """By its own check for proxies, by our 409 for toxics."""
    with pytest.raises(ProxyExists):
        toxiproxy.create(name="edge", upstream="127.0.0.1:1")
    edge.add_toxic(type="latency")
    with pytest.raises(ProxyExists, match="toxic already exists"):
        edge.add_toxic(type="latency")


def test_what_is_not_there_is_its_not_found(edge: Proxy):
    """A toxic, and a proxy that was destroyed."""
    with pytest.raises(NotFound, match="toxic not found"):
        edge.destroy_toxic("nobody")
    edge.destroy()
    with pytest.raises(NotFound, match="proxy not found"):
        edge.toxics()


@pytest.mark.parametrize(
    "toxic",
    [
        {"type": "nonsense"},
        {"type": "latency", "stream": "sideways"},
        {"type": "latency", "attributes": {"latency": -1}},
    ],
)
def test_a_bad_toxic_is_its_invalid_toxic(edge: Proxy, toxic: dict[str, object]):
    """Any 400 is."""
    with pytest.raises(InvalidToxic):
        edge.add_toxic(**toxic)
    assert edge.toxics() == {}
