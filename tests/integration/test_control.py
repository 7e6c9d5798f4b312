"""The one client of the API: every method, every way in which a server can fail it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from harness.clock import now
from harness.errors import ProxyError
from harness.faults.latency import Latency
from harness.faults.timeout import Timeout
from harness.proxy.control import Control
from harness.proxy.ports import Reservation
from tests.integration.proxy_process import ProxyServer, proxy_process
from tests.integration.wire import Upstream

UP = "127.0.0.1:1"
SLOW = Latency(stream="upstream", latency_ms=5, jitter_ms=1, toxicity=0.5)

CALLS: dict[str, Callable[[Control], Awaitable[object]]] = {
    "version": lambda control: control.version(),
    "about": lambda control: control.about(),
    "proxies": lambda control: control.proxies(),
    "create": lambda control: control.create("edge", upstream=UP),
    "proxy": lambda control: control.proxy("edge"),
    "update": lambda control: control.update("edge", enabled=False),
    "delete": lambda control: control.delete("edge"),
    "toxics": lambda control: control.toxics("edge"),
    "add_toxic": lambda control: control.add_toxic("edge", SLOW, name="slow"),
    "change_toxic": lambda control: control.change_toxic("edge", SLOW, name="slow"),
    "remove_toxic": lambda control: control.remove_toxic("edge", "slow"),
    "reset": lambda control: control.reset(),
    "events": lambda control: control.events(),
}

every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture
def control(proxy_server: ProxyServer) -> Control:
    return proxy_server.control


def test_every_method_is_in_the_table():
    """What is added to the client is held to the same bounds."""
    public = {name for name, member in vars(Control).items() if callable(member)}

    assert {name for name in public if not name.startswith("_")} == set(CALLS)


async def test_it_tells_version_and_who_answers(control: Control, proxy_server: ProxyServer):
    """The version is the one of the API."""
    assert await control.version() == "2.12.0"
    assert (await control.about()).pid == proxy_server.process.pid


async def test_it_creates_shows_and_deletes_proxies(control: Control):
    """Each answer is the state the server then has."""
    state = await control.create("edge", upstream=UP)

    assert (state.name, state.upstream, state.enabled, state.toxics) == ("edge", UP, True, [])
    assert await control.proxy("edge") == state
    assert await control.proxies() == {"edge": state}
    await control.delete("edge")
    assert await control.proxies() == {}


async def test_it_creates_disabled_proxies_where_it_is_told(control: Control):
    """Listen address and state as given."""
    state = await control.create("edge", upstream=UP, listen="127.0.0.1:9", enabled=False)

    assert (state.listen, state.enabled) == ("127.0.0.1:9", False)


async def test_it_creates_proxies_with_a_seed_of_their_own(control: Control):
    """The state carries it, wherever it is read."""
    state = await control.create("edge", upstream=UP, seed=11)

    assert state.seed == 11
    assert (await control.proxy("edge")).seed == 11
    assert (await control.update("edge", enabled=False)).seed == 11


async def test_a_proxy_without_a_seed_of_its_own_shows_none(control: Control):
    """As every proxy of a real Toxiproxy does."""
    state = await control.create("edge", upstream=UP)

    assert (state.seed, state.harness) == (None, None)


async def test_it_updates_only_what_is_given(control: Control):
    """The rest keeps its value."""
    state = await control.create("edge", upstream=UP)

    assert (await control.update("edge", upstream="127.0.0.1:2")).listen == state.listen
    assert (await control.update("edge", enabled=False)).upstream == "127.0.0.1:2"
    moved = await control.update("edge", listen="127.0.0.1:0")
    assert (moved.enabled, moved.upstream) == (False, "127.0.0.1:2")


async def test_it_adds_changes_and_removes_toxics(control: Control):
    """The state carries Toxiproxy's names for the attributes."""
    await control.create("edge", upstream=UP)
    state = await control.add_toxic("edge", SLOW, name="slow")

    assert (state.name, state.type, state.stream, state.toxicity) == (
        "slow",
        "latency",
        "upstream",
        0.5,
    )
    assert state.attributes == {"latency": 5, "jitter": 1}
    faster = Latency(stream="upstream", latency_ms=2)
    changed = await control.change_toxic("edge", faster, name="slow")
    assert (changed.attributes, changed.toxicity) == ({"latency": 2, "jitter": 0}, 1)
    assert await control.toxics("edge") == [changed]
    await control.remove_toxic("edge", "slow")
    assert await control.toxics("edge") == []


async def test_it_resets(control: Control):
    """Enabled, and without toxics."""
    await control.create("edge", upstream=UP)
    await control.add_toxic("edge", Timeout(), name="hole")
    await control.update("edge", enabled=False)

    await control.reset()

    state = await control.proxy("edge")
    assert (state.enabled, state.toxics) == (True, [])


