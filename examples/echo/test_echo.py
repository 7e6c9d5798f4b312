"""Does the echo server survive a bad network? Five ways to be bad."""

import asyncio

import pytest

from harness.errors import CallError, CallUnknown
from harness.faults.bandwidth import Bandwidth
from harness.faults.kill import Kill
from harness.faults.latency import Latency
from harness.faults.reset_peer import ResetPeer
from harness.faults.timeout import Timeout


async def served(env):
    """Whether a new client is served, past the proxy and whatever it does to others."""
    async with env.client(direct=True) as client:
        return (await client.call("still there?")).text == "still there?"


async def test_a_late_reply_is_a_reply(harness_environment):
    """A reply that is held back for 100 ms arrives all the same."""
    env = harness_environment
    async with env.client() as client, env.inject(Latency(latency_ms=100)):
        reply = await client.call("hi")

    assert reply.text == "hi"
    # The floor proves that the fault was there: without it a reply takes under a millisecond.
    assert reply.elapsed_ms >= 100


async def test_a_lost_reply_is_one_clients_trouble(harness_environment):
    """While one client waits for a reply that never comes, another is served."""
    env = harness_environment
    async with env.client() as client, env.inject(Timeout()):
        with pytest.raises(CallUnknown) as lost:
            await client.call("hi", timeout_s=0.3)
        assert await served(env)

    assert lost.value.kind == "time_limit"


@pytest.mark.harness_needs("live_rst")
async def test_a_reset_is_one_clients_trouble(harness_environment):
    """A client whose connection is reset under its call cannot know; the next one is served."""
    env = harness_environment
    async with env.client() as client, env.inject(ResetPeer()):
        with pytest.raises(CallUnknown):
            await client.call("hi")
        assert await served(env)

    assert client.ending.kind == "reset"


async def test_a_slow_reader_keeps_nobody_waiting(harness_environment):
    """While one client takes a second to read its reply, another is served."""
    env = harness_environment
    trickle = Bandwidth(stream="downstream", rate_kb_per_s=10)
    async with env.client() as client, env.inject(trickle):
        slow = asyncio.create_task(client.call("x" * 10_000, timeout_s=10))
        assert await served(env)
        assert not slow.done()
        reply = await slow

    assert reply.elapsed_ms >= 900


@pytest.mark.harness_needs("process")
@pytest.mark.harness_isolation("daemon")
async def test_a_killed_server_comes_back(harness_environment):
    """Killed, it answers nobody; started again, it serves."""
    env = harness_environment
    async with env.client() as client, env.inject(Kill()):
        with pytest.raises(CallError):
            await client.call("hi")

    assert await served(env)
