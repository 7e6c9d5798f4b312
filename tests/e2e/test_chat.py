"""
The thin whole path: client, proxy, daemon, `chat`, proxy, provider. Each test has all of it to
itself, and ends in what the provider wrote down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.client.resilient import ResilientSession
from harness.clock import now
from harness.daemons.reference import Reference, own_provider
from harness.errors import CallFailed, CallUnknown
from harness.faults.down import Down
from harness.faults.latency import Latency
from harness.faults.limit_data import LimitData
from harness.faults.restart import Restart
from harness.resilience.backoff import RetrySettings
from harness.resilience.breaker import Breaker, BreakerSettings
from tests.backends import CHOICES
from tests.integration.sessions import until
from tests.integration.stacks import Place, remains

pytestmark = pytest.mark.timeout(120)

LATE_MS = 800
FAILURES = 2
PERSISTENT = RetrySettings(attempts=1000, base_s=0.01, cap_s=0.1, proof_s=0, budget=100_000)
OPTIONS = (
    *("--set", "retry.attempts=1"),
    *("--set", f"breaker.failures={FAILURES}"),
    *("--set", "breaker.open_s=60"),
)


@pytest.fixture
async def place(backend: str, tmp_path: Path) -> AsyncIterator[Place]:
    """All of it; nothing stays."""
    daemon = Reference(provider=own_provider(), options=OPTIONS)
    async with Place(tmp_path, daemon, CHOICES[backend]) as made:
        yield made
    assert remains(made.stack) == []


def resilient(place: Place) -> ResilientSession:
    """A client that goes on, whatever becomes of its connections."""
    return ResilientSession(
        lambda session_id: place.client(session_id=session_id, call_timeout_s=30),
        retry=PERSISTENT,
        breaker=Breaker("daemon", clock=now, settings=BreakerSettings(failures=10**6)),
    )


def keys(place: Place) -> list[str]:
    """What the provider carried out, by the callers' own keys."""
    return [(execution.key or "").rpartition("/")[2] for execution in place.executions()]


async def test_a_question_goes_all_the_way_and_comes_back(place: Place) -> None:
    """
    Once for each call, in the effect log and in the provider's; alike questions have like answers.
    """
    async with place.client() as client:
        replies = [
            await client.call("chat", {"prompt": prompt}, key=f"{n}")
            for n, prompt in enumerate(("why?", "why not?", "why?"))
        ]
        again = await client.call("chat", {"prompt": "why?"}, key="0")
        effects, executions = place.effects(), place.executions()

    texts = [reply.text for reply in replies]
    assert texts[0] == texts[2] != texts[1]
    assert (again.text, again.replayed) == (texts[0], True)
    assert [(effect.tool, effect.key) for effect in effects] == [("chat", key) for key in "012"]
    assert [each.key for each in executions] == [f"{each.session}/{each.key}" for each in effects]
    assert executions[0].digest == executions[2].digest != executions[1].digest


@pytest.mark.parametrize("hop", ["edge", "provider"])
async def test_latency_is_seen_where_it_is(place: Place, hop: str) -> None:
    """
    On the way to the daemon it is the client's alone; on that to the provider the tool's own work.
    """
    async with place.client(call_timeout_s=30) as client:
        whole = await client.call("chat", {"prompt": "why?"})
        async with place.inject(Latency(latency_ms=LATE_MS), hop=hop):  # type: ignore[arg-type]
            late = await client.call("chat", {"prompt": "why?"})
            alone = await client.call("echo", {"text": "hi"})
        executed = keys(place)

    assert None not in (whole.processing_ms, late.processing_ms)
    assert late.elapsed_ms >= LATE_MS
    assert ((late.processing_ms or 0) >= LATE_MS) == (hop == "provider")
    assert (alone.elapsed_ms >= LATE_MS) == (hop == "edge")
    assert (whole.processing_ms or 0) < LATE_MS
    assert len(executed) == 2


async def test_without_its_provider_a_question_has_a_definite_end(place: Place) -> None:
    """
    Each call is told at once what is the matter, first by who asked in vain and then by the
    breaker; nothing is carried out, and all else works.
    """
    async with place.client(call_timeout_s=30) as client:
        async with place.inject(Down(), hop="provider"):
            for n in range(FAILURES):
                with pytest.raises(CallUnknown) as lost:
                    await client.call("chat", {"prompt": "why?"}, key=f"lost-{n}")
            with pytest.raises(CallFailed) as refused:
                await client.call("chat", {"prompt": "why?"}, key="refused")
            alone = await client.call("echo", {"text": "hi"})
        health = await client.health()
        effects, executed = place.effects(), keys(place)

    assert lost.value.kind == "PROVIDER_ERROR"
    assert "not to be had" in str(lost.value)
    assert refused.value.kind == "SERVICE_UNAVAILABLE"
    assert alone.text == "hi"
    assert [effect.tool for effect in effects] == ["echo"]
    assert executed == []
    assert (health["open_breakers"], health["running_calls"]) == (1, 0)


async def test_an_answer_that_was_lost_on_the_edge_is_had_by_its_key(place: Place) -> None:
    """
    The client is cut off while it waits, and asks again; the provider is asked once.
    """
    async with resilient(place) as client:
        await client.call("echo", {"text": "hi"})
        async with place.inject(LimitData(limit_bytes=1)):
            asked = asyncio.create_task(client.call("chat", {"prompt": "why?"}, key="order"))
            await until(lambda: client.session is None or asked.done())
        reply = await asked
        effects, executed = place.effects(), keys(place)

    assert reply.replayed
    assert executed == ["order"]
    assert [effect.key for effect in effects if effect.tool == "chat"] == ["order"]
    assert client.results().reconnections >= 1
    assert (client.results().ok, client.results().unknown) == (2, 0)


async def test_daemon_and_provider_are_started_anew(place: Place) -> None:
    """
    One after the other: the daemon finds its provider where it was, and the client its daemon.
    """
    async with resilient(place) as client:
        before = await client.call("chat", {"prompt": "why?"}, key="before")
        async with place.inject(Restart(within_s=10), hop="provider"):
            between = await client.call("chat", {"prompt": "why?"}, key="between")
        async with place.inject(Restart(within_s=10)):
            after = await client.call("chat", {"prompt": "why?"}, key="after")
        effects, executions, executed = place.effects(), place.executions(), keys(place)

    assert before.text == between.text == after.text
    assert executed == ["before", "between", "after"]
    # Another process each, which counts anew.
    assert [execution.sequence for execution in executions] == [1, 1, 2]
    assert [effect.sequence for effect in effects] == [1, 2, 1]
    assert client.results().reconnections == 1