async def test_it_reads_events(control: Control):
    """From the number on that it is given."""
    await control.create("edge", upstream=UP)

    assert [event.kind for event in await control.events()] == ["enabled"]
    assert await control.events(since=1) == []


@pytest.mark.parametrize("name", ["a b", "a/b", "ü", "?", "#", "%41", "..", ".", "<&>\"'", "\\"])
async def test_it_quotes_odd_names(control: Control, name: str):
    """The server is asked for exactly that name, of a proxy and of a toxic."""
    await control.create(name, upstream=UP)
    await control.add_toxic(name, SLOW, name=name)

    assert (await control.proxy(name)).name == name
    assert (await control.change_toxic(name, SLOW, name=name)).name == name
    await control.remove_toxic(name, name)
    await control.delete(name)
    assert await control.proxies() == {}


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        (CALLS["proxy"], 404, "proxy not found"),
        (lambda control: control.create("", upstream=UP), 400, "missing required field: name"),
        (lambda control: control.create("here", upstream=UP), 409, "proxy already exists"),
        (lambda control: control.remove_toxic("here", "x"), 404, "toxic not found"),
    ],
)
async def test_a_refusal_carries_status_and_the_servers_words(
    control: Control, call: Callable[[Control], Awaitable[object]], status: int, text: str
):
    """The sentence says which request it was, and the rows where it went."""
    await control.create("here", upstream=UP)

    with pytest.raises(ProxyError) as refused:
        await call(control)

    assert (refused.value.status, refused.value.text) == (status, text)
    assert f"answered {status}: {text}" in refused.value.headline
    assert ("server", control.url) in refused.value.details


@every_call
async def test_nothing_that_listens_is_an_error(call: Callable[[Control], Awaitable[object]]):
    """At once, without a status, with what to do next."""
    port = Reservation("127.0.0.1")
    with pytest.raises(ProxyError) as failed:
        await call(Control(f"http://{port.address}"))
    port.close()

    assert failed.value.status is None
    assert "no answer: " in failed.value.headline
    assert "next" in dict(failed.value.details)


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[Control]:
    """A server that answers this to everything and closes; None: it never answers."""
    never = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            await never.wait()
        else:
            # Closing on unread bytes would reset the connection.
            await reader.read(1 << 16)
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield Control(f"http://{host}:{port}", timeout_s=0.2 if answer is None else 5)
        never.set()


@every_call
async def test_a_server_that_never_answers_is_given_up(
    call: Callable[[Control], Awaitable[object]],
):
    """After the bound, which the sentence names."""
    async with answering(None) as control:
        started = now()
        with pytest.raises(ProxyError, match=r"no answer within 0\.2 s"):
            await call(control)
        assert 0.2 <= now() - started < 2


def http(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


JUNK = {
    "nothing": b"",
    "not http": b"SSH-2.0-OpenSSH_9.6\r\n",
    "half an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
    "html": http(b"200 OK", b"<html>It works!</html>"),
    "other json": http(b"200 OK", b'{"colour": "green"}'),
    "not utf-8": http(b"200 OK", b'{"version": "\xff", "harness": "\xff", "name": "\xff"}'),
    "an empty redirect": http(b"301 Moved Permanently", b""),
    "a redirect": http(b"301 Moved Permanently", b"<html>elsewhere</html>"),
    "a failure without words": http(b"502 Bad Gateway", b""),
    "a failure with junk": http(b"500 Oops", b"\xff\xfe"),
}


@every_call
@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
async def test_junk_is_an_error(call: Callable[[Control], Awaitable[object]], junk: bytes):
    """Whatever answers, it is not taken for success, and it is no other error than ours."""
    async with answering(junk) as control:
        with pytest.raises(ProxyError):
            await call(control)


async def test_an_answer_without_end_is_given_up():
    """Neither time nor memory without bound."""

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
        try:
            while True:
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            writer.close()

    async with await asyncio.start_server(pour, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(ProxyError, match=r"does not end|no answer within"):
            await Control(f"http://{host}:{port}", timeout_s=3).version()


async def test_two_servers_are_driven_at_once(proxy_server: ProxyServer):
    """Each client speaks to its own server only."""
    with proxy_process(seed=8) as other:
        controls = (proxy_server.control, other.control)
        await asyncio.gather(
            *(c.create(f"edge {n}", upstream=UP) for c in controls for n in range(10))
        )
        seeds = [(await c.about()).seed for c in controls]
        await controls[0].delete("edge 0")
        counts = [len(await c.proxies()) for c in controls]

    assert seeds == [7, 8]
    assert counts == [9, 10]


async def test_one_client_serves_many_loops(control: Control, upstream: Upstream):
    """It is bound to no loop: synchronous fixtures and tests share it."""
    await control.create("edge", upstream=upstream.address)
    found: list[str] = []

    def elsewhere() -> None:
        found.extend(asyncio.run(control.proxies()))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join, 10)

    assert found == ["edge"]
    assert list(await control.proxies()) == ["edge"]
