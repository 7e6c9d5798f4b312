"""Toxics of the real Toxiproxy, put on by an independent client and by ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from toxiproxy import Toxiproxy
from toxiproxy.api import APIConsumer

from harness.errors import CallUnknown, ConnectFailed
from harness.faults.armed_reset import ArmedReset
from harness.faults.limit_data import LimitData
from harness.faults.reset_peer import ResetPeer
from tests.backends import in_containers
from tests.integration.proxy_process import eventually
from tests.integration.stacks import Place

pytestmark = in_containers


@pytest.fixture
def by_toxiproxy_python(boxed: Place) -> Iterator[Any]:
    """The proxy before the daemon, as toxiproxy-python sees it."""
    before = APIConsumer.host, APIConsumer.port
    host, port = boxed.control.url.removeprefix("http://").split(":")
    toxiproxy = Toxiproxy()
    toxiproxy.update_api_consumer(host, int(port))
    yield toxiproxy.get_proxy(boxed.name)
    APIConsumer.host, APIConsumer.port = before


async def test_toxiproxy_python_makes_replies_late(boxed: Place, by_toxiproxy_python: Any) -> None:
    """An independent client puts the toxic on; the client at the other end waits."""
    await asyncio.to_thread(
        by_toxiproxy_python.add_toxic, type="latency", attributes={"latency": 200}
    )
    async with boxed.client() as client:
        assert (await client.call("echo", {"text": "hi"})).elapsed_ms >= 200


async def test_toxiproxy_python_opens_a_black_hole(boxed: Place, by_toxiproxy_python: Any) -> None:
    """The call was executed, and its reply is nowhere."""
    async with boxed.client() as client:
        await asyncio.to_thread(
            by_toxiproxy_python.add_toxic, type="timeout", attributes={"timeout": 0}
        )
        with pytest.raises(CallUnknown) as caught:
            await client.call("counter", {"name": "n"}, key="lost", timeout_s=0.3)
        await eventually(lambda: asyncio.to_thread(boxed.effects), bool)

    assert caught.value.kind == "time_limit"
    assert [effect.key for effect in boxed.effects()] == ["lost"]


async def test_toxiproxy_python_resets(boxed: Place, by_toxiproxy_python: Any) -> None:
    """A connection that opens afterwards is reset, and the client sees that it is."""
    await asyncio.to_thread(
        by_toxiproxy_python.add_toxic, type="reset_peer", attributes={"timeout": 0}
    )
    with pytest.raises(ConnectFailed) as caught:
        async with boxed.client():
            pass

    assert caught.value.kind == "reset"


async def test_a_live_connection_ends_with_fin_unless_it_was_armed(boxed: Place) -> None:
    """Toxiproxy's own way: "resets live connections" is no ability of it."""
    await boxed.stack.probe()
    assert boxed.abilities["rst"] is None
    assert "arrived as FIN" in str(boxed.abilities["live_rst"])
    async with boxed.client() as client, boxed.inject(ResetPeer(stream="downstream")):
        with pytest.raises(CallUnknown):
            await client.call("echo", {"text": "x"})

    assert client.ending.kind == "eof"


@pytest.mark.parametrize("fault", [ResetPeer(stream="downstream"), LimitData(limit_bytes=1)])
async def test_what_was_armed_is_reset(boxed: Place, fault: Any) -> None:
    """By either toxic that closes; both ends see it."""
    async with boxed.inject(ArmedReset()), boxed.client() as client, boxed.inject(fault):
        with pytest.raises(CallUnknown):
            await client.call("echo", {"text": "x"})

    assert client.ending.kind == "reset"
    async with boxed.client(direct=True) as observer:
        seen = await eventually(observer.health, lambda it: it["counters"]["closed_by_reset"] > 0)
    assert seen["counters"]["closed_by_reset"] == 1
