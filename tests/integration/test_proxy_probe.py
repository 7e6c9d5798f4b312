"""Whether a reset reaches a client: what the probe finds at proxies that do and that do not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from harness.clock import now
from harness.environment import local
from harness.environment.probe import ResetPath, probe_reset
from harness.errors import EnvironmentFailed, ProxyError
from harness.faults.reset_peer import ResetPeer
from harness.proxy.control import Control
from harness.proxy.ports import Reservation
from tests import sabotage
from tests.integration.proxy_process import ProxyServer, eventually, proxy_process

ARRIVED = ResetPath(
    live=True,
    armed=True,
    reason="a reset of a live connection arrived as RST; one armed before it opened arrived as RST",
)

WITHOUT_OURS = """
from harness.proxy.api import Api
route = Api._route
Api._route = lambda self, path: None if path[0] == "harness" else route(self, path)
"""

TOXIPROXYS_RESET = """
from harness.proxy.proxies import Proxy
from harness.proxy.relay import Relay
admit, reset, armed = Proxy.admit, Relay._break, set()
def note(self, relay):
    if self.toxics:
        armed.add(relay)
    return admit(self, relay)
def break_or_close(self):
    reset(self) if self in armed else self.close("toxic reset")
Proxy.admit, Relay._break = note, break_or_close
"""

CUT_OFF = """
from harness.proxy.relay import Relay
async def refused(self, upstream):
    self.close("upstream unreachable")
Relay._dial = refused
"""

MUTE = """
import asyncio
from harness.proxy.relay import Relay
async def never(self, upstream):
    await asyncio.Event().wait()
Relay._dial = never
"""


@pytest.fixture
def sabotaged(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    """A proxy server with the sabotage that the test names."""
    monkeypatch.setattr(local, "PROXY_COMMAND", sabotage.command(request.param))
    with proxy_process() as server:
        yield server.control


@pytest.mark.toxic("reset_peer")
async def test_both_resets_of_our_proxy_arrive(proxy_server: ProxyServer):
    """On a live connection and on one that opens later."""
    assert await probe_reset(proxy_server.control) == ARRIVED


async def test_a_server_without_our_endpoints_will_do():
    """The probe asks for nothing that a Toxiproxy lacks."""
    with proxy_process(prepare=WITHOUT_OURS) as server:
        with pytest.raises(ProxyError, match="404"):
            await server.control.about()

        assert await probe_reset(server.control) == ARRIVED


async def test_a_proxy_that_resets_only_armed_connections_is_told_apart():
    """As Toxiproxy 2.12 does it: a live connection ends with FIN."""
    with proxy_process(prepare=TOXIPROXYS_RESET) as server:
        path = await probe_reset(server.control)

    assert (path.live, path.armed) == (False, True)
    assert path.reason == (
        "a reset of a live connection arrived as FIN; one armed before it opened arrived as RST"
    )


@pytest.mark.parametrize("sabotaged", ["rst-as-fin"], indirect=True)
async def test_a_reset_that_leaves_as_fin_is_none(sabotaged: Control):
    """Neither way; the reason says what came instead."""
    path = await probe_reset(sabotaged)

    assert (path.live, path.armed) == (False, False)
    assert path.reason == (
        "a reset of a live connection arrived as FIN; one armed before it opened arrived as FIN"
    )


@pytest.mark.parametrize("sabotaged", ["inert:reset_peer"], indirect=True)
async def test_a_reset_that_never_comes_is_given_up(sabotaged: Control):
    """After a second each time."""
    started = now()

    path = await probe_reset(sabotaged)

    assert (path.live, path.armed) == (False, False)
    assert path.reason == (
        "a reset of a live connection did not arrive: nothing within 1 s; "
        "one armed before it opened did not arrive: nothing within 1 s"
    )
    assert 2 <= now() - started < 4


@pytest.mark.parametrize("prepare", [CUT_OFF, MUTE], ids=["cut off", "mute"])
async def test_where_no_byte_comes_through_no_reset_does(prepare: str):
    """A proxy that cannot reach the listener proves nothing; the reason names both addresses."""
    with proxy_process(prepare=prepare) as server:
        path = await probe_reset(server.control)

        assert (path.live, path.armed) == (False, False)
        assert path.reason.startswith("no byte came through 127.0.0.1:")
        assert path.reason.endswith("nothing within 1 s")
        assert await server.control.proxies() == {}


async def test_it_listens_where_it_is_told(proxy_server: ProxyServer):
    """On IPv6 too."""
    assert (await probe_reset(proxy_server.control, host="::1")).armed
    opened = (await proxy_server.events("enabled"))[0]
    assert " to [::1]:" in str(opened.detail)


async def test_it_leaves_nothing_behind(proxy_server: ProxyServer):
    """No proxy, and in the proxy's process no socket."""
    before = proxy_server.descriptors()

    for _ in range(5):
        await probe_reset(proxy_server.control)

    assert await proxy_server.control.proxies() == {}
    await proxy_server.endings(10)
    await eventually(lambda: _descriptors(proxy_server), lambda count: count <= before)


async def _descriptors(server: ProxyServer) -> int:
    return server.descriptors()


async def test_other_proxies_are_left_as_they_are(proxy_server: ProxyServer):
    """Toxics of others included."""
    control = proxy_server.control
    await control.create("edge", upstream="127.0.0.1:1")
    await control.add_toxic("edge", ResetPeer(), name="harm")
    before = await control.proxies()

    await probe_reset(control)

    assert await control.proxies() == before


@pytest.mark.toxic("reset_peer")
async def test_probes_of_one_server_do_not_meet(proxy_server: ProxyServer):
    """Several at once, each on a proxy of its own."""
    found = await asyncio.gather(*(probe_reset(proxy_server.control) for _ in range(5)))

    assert found == [ARRIVED] * 5


async def test_cancelled_it_removes_its_proxy():
    """In the middle of a wait."""
    with proxy_process(prepare=MUTE) as server:
        probing = asyncio.create_task(probe_reset(server.control))
        await eventually(server.control.proxies, lambda proxies: proxies != {})

        probing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probing

        assert await server.control.proxies() == {}


@pytest.mark.toxic("reset_peer")
def test_its_finding_is_bound_to_no_loop(proxy_server: ProxyServer):
    """Two loops, one after the other, find the same."""
    found = [asyncio.run(probe_reset(proxy_server.control)) for _ in range(2)]

    assert found == [ARRIVED] * 2


async def test_an_address_of_another_machine_is_an_error(proxy_server: ProxyServer):
    """Nothing can listen there; the row says what `host` must be."""
    with pytest.raises(EnvironmentFailed, match=r"cannot listen on 203\.0\.113\.1") as failed:
        await probe_reset(proxy_server.control, host="203.0.113.1")

    assert "that the proxy can connect to" in dict(failed.value.details)["next"]


async def test_a_server_that_is_not_there_is_an_error():
    """The first error is the one that is told."""
    port = Reservation("127.0.0.1")
    with pytest.raises(ProxyError, match="POST /proxies: no answer"):
        await probe_reset(Control(f"http://{port.address}"))
    port.close()


async def test_a_server_that_never_answers_is_given_up():
    """Each request after a second, whatever the client's own bound is."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        started = now()
        with pytest.raises(ProxyError, match=r"no answer within 1 s"):
            await probe_reset(Control(f"http://{host}:{port}", timeout_s=60))

    assert now() - started < 5
