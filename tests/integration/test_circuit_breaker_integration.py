"""
The breaker before a daemon's provider: opened by real failures, closed again, never wedged.

What is held against it is what the provider and the proxy before it saw. The daemon's own report
only has to agree.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from harness.clock import now
from harness.faults.down import Down
from harness.faults.latency import Latency
from harness.faults.limit_data import LimitData
from tests.integration.asked import asking, callers, on_each_backend, told_on
from tests.integration.metered import soon
from tests.integration.proxy_process import eventually
from tests.integration.standing import Stand
from tests.integration.tripping import (
    BOUND_S,
    FAILURES,
    HARMS,
    OPEN_S,
    PROBES,
    VALUES,
    Harm,
    asks,
    assert_told,
    chat,
    closes,
    end_of,
    first_of,
    half_open,
    key_of,
    opened,
    passes,
    refusal_of,
)

pytestmark = [on_each_backend, pytest.mark.timeout(120)]

CALLERS = 20
LONG_MS = 2_000


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
async def test_it_opens_by_so_many_failures_and_closes_when_they_are_over(
    stand: Stand, harm: Harm
) -> None:
    """
    Exactly `failures` calls go to the provider, one after the other. Then none does, however many
    callers there are; and when the time is up and the fault lifted, all do.
    """
    async with (
        asking(stand, {**VALUES, **harm.values}) as (daemon, provider),
        callers(daemon, CALLERS) as clients,
    ):
        first = clients.first
        async with daemon.here.inject(harm.fault, hop="provider"):
            failed = []
            for _ in range(FAILURES):
                last_s = now()
                failed.append(await chat(first))
            dialled, executed = await provider.dialled(), provider.executions()
            began_s = now()
            answers = await asyncio.gather(*(chat(each) for each in clients.all))
            took_s = now() - began_s
            more = await provider.dialled() - dialled

        healed_s = now()
        passed = [await passes(first)]
        passed_s = now()
        passed += await closes(first)
        requests, executions = await provider.requests(), provider.executions()
        await assert_told(daemon, refused=clients.tally.codes["SERVICE_UNAVAILABLE"])

    # It bit: the caller saw it, and the provider or the proxy did, or saw nobody.
    asked = [key_of(first, answer) for answer in failed]
    assert {end_of(answer) for answer in failed} <= set(harm.ends)
    assert (dialled, executed) == (harm.dialled, asked[: harm.executed])
    # All of them at once, each with the time to come again.
    assert took_s < BOUND_S
    assert all(0 < (refusal_of(answer) or 0) <= OPEN_S for answer in answers)
    # Nobody called it while it was open, and most of that time there was a way to it.
    assert more == 0
    assert [key for key in executions if key not in asked] == passed
    assert requests == len(executions)
    assert passed_s - last_s >= OPEN_S
    assert passed_s <= max(healed_s, last_s + OPEN_S) + BOUND_S


async def test_half_open_lets_no_more_through_than_probes(stand: Stand) -> None:
    """
    Of twenty callers at once the provider sees two, and the others are told at once.
    """
    async with asking(stand, VALUES) as (daemon, provider), callers(daemon, CALLERS) as clients:
        await opened(daemon, clients.first)
        await half_open(daemon)
        ends = [asks(each, delay_ms=LONG_MS // 2) for each in clients.all]
        refused = await soon(first_of(ends, CALLERS - PROBES))
        # Those refused may be told before the others have passed the proxy.
        await provider.runs(PROBES)
        answers = await asyncio.gather(*ends)
        requests = await provider.requests()
        again = await chat(clients.first)
        await assert_told(daemon, refused=clients.tally.codes["SERVICE_UNAVAILABLE"])

    assert [refusal_of(answer) for answer in refused] == [None] * (CALLERS - PROBES)
    assert sum(answer["ok"] for answer in answers) == requests == PROBES
    assert again["ok"]


async def test_a_probe_that_fails_opens_it_again(stand: Stand) -> None:
    """
    For as long as the first time; meanwhile nobody goes through.
    """
    async with asking(stand, VALUES) as (daemon, provider), callers(daemon) as clients:
        first = clients.first
        await opened(daemon, first)
        async with daemon.here.inject(Down(), hop="provider"):
            await half_open(daemon)
            began_s = now()
            probe = await chat(first)
            refused = await chat(first)
        await closes(first)
        took_s = now() - began_s
        requests, changes = await provider.requests(), await daemon.events("breaker changed")

    assert end_of(probe) == "PROVIDER_ERROR"
    assert 0 < (refusal_of(refused) or 0) <= OPEN_S <= took_s
    assert requests == clients.tally.calls["executed"]
    assert [each["after"] for each in changes] == ["open", "half_open"] * 2 + ["closed"]


@pytest.mark.parametrize("fault", [None, Latency(latency_ms=LONG_MS)], ids=["refused", "waits"])
async def test_a_caller_without_patience_says_nothing_of_the_provider(
    stand: Stand, fault: Latency | None
) -> None:
    """
    It gives the provider less time than the daemon would; the breaker stays closed for others.
    """
    async with asking(stand, VALUES) as (daemon, provider), callers(daemon) as clients:
        first = clients.first
        async with AsyncExitStack() as harm:
            if fault is not None:
                await harm.enter_async_context(daemon.here.inject(fault, hop="provider"))
            # Where nothing holds it up the provider refuses work that takes longer than that.
            delay_ms = LONG_MS if fault is None else 0
            for _ in range(FAILURES * 2):
                answer = await chat(first, delay_ms=delay_ms, timeout_ms=LONG_MS // 4)
                assert end_of(answer) == "TIMEOUT"
        requests = await eventually(provider.requests, lambda count: count >= FAILURES * 2)
        patient = await chat(first)
        breaker = (await daemon.status())["breakers"]["provider"]

    assert requests == FAILURES * 2
    assert patient["ok"]
    assert (breaker["opens"], breaker["refusals"]) == (0, 0)


async def test_an_answer_that_was_lost_is_asked_for_again_and_given_again(stand: Stand) -> None:
    """
    The daemon repeats a question of its own accord, with its key: the provider carries it out once.
    """
    values = {**VALUES, "retry.attempts": 3, "retry.base_s": OPEN_S, "retry.jitter": "none"}
    async with asking(stand, values) as (daemon, provider), callers(daemon) as clients:
        async with daemon.here.inject(LimitData(limit_bytes=1), hop="provider"):
            asked = asks(clients.first)
            closed = lambda: told_on(daemon.here, "provider", "closed")  # noqa: E731
            await eventually(closed, lambda events: len(events) == 1)
            lost = provider.executions()
        answer = await soon(asked)
        requests, executions = await provider.requests(), provider.executions()

    assert answer["ok"]
    assert executions == lost == [f"{clients.first.session}/{clients.first.last_id}"]
    assert requests == 2


async def test_an_answer_that_was_lost_for_good_is_had_by_its_key(stand: Stand) -> None:
    """
    The daemon cannot say what became of it; who repeats the call gets what was carried out once.
    """
    async with asking(stand, VALUES) as (daemon, provider), callers(daemon) as clients:
        async with daemon.here.inject(LimitData(limit_bytes=1), hop="provider"):
            lost = await chat(clients.first, key="order-1")
        again = await chat(clients.first, key="order-1")
        replayed = await chat(clients.first, key="order-1")
        requests, executions = await provider.requests(), provider.executions()

    assert end_of(lost) == "PROVIDER_ERROR"
    assert lost["error"]["details"]["may_have_run"] is True
    assert (again["ok"], replayed["ok"], replayed["replayed"]) == (True, True, True)
    assert executions == [f"{clients.first.session}/order-1"]
    assert requests == 2
