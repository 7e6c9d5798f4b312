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
    """Whether a new client is served."""
    async with env.client() as client:
        return (await client.call("still there?")).text == "still there?"


async def test_late_replies_are_replies(harness_environment):
    """A reply that is held back for 100 ms arrives all the same."""
    env = harness_environment
    async with env.client() as client, env.inject(Latency(latency_ms=100)):
        reply = await client.call("hi")

    assert reply.text == "hi"
    # The floor proves that the fault was there.
    assert reply.elapsed_ms >= 100


async def test_a_black_hole_harms_its_own_connection_only(harness_environment):
    """A reply that is swallowed never comes; the next client is served."""
    env = harness_environment
    async with env.client() as client, env.inject(Timeout()):
        with pytest.raises(CallUnknown) as lost:
            await client.call("hi", timeout_s=0.3)

    assert lost.value.kind == "time_limit"
    assert await served(env)


@pytest.mark.harness_needs("rst")
async def test_a_reset_harms_its_own_connection_only(harness_environment):
    """The client sees the reset and cannot know; the next client is served."""
    env = harness_environment
    async with env.client() as client, env.inject(ResetPeer()):
        with pytest.raises(CallUnknown):
            await client.call("hi")
        assert client.ending.kind == "reset"

    assert await served(env)


@pytest.mark.harness_isolation("daemon")
async def test_a_killed_server_comes_back(harness_environment):
    """While it is dead no call is answered; started again, it serves."""
    env = harness_environment
    async with env.client() as client, env.inject(Kill()):
        with pytest.raises(CallError):
            await client.call("hi")

    assert await served(env)


async def test_a_slow_reader_keeps_nobody_waiting(harness_environment):
    """While one client takes a second to read its reply, another is served."""
    env = harness_environment
    async with env.client() as slow, env.client(direct=True) as other:
        async with env.inject(Bandwidth(rate_kb_per_s=10)), asyncio.TaskGroup() as group:
            late = group.create_task(slow.call("x" * 10_000, timeout_s=10))
            reply = await other.call("hi")
            assert not late.done()

    assert reply.text == "hi"
    assert late.result().elapsed_ms >= 900
