"""A daemon's questions to its provider: real refusals, resets, silence, and what they prove."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.address import Address
from harness.clock import now
from harness.errors import InvalidValue, TargetRefused
from harness.faults.latency import Latency
from harness.faults.reset_peer import ResetPeer
from harness.faults.timeout import Timeout
from harness.http.client import exchange
from harness.http.messages import Options, Request, Response, Stream
from harness.http.server import listen
from harness.proxy.control import Control
from harness.proxy.ports import Reservation
from harness.refdaemon.asking import Provider, ProviderFailed
from harness.resilience.backoff import RetryBudget, RetrySettings
from harness.resilience.breaker import Breaker, BreakerSettings
from harness.resilience.config.provider import ProviderSettings
from tests.integration.provider_process import PATIENCE_S, ProviderProcess, provider_process
from tests.integration.proxy_process import ProxyServer
from tests.unit.hands import Hands

ONCE = RetrySettings(attempts=1)
QUICK = RetrySettings(base_s=0.001, cap_s=0.002)


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[ProviderProcess]:
    async with provider_process(tmp_path) as process:
        yield process


@pytest.fixture
async def hop(provider: ProviderProcess, proxy_server: ProxyServer) -> str:
    """The URL of a proxy before the provider, named hop."""
    state = await proxy_server.control.create("hop", upstream=str(provider.address))
    return f"http://{state.listen}"


@pytest.fixture
def control(proxy_server: ProxyServer) -> Control:
    return proxy_server.control


def asker(
    url: str,
    *,
    retry: RetrySettings = QUICK,
    breaker: Breaker | None = None,
    **settings: Any,
) -> Provider:
    return Provider(
        url,
        clock=now,
        breaker=breaker or Breaker("provider", clock=now),
        budget=RetryBudget(retry),
        settings=ProviderSettings(**settings),
        retry=retry,
    )


async def ask(one: Provider, key: str = "k", **more: Any) -> str:
    async with asyncio.timeout(PATIENCE_S):
        return await one.ask("why?", key=key, deadline_s=more.pop("deadline_s", PATIENCE_S), **more)


async def failing(one: Provider, key: str = "k", **more: Any) -> ProviderFailed:
    with pytest.raises(ProviderFailed) as failed:
        await ask(one, key, **more)
    return failed.value


def proves(error: ProviderFailed) -> tuple[str, bool]:
    return error.kind, error.may_have_run


class Script:
    """A provider that does one made-up thing after the other, and the last for ever."""

    def __init__(self, *steps: int | str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.steps = list(steps)
        self.headers = headers
        self.behind: Address | None = None
        self.requests: list[Request] = []
        self.arrived = asyncio.Event()

    async def handle(self, request: Request) -> Response | Stream:
        self.requests.append(request)
        self.arrived.set()
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, int):
            return Response(step, b'{"text": "made up"}', None, self.headers)
        if step == "silence":
            await asyncio.Event().wait()
        if self.behind is not None:
            headers = {"Idempotency-Key": request.headers["idempotency-key"]}
            behind, target, body = self.behind, request.target, request.body
            answer = await exchange(
                behind, "POST", target, headers=headers, body=body, max_bytes=9999
            )
            if step == "pass":
                return Response(answer.status, answer.body)
        return Stream(200, "application/json", self._cut())

    async def _cut(self) -> AsyncGenerator[bytes, None]:
        yield b'{"te'
        raise ConnectionResetError("on purpose")


@asynccontextmanager
async def served(script: Script) -> AsyncIterator[str]:
    listening = await listen(script.handle, "127.0.0.1", 0, options=Options(name="script"))
    yield f"http://127.0.0.1:{listening.port}"
    await listening.close()


async def test_a_question_is_answered(provider: ProviderProcess):
    """
    Its key and the time left for it are in the provider's log.
    """
    one = asker(provider.url, attempt_timeout_s=5)
    text = await ask(one, "intent-1", deadline_s=2)
    longer = await ask(one, "intent-2", deadline_s=7)
    first, second = provider.executions()

    assert text == longer != ""
    assert (first.key, second.key) == ("intent-1", "intent-2")
    assert 1500 < (first.deadline_ms or 0) <= 2000
    assert 4500 < (second.deadline_ms or 0) <= 5000


async def test_no_listener_is_certainly_no_execution():
    """
    Refused as often as there are attempts; each counts for the breaker.
    """
    port = Reservation("127.0.0.1")
    one = asker(f"http://{port.address}")
    error = await failing(one)
    port.close()

    assert proves(error) == ("PROVIDER_ERROR", False)
    assert "not to be had" in error.headline
    assert "attempts: 3" in error.headline
    assert one.breaker.report().failures_in_a_row == 3
    assert (one.attempts, one.repeats, one.budget.spent) == (3, 2, 2)


async def test_a_connection_that_is_refused_through_a_proxy(
    provider: ProviderProcess, hop: str, control: Control
):
    """
    A proxy that is down refuses too; nothing is executed, and once it is up the same key is.
    """
    one = asker(hop, retry=ONCE)
    await control.update("hop", enabled=False)
    error = await failing(one)
    await control.update("hop", enabled=True)
    await ask(one)

    assert proves(error) == ("PROVIDER_ERROR", False)
    assert len(provider.executions()) == 1


async def test_a_reset_on_the_way_there_proves_nothing(
    provider: ProviderProcess, hop: str, control: Control
):
    """
    Some of it had left. It is repeated with its key, and executed once.
    """
    one = asker(hop, retry=ONCE)
    await control.add_toxic("hop", ResetPeer(stream="upstream"), name="cut")
    error = await failing(one)
    await control.remove_toxic("hop", "cut")
    await ask(one)

    assert proves(error) == ("PROVIDER_ERROR", True)
    assert "was lost" in error.headline
    assert len(provider.executions()) == 1


async def test_a_reset_on_the_way_back_is_an_execution(
    provider: ProviderProcess, hop: str, control: Control
):
    """
    The provider worked on it, the caller does not know; another question with this key gets it.
    """
    one = asker(hop, retry=ONCE)
    await control.add_toxic("hop", ResetPeer(stream="downstream"), name="cut")
    error = await failing(one)
    executed = len(provider.executions())
    await control.remove_toxic("hop", "cut")
    await ask(one)

    assert proves(error) == ("PROVIDER_ERROR", True)
    assert (executed, len(provider.executions())) == (1, 1)


async def test_an_answer_that_is_lost_is_asked_for_again_and_executed_once(
    provider: ProviderProcess,
):
    """
    Twice within one question, under one key.
    """
    script = Script("cut", "cut", "pass")
    script.behind = provider.address
    async with served(script) as url:
        one = asker(url)
        text = await ask(one, "intent")
        direct = await ask(asker(provider.url), "intent")

    assert text == direct
    assert [request.headers["idempotency-key"] for request in script.requests] == ["intent"] * 3
    assert len(provider.executions()) == 1
    assert one.breaker.report().failures_in_a_row == 0


async def test_silence_ends_with_the_attempts_time(
    provider: ProviderProcess, hop: str, control: Control
):
    """
    A black hole on the way there: TIMEOUT, of which nobody here knows that nothing was executed;
    counted as often as it was asked.
    """
    one = asker(hop, attempt_timeout_s=0.3)
    await control.add_toxic("hop", Timeout(stream="upstream"), name="hole")
    error = await failing(one)

    assert proves(error) == ("TIMEOUT", True)
    assert "did not answer within 0.3 s" in error.headline
    assert one.breaker.report().failures_in_a_row == 3
    assert provider.executions() == []


async def test_a_slow_answer_comes_too_late(provider: ProviderProcess, hop: str, control: Control):
    """
    Latency on the way back beyond the attempt's time.
    """
    one = asker(hop, retry=ONCE, attempt_timeout_s=0.3)
    await control.add_toxic("hop", Latency(stream="downstream", latency_ms=2000), name="slow")
    error = await failing(one)

    assert proves(error) == ("TIMEOUT", True)
    await provider.health_when("executions", 1)


async def test_nothing_goes_beyond_the_deadline(provider: ProviderProcess):
    """
    A wait that would reach it is not begun; nor is an attempt without time; work that takes
    longer is refused by the provider, who was told.
    """
    began = now()
    port = Reservation("127.0.0.1")
    waits = RetrySettings(base_s=60, cap_s=60, jitter="none")
    no_wait = await failing(asker(f"http://{port.address}", retry=waits), deadline_s=8)
    port.close()
    no_time = await failing(asker(provider.url), deadline_s=0)
    too_long = await failing(asker(provider.url, retry=ONCE), deadline_s=8, delay_ms=60_000)

    assert now() - began < 5
    assert proves(no_wait) == ("PROVIDER_ERROR", False)
    assert "attempts: 1" in no_wait.headline
    assert proves(no_time) == ("TIMEOUT", False)
    assert proves(too_long) == ("TIMEOUT", True)
    assert "answered 504" in too_long.headline
    assert provider.executions() == []


async def test_repeats_come_out_of_the_budget():
    """
    Without it a question is asked once; nothing sent is SERVICE_UNAVAILABLE, else the failure.
    """
    none = RetrySettings(budget=0, base_s=0.001)
    port = Reservation("127.0.0.1")
    refused = await failing(asker(f"http://{port.address}", retry=none))
    port.close()
    async with served(Script(500)) as url:
        one = asker(url, retry=none)
        answered = await failing(one)

    assert proves(refused) == ("SERVICE_UNAVAILABLE", False)
    assert "no repeat is left" in refused.headline
    assert proves(answered) == ("PROVIDER_ERROR", True)
    assert (one.attempts, one.budget.refused) == (1, 1)


async def test_a_success_fills_the_budget(provider: ProviderProcess):
    """
    By its share.
    """
    one = asker(provider.url, retry=RetrySettings(budget=5, budget_per_success=0.5))
    assert one.budget.take()
    await ask(one)

    assert one.budget.left == 4.5


@pytest.mark.parametrize(
    ("status", "attempts", "failures", "may_have_run"),
    [
        (400, 1, 0, False),
        (429, 1, 0, False),
        (500, 3, 3, True),
        (503, 3, 3, True),
        (302, 1, 1, True),
    ],
)
async def test_what_an_answer_counts(status: int, attempts: int, failures: int, may_have_run: bool):
    """
    5xx are repeated and count; 4xx are neither; what else is no answer is not repeated.
    """
    async with served(Script(status)) as url:
        one = asker(url)
        error = await failing(one)

    assert proves(error) == ("PROVIDER_ERROR", may_have_run)
    assert one.attempts == attempts
    assert one.breaker.report().failures_in_a_row == failures


async def test_a_refusal_after_a_lost_answer_still_proves_nothing():
    """
    What one attempt may have done no later one undoes.
    """
    async with served(Script("cut", 422)) as url:
        error = await failing(asker(url))

    assert proves(error) == ("PROVIDER_ERROR", True)


async def test_when_to_come_again_is_the_providers_word():
    """
    A repeat waits for it, if there is time, and the error carries it.
    """
    after = (("Retry-After", "1"),)
    async with served(Script(503, 200, headers=after)) as url:
        began = now()
        patient = await ask(asker(url))
        waited_s = now() - began
    async with served(Script(503, 200, headers=after)) as url:
        one = asker(url)
        hasty = await failing(one, deadline_s=0.9)

    assert (patient, waited_s >= 1) == ("made up", True)
    assert (hasty.retry_after_s, one.attempts) == (1.0, 1)


async def test_an_answer_beyond_its_bound_is_not_asked_for_again():
    """
    Nor kept.
    """
    async with served(Script(200)) as url:
        one = asker(url, max_answer_bytes=5)
        error = await failing(one)

    assert proves(error) == ("PROVIDER_ERROR", True)
    assert "more than 5 bytes" in error.headline
    assert (one.attempts, one.breaker.report().failures_in_a_row) == (1, 1)


async def test_an_open_breaker_asks_nobody(provider: ProviderProcess, hop: str, control: Control):
    """
    Opened by resets within its number; the provider hears nothing more; when its time has come a
    probe closes it again.
    """
    clock = Hands()
    settings = BreakerSettings(failures=4, open_s=30, successes=1)
    one = asker(hop, breaker=Breaker("provider", clock=clock, settings=settings))
    await control.add_toxic("hop", ResetPeer(stream="upstream"), name="cut")
    first = await failing(one, "a")
    second = await failing(one, "b")
    await control.remove_toxic("hop", "cut")
    clock.pass_(10)
    refused = [await failing(one, f"c{n}") for n in range(20)]
    heard = (await provider.health())["requests"]
    clock.pass_(20)
    await ask(one, "d")

    assert proves(first) == ("PROVIDER_ERROR", True)
    # Its first attempt opened the breaker, and may have run.
    assert proves(second) == ("PROVIDER_ERROR", True)
    assert "breaker provider is open" in second.headline
    assert {proves(error) for error in refused} == {("SERVICE_UNAVAILABLE", False)}
    assert {error.retry_after_s for error in refused} == {20.0}
    assert (heard, one.attempts, one.breaker.state) == (0, 5, "closed")
    assert [execution.key for execution in provider.executions()] == ["d"]


async def test_a_question_that_is_given_up_gives_its_place_back():
    """
    Cancelled while it probes, it counts as nothing, and the next one may probe.
    """
    clock = Hands()
    settings = BreakerSettings(failures=1, open_s=1, probes=1, successes=1)
    breaker = Breaker("provider", clock=clock, settings=settings)
    script = Script(500, "silence", 200)
    async with served(script) as url:
        one = asker(url, retry=ONCE, breaker=breaker)
        await failing(one)
        clock.pass_(1)
        script.arrived.clear()
        probe = asyncio.create_task(ask(one))
        await asyncio.wait_for(script.arrived.wait(), PATIENCE_S)
        beside = await failing(one)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        probing = breaker.report().probing
        text = await ask(one)

    assert proves(beside) == ("SERVICE_UNAVAILABLE", False)
    assert beside.retry_after_s is None
    assert (probing, text, breaker.state) == (0, "made up", "closed")


async def test_other_settings_hold_from_the_next_attempt_on(provider: ProviderProcess):
    """
    Attempts and their time.
    """
    async with served(Script(500)) as url:
        one = asker(url)
        one.adopt(ProviderSettings(attempt_timeout_s=0.5), ONCE)
        await failing(one)

    assert one.attempts == 1


async def test_questions_go_on_side_by_side(provider: ProviderProcess):
    """
    A slow one holds up nobody.
    """
    one = asker(provider.url)
    slow = asyncio.create_task(ask(one, "slow", delay_ms=2000))
    await provider.health_when("running", 1)
    texts = await asyncio.gather(*(ask(one, f"k{n}") for n in range(50)))

    assert not slow.done()
    assert len({*texts, await slow}) == 1
    assert len(provider.executions()) == 51


async def test_odd_keys_arrive(provider: ProviderProcess):
    """
    Whatever a client calls its intention.
    """
    one = asker(provider.url)
    for key in ("", "ü ", "a\r\nB: c", "k" * 10_000, "\ud800"):
        await ask(one, key)
        await ask(one, key)

    assert len(provider.executions()) == 5


@pytest.mark.parametrize(
    ("url", "error"),
    [("http://192.0.2.1:80", TargetRefused), ("ws://127.0.0.1:80", InvalidValue)],
)
def test_a_provider_that_may_not_be_asked_is_refused(url: str, error: type[Exception]):
    """
    Of another machine, or of another language.
    """
    with pytest.raises(error):
        asker(url)
    if error is TargetRefused:
        Provider(
            url,
            clock=now,
            breaker=Breaker("p", clock=now),
            budget=RetryBudget(ONCE),
            allow_remote=True,
        )
