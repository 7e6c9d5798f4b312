"""
A client that outlives its connections, through a real proxy that cuts them.

The reference daemon promises neither keys nor sessions that are known again, so nothing may
be sent to it twice; a made-up daemon that keeps both is where repeats are tried.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import pytest
from websockets.asyncio.server import ServerConnection

from harness.client.resilient import ResilientSession
from harness.client.session import Session
from harness.clock import Draws, now
from harness.daemons.reference import Reference
from harness.daemons.running import Running
from harness.dialects.exai import Exai
from harness.dialects.plain import Plain
from harness.errors import CallFailed, CallUnknown, InvalidValue
from harness.faults.down import Down
from harness.faults.limit_data import LimitData
from harness.faults.reset_peer import ResetPeer
from harness.faults.timeout import Timeout
from harness.resilience.backoff import RetrySettings
from harness.resilience.breaker import Breaker, BreakerSettings, Transition
from tests.backends import CHOICES
from tests.integration.daemons import bare, end_with_rst
from tests.integration.keeping import Keeper, keeping
from tests.integration.sessions import session, soon, until
from tests.integration.stacks import Place

CUTS = 100
SEED = 7
# Short, since a test waits for it; what is waited for is tried with a made-up clock.
QUICK = RetrySettings(attempts=5, base_s=0.001, cap_s=0.01, proof_s=0, budget=1000)
# While the fault is being lifted, a few are spent.
PERSISTENT = RetrySettings(attempts=100, base_s=0.01, cap_s=0.05, proof_s=0, budget=100_000)


@pytest.fixture(params=["picows", "websockets"])
async def here(
    request: pytest.FixtureRequest, backend: str, tmp_path: Path
) -> AsyncIterator[Place]:
    """The reference daemon behind a proxy."""
    async with Place(tmp_path, Reference(transport=request.param), CHOICES[backend]) as made:
        yield made


def resilient(open_session: Callable[[str | None], Session], **options: Any) -> ResilientSession:
    given = {"retry": QUICK, "breaker": patient(), "seed": SEED}
    return ResilientSession(open_session, **given | options)


def patient() -> Breaker:
    """A breaker that stays closed, whatever comes."""
    return Breaker("daemon", clock=now, settings=BreakerSettings(failures=10**6))


def at(url: str, **options: Any) -> Callable[[str | None], Session]:
    return lambda session_id: session(url, session_id=session_id, **options)


def cut(n: int) -> LimitData:
    """The n-th cut: on either way, after so many bytes of a call or its reply, as the seed says."""
    draws = Draws(SEED, f"cut/{n}")
    stream = "upstream" if draws.at("stream") < 0.5 else "downstream"
    return LimitData(stream=stream, limit_bytes=int(draws.at("bytes") * 80))


async def cut_each(
    here: Place, client: ResilientSession, call: Callable[[int], Awaitable[None]]
) -> int:
    """
    Call under one seeded cut after the other, each on a live connection.

    Returns:
        How many calls there were.
    """
    calls = 0
    for n in range(CUTS):
        # Where the last cut ended the connection, this makes a new one, on a whole wire.
        await call(calls)
        assert client.session is not None
        async with here.inject(cut(n)):
            ended = asyncio.create_task(call(calls + 1))
            await until(lambda ended=ended: client.session is None or ended.done())
        await ended
        calls += 2
    # The wire is whole again: so is the client.
    await call(calls)
    return calls + 1


@pytest.mark.timeout(180)
@pytest.mark.toxic("limit_data")
async def test_a_hundred_cuts_lose_no_call_of_the_reference_daemon(here: Place) -> None:
    """
    It promises keys and resumes sessions: every call is answered, and each ran once.
    """
    replayed = 0
    open_one = lambda session_id: here.client(session_id=session_id)  # noqa: E731
    async with resilient(open_one, process="c", retry=PERSISTENT) as client:

        async def call(n: int) -> None:
            nonlocal replayed
            reply = await client.call("counter", {"name": "orders"}, key=f"order-{n}")
            replayed += reply.replayed

        calls = await cut_each(here, client, call)
    results = client.results()

    ran = Counter(effect.key for effect in here.effects())
    assert ran == {f"order-{n}": 1 for n in range(calls)}
    assert (results.ok, results.failed, results.unknown) == (calls, 0, 0)
    # Each cut bit; and some calls had run when they were cut: a repeat would have run them twice.
    assert results.reconnections == CUTS
    assert replayed
    assert len({effect.session for effect in here.effects()}) == 1


@pytest.mark.timeout(180)
@pytest.mark.toxic("limit_data")
async def test_a_hundred_cuts_lose_no_answered_call_and_repeat_none_without_a_promise(
    tmp_path: Path,
) -> None:
    """
    Answered: run once. Certainly not happened: never run. Unknown: once at most, by one attempt.
    """
    ended: dict[str, list[str]] = {"ok": [], "failed": [], "unknown": []}
    keeper = Keeper()
    async with (
        keeping(keeper) as url,
        Place(tmp_path, Running.at(url)) as here,
        resilient(lambda session_id: here.client(session_id=session_id), process="c") as client,
    ):

        async def call(n: int) -> None:
            key = f"order-{n}"
            try:
                await client.call("echo", {"text": "x"}, key=key)
            except CallFailed:
                ended["failed"].append(key)
            except CallUnknown:
                ended["unknown"].append(key)
            else:
                ended["ok"].append(key)

        calls = await cut_each(here, client, call)
        results = client.results()
        for key in ended["unknown"]:
            assert before_the_last(here, key) <= {"fail"}

    ran = Counter(key for _, key in keeper.ran.elements())
    assert set(ran.values()) == {1}
    assert set(ended["ok"]) <= set(ran)
    assert not set(ended["failed"]) & set(ran)
    assert ended["ok"][-1] == f"order-{calls - 1}"
    # Each cut bit; and some calls had run when they were cut: a repeat would have run them twice.
    assert results.reconnections == CUTS
    assert set(ended["unknown"]) & set(ran)
    assert (results.calls, results.ok, results.unknown) == (
        calls,
        len(ended["ok"]),
        len(ended["unknown"]),
    )


def before_the_last(here: Place, key: str) -> set[str]:
    """How the attempts of a key ended that were followed by another."""
    ends = [op.type for op in here.history().ops if op.f == "call" and op.key == key]
    return {end for end in ends if end != "invoke"} if len(ends) > 2 else set()


@pytest.mark.timeout(180)
@pytest.mark.toxic("limit_data")
async def test_a_hundred_cuts_are_survived_where_keys_and_sessions_are_kept(
    tmp_path: Path,
) -> None:
    """
    Every call is answered, each key ran once, and the daemon saw one session from end to end.
    """
    keeper = Keeper("keys", "resume")
    async with (
        keeping(keeper) as url,
        Place(tmp_path, Running.at(url)) as here,
        resilient(
            lambda session_id: here.client(session_id=session_id), retry=PERSISTENT
        ) as client,
    ):

        async def call(n: int) -> None:
            reply = await client.call("echo", {"text": f"{n}"}, key=f"k{n}")
            assert reply.text == f"{n}"

        calls = await cut_each(here, client, call)
        results = client.results()

    assert (results.ok, results.failed, results.unknown) == (calls, 0, 0)
    assert results.reconnections == CUTS
    assert results.retries >= CUTS
    assert set(keeper.ran.values()) == {1}
    (known,) = {session for session, _ in keeper.ran}
    # The environment's own look at whether the daemon is ready came first.
    assert set(keeper.hellos[2:]) == {known}


async def test_a_session_is_asked_for_again_only_where_that_was_promised() -> None:
    """
    To a daemon that does not know it again, an old id would be somebody's guess.
    """
    keeper = Keeper("keys")
    keeper.before_answer = once(end_with_rst)
    async with keeping(keeper) as url, resilient(at(url)) as client:
        reply = await client.call("echo", {"text": "hi"})

    assert reply.text == "hi"
    assert keeper.hellos == [None, None]


async def test_a_call_that_may_have_run_is_not_repeated_without_a_promise() -> None:
    """
    The reply is lost; what is known of the one attempt is what the caller gets.
    """
    keeper = Keeper()
    keeper.before_answer = once(end_with_rst)
    async with keeping(keeper) as url, resilient(at(url)) as client:
        with pytest.raises(CallUnknown) as caught:
            await client.call("echo", {"text": "hi"})
        await client.call("echo", {"text": "again"})

    assert caught.value.kind == "connection_lost"
    assert sorted(keeper.ran.values()) == [1, 1]
    results = client.results()
    assert (results.ok, results.unknown, results.retries) == (1, 1, 0)


async def test_a_call_that_may_run_twice_is_repeated_all_the_same() -> None:
    """
    The caller knows what the daemon does not promise.
    """
    keeper = Keeper()
    keeper.before_answer = once(end_with_rst)
    async with keeping(keeper) as url, resilient(at(url)) as client:
        reply = await client.call("echo", {"text": "hi"}, key="k", may_run_twice=True)

    assert reply.text == "hi"
    assert [key for _, key in keeper.ran.elements()] == ["k", "k"]


async def test_a_promise_is_the_daemons_that_made_it() -> None:
    """
    After the loss another one answers at the same address, and promises nothing: nothing is
    sent to it again.
    """
    first, second = Keeper("keys"), Keeper()
    gone = asyncio.Event()

    def lose(connection: ServerConnection) -> None:
        end_with_rst(connection)
        gone.set()

    first.before_answer = lose
    async with keeping(first) as url, resilient(at(url), retry=SLOW) as client:
        call = asyncio.create_task(client.call("echo", {"text": "hi"}))
        await soon(gone)
        # It answers with another's promises from now on.
        first.promises, first.before_answer = second.promises, None
        with pytest.raises(CallUnknown) as caught:
            await call

    assert caught.value.kind == "connection_lost"
    assert len(first.hellos) == 2
    assert sum(first.ran.values()) == 1


async def test_a_daemon_that_forgot_the_session_is_not_asked_again() -> None:
    """
    It promises keys, and knows none of this session any more: it was started anew, for instance.
    Nor is it once it knows the session that came after.
    """
    keeper = Keeper("keys", "resume")
    keeper.before_answer = once(end_with_rst)
    keeper.resumed = False
    async with keeping(keeper) as url, resilient(at(url)) as client:
        with pytest.raises(CallUnknown) as caught:
            await client.call("echo", {"text": "hi"})
        reply = await client.call("echo", {"text": "again"})

    assert caught.value.kind == "connection_lost"
    assert reply.text == "again"
    assert sorted(keeper.ran.values()) == [1, 1]
    assert client.results().retries == 1


async def test_a_daemon_that_knows_the_session_again_is_asked_again() -> None:
    """
    And answers with what it did.
    """
    keeper = Keeper("keys", "resume")
    keeper.before_answer = once(end_with_rst)
    keeper.resumed = True
    async with keeping(keeper) as url, resilient(at(url)) as client:
        reply = await client.call("echo", {"text": "hi"})

    assert reply.text == "hi"
    assert sorted(keeper.ran.values()) == [1]


# Long enough between two connections for a test to change something there.
SLOW = RetrySettings(attempts=3, base_s=0.2, cap_s=0.2, jitter="none", budget=10)


@pytest.mark.parametrize("code", ["OVER_CAPACITY", "SERVICE_UNAVAILABLE"])
async def test_a_refusal_that_passes_is_tried_again_on_the_same_connection(code: str) -> None:
    """
    Up to the number of attempts; then the call certainly did not happen.
    """
    keeper = Keeper()
    keeper.refuse = code
    async with keeping(keeper) as url, resilient(at(url)) as client:
        with pytest.raises(CallFailed) as caught:
            await client.call("echo", {"text": "hi"})
        keeper.refuse = ""
        await client.call("echo", {"text": "hi"})

    assert caught.value.kind == code
    assert client.results().retries == QUICK.attempts - 1
    assert len(keeper.hellos) == 1


async def test_a_refusal_that_lasts_is_not_tried_again() -> None:
    """
    The arguments will not be better the next time; and the breaker counts nothing.
    """
    keeper = Keeper()
    keeper.refuse = "VALIDATION_ERROR"
    breaker = Breaker("daemon", clock=now, settings=BreakerSettings(failures=1))
    async with keeping(keeper) as url, resilient(at(url), breaker=breaker) as client:
        with pytest.raises(CallFailed):
            await client.call("echo", {"text": "hi"})
        with pytest.raises(InvalidValue):
            await client.call("echo", {"text": object()})

    assert client.results().retries == 0
    assert breaker.state == "closed"


async def test_repeats_end_with_the_budget() -> None:
    """
    Two repeats are there; a third call is not repeated any more, and says so by its end.
    """
    keeper = Keeper()
    keeper.refuse = "OVER_CAPACITY"
    retry = RetrySettings(attempts=2, base_s=0.001, budget=2)
    async with keeping(keeper) as url, resilient(at(url), retry=retry) as client:
        for _ in range(5):
            with pytest.raises(CallFailed):
                await client.call("echo", {"text": "hi"})

    assert client.results().retries == 2
    assert (client.budget.spent, client.budget.refused) == (2, 3)
    figures = client.metrics.snapshot().retries
    assert (figures.attempts, figures.failures) == (2, 2)


async def test_one_loss_counts_against_the_daemon_once() -> None:
    """
    Twenty calls under way on the connection that breaks: one failure, and the breaker is closed.
    """
    keeper = Keeper()
    keeper.before_answer = once(end_with_rst)
    breaker = Breaker("daemon", clock=now, settings=BreakerSettings(failures=2))
    async with keeping(keeper) as url, resilient(at(url), breaker=breaker) as client:
        ends = await asyncio.gather(
            *(client.call("echo", {"text": "hi"}) for _ in range(20)), return_exceptions=True
        )
        assert sum(isinstance(end, CallUnknown) for end in ends) >= 2
        assert breaker.state == "closed"
        assert (await client.call("echo", {"text": "hi"})).text == "hi"


async def test_a_connection_that_does_not_come_about_counts_once() -> None:
    """
    However many calls waited for it.
    """
    breaker = Breaker("daemon", clock=now, settings=BreakerSettings(failures=2))
    once_only = RetrySettings(attempts=1)
    async with resilient(at("ws://127.0.0.1:9"), breaker=breaker, retry=once_only) as client:
        await asyncio.gather(
            *(client.call("echo", {"text": "hi"}) for _ in range(20)), return_exceptions=True
        )

    assert breaker.report().failures_in_a_row == 1


async def test_a_daemon_that_accepts_and_closes_is_not_well_for_having_accepted() -> None:
    """
    Each connection comes about, each call is lost: the breaker opens all the same.
    """
    keeper = Keeper()
    keeper.before_answer = end_with_rst
    breaker = Breaker("daemon", clock=now, settings=BreakerSettings(failures=3))
    async with keeping(keeper) as url, resilient(at(url), breaker=breaker) as client:
        for _ in range(3):
            with pytest.raises(CallUnknown):
                await client.call("echo", {"text": "hi"})

    assert breaker.state == "open"


async def test_a_peer_that_vanished_is_left_after_a_time_limit(here: Place) -> None:
    """
    It acknowledges nothing any more and says nothing: the next attempt has a new connection.
    """
    async with resilient(
        lambda session_id: here.client(session_id=session_id, call_timeout_s=0.2)
    ) as client:
        await client.call("echo", {"text": "hi"})
        vanished = client.session
        async with here.inject(Timeout(stream="downstream", timeout_ms=0)):
            with pytest.raises(CallUnknown) as caught:
                await client.call("echo", {"text": "hi"})
            await until(lambda: client.session is not vanished)
        assert (await client.call("echo", {"text": "hi"})).text == "hi"

    assert caught.value.kind == "time_limit"
    assert client.results().reconnections == 1


async def test_a_daemon_that_is_slow_keeps_its_connection(here: Place) -> None:
    """
    Its WebSocket answers while its tool works: other calls on it are not given up.
    """
    async with resilient(
        lambda session_id: here.client(session_id=session_id), retry=RetrySettings(attempts=1)
    ) as client:
        slow = asyncio.create_task(client.call("sleep", {"ms": 1000}, timeout_s=5))
        with pytest.raises(CallUnknown):
            await client.call("sleep", {"ms": 1000}, timeout_s=0.1)
        await slow

    assert client.results().reconnections == 0


async def test_a_language_of_one_call_at_a_time_is_taken_in_turns() -> None:
    """
    Five calls at once are answered; after one that was given up there is a new connection.
    """

    async def late(connection: ServerConnection, message: str | bytes) -> None:
        if message != "late":
            await connection.send(f"{message}!")

    async with (
        bare(late) as url,
        resilient(lambda _: Session(url, dialect=Plain()), retry=QUICK) as client,
    ):
        replies = await asyncio.gather(*(client.call(f"{n}") for n in range(5)))
        assert [reply.text for reply in replies] == ["0!", "1!", "2!", "3!", "4!"]
        with pytest.raises(CallUnknown):
            await client.call("late", timeout_s=0.2)
        assert (await client.call("again")).text == "again!"

    results = client.results()
    assert (results.ok, results.unknown, results.reconnections) == (6, 1, 1)


async def test_what_may_have_happened_stays_so_whatever_a_later_attempt_meets() -> None:
    """
    The second connection cannot even be made, by a mistake of the caller's.
    """
    keeper = Keeper("keys")
    keeper.before_answer = once(end_with_rst)
    made = 0

    def open_session(session_id: str | None) -> Session:
        nonlocal made
        made += 1
        if made > 1:
            raise InvalidValue("no more")
        return session(url)

    async with keeping(keeper) as url, resilient(open_session) as client:
        with pytest.raises(CallUnknown) as caught:
            await client.call("echo", {"text": "hi"})

    assert caught.value.kind == "connection_lost"
    assert isinstance(caught.value.__cause__, InvalidValue)
    assert client.results().unknown == 1


@pytest.mark.parametrize("then", ["refused by the daemon", "no connection", "breaker open"])
async def test_what_may_have_happened_did_not_certainly_fail_because_a_later_attempt_did(
    then: str,
) -> None:
    """
    The first attempt ran and its reply was lost; what came after proves nothing of that.
    """
    keeper = Keeper("keys")
    breaker = patient()
    listening = True

    def lose(connection: ServerConnection) -> None:
        nonlocal listening
        end_with_rst(connection)
        listening = then != "no connection"
        keeper.refuse = "OVER_CAPACITY" if then == "refused by the daemon" else ""
        if then == "breaker open":
            breaker.adopt(BreakerSettings(failures=1))

    keeper.before_answer = lose

    def open_session(session_id: str | None) -> Session:
        return session(url if listening else "ws://127.0.0.1:9")

    async with keeping(keeper) as url, resilient(open_session, breaker=breaker) as client:
        with pytest.raises(CallUnknown) as caught:
            await client.call("echo", {"text": "hi"}, key="k")

    assert caught.value.kind == "connection_lost"
    assert dict(caught.value.details)["means"] == "it may have happened"
    assert int(dict(caught.value.details)["attempts"].split(",")[0]) >= 2
    assert list(keeper.ran.values()) == [1]
    assert (client.results().unknown, client.results().failed) == (1, 0)


async def test_an_open_breaker_refuses_before_anybody_waits_for_a_connection() -> None:
    """
    The next connection would be waited for for an hour; the refusal is not.
    """
    patience = RetrySettings(attempts=1, base_s=3600, cap_s=3600, jitter="none")
    breaker = Breaker("daemon", clock=now, settings=BreakerSettings(failures=1))
    async with resilient(at("ws://127.0.0.1:9"), retry=patience, breaker=breaker) as client:
        with pytest.raises(CallFailed):
            await client.call("echo", {"text": "hi"})
        async with asyncio.timeout(10):
            with pytest.raises(CallFailed) as refused:
                await client.call("echo", {"text": "hi"})

    assert refused.value.kind == "breaker_open"
    assert client.metrics.snapshot().connections.failed == 1


async def test_a_client_that_was_left_connects_no_more() -> None:
    """
    A call waits for its next attempt, its connection is lost, and the block is left.
    """
    keeper = Keeper()
    keeper.refuse = "OVER_CAPACITY"
    async with keeping(keeper) as url:
        async with resilient(at(url), retry=SLOW) as client:
            waits = asyncio.create_task(client.call("echo", {"text": "hi"}))
            await until(lambda: client.results().retries == 1)
        with pytest.raises(CallFailed, match="closed meanwhile"):
            await waits

    assert len(keeper.hellos) == 1


async def test_what_was_never_a_call_is_in_no_figure() -> None:
    """
    Arguments that cannot be sent.
    """
    async with keeping(Keeper()) as url, resilient(at(url)) as client:
        with pytest.raises(InvalidValue):
            await client.call("echo", {"text": object()})

    assert client.results().calls == 0


async def test_the_error_of_several_attempts_says_one_thing() -> None:
    """
    How many there were, how long all took, and what that means: each once.
    """
    keeper = Keeper("keys")
    keeper.before_answer = end_with_rst
    retry = RetrySettings(attempts=3, base_s=0.001, cap_s=0.001)
    async with keeping(keeper) as url, resilient(at(url), retry=retry) as client:
        with pytest.raises(CallUnknown) as caught:
            await client.call("echo", {"text": "hi"}, key="k")

    labels = [label for label, _ in caught.value.details]
    assert labels[:3] == ["attempts", "elapsed", "means"]
    assert len(set(labels)) == len(labels)
    assert dict(caught.value.details)["attempts"] == "3, of key k"


def test_a_client_belongs_to_one_loop() -> None:
    """
    In another it says so, instead of waiting for what never comes.
    """
    client = resilient(at("ws://127.0.0.1:9"))
    asyncio.run(client.__aenter__())

    with pytest.raises(InvalidValue, match="entered in another event loop"):
        asyncio.run(client.call("echo"))


async def test_calls_at_once_wait_for_one_connection() -> None:
    """
    Twenty calls, before there is a connection and after it was lost: one hello each time.
    """
    keeper = Keeper("keys")
    async with keeping(keeper) as url, resilient(at(url)) as client:
        await asyncio.gather(*(client.call("echo", {"text": "hi"}) for _ in range(20)))
        assert len(keeper.hellos) == 1
        assert client.session is not None
        keeper.before_answer = once(end_with_rst)
        await asyncio.gather(*(client.call("echo", {"text": "hi"}) for _ in range(20)))

    assert len(keeper.hellos) == 2
    assert set(keeper.ran.values()) == {1}


async def test_a_call_that_comes_just_as_a_connection_fails_tries_one_of_its_own() -> None:
    """
    What that one came to is not taken for the end of each of its attempts, without a wait.
    """
    late: list[asyncio.Task[Any]] = []
    opened = 0

    class Refused(Session):
        async def __aenter__(self) -> Self:
            try:
                return await super().__aenter__()
            finally:
                if not late:
                    # It has its turn before anybody is told how this ended.
                    late.append(asyncio.create_task(client.call("echo", {"text": "late"})))

    def open_session(session_id: str | None) -> Session:
        nonlocal opened
        opened += 1
        return Refused("ws://127.0.0.1:9", dialect=Exai())

    async with resilient(open_session) as client:
        with pytest.raises(CallFailed):
            await client.call("echo", {"text": "hi"})
        with pytest.raises(CallFailed):
            await late[0]

    assert opened >= 1 + QUICK.attempts


async def test_a_caller_that_gives_up_takes_no_connection_from_others() -> None:
    """
    One of two is cancelled while both wait for it.
    """
    keeper = Keeper()
    async with keeping(keeper) as url, resilient(at(url)) as client:
        first = asyncio.create_task(client.call("echo", {"text": "first"}))
        second = asyncio.create_task(client.call("echo", {"text": "second"}))
        await asyncio.sleep(0)
        first.cancel()
        reply = await second

    assert reply.text == "second"
    assert len(keeper.hellos) == 1


async def test_nobody_there_is_a_call_that_did_not_happen() -> None:
    """
    After all its attempts; with what kept it from leaving.
    """
    async with resilient(at("ws://127.0.0.1:9")) as client:
        with pytest.raises(CallFailed) as caught:
            await client.call("echo", {"text": "hi"}, key="k")

    assert caught.value.kind == "connection_refused"
    assert f"{QUICK.attempts}, of key k" in str(caught.value)
    assert client.metrics.snapshot().connections.failed == QUICK.attempts


async def test_a_refused_token_is_not_tried_again(tmp_path: Path) -> None:
    """
    It would be refused as often as it is shown.
    """
    async with (
        Place(tmp_path, Reference(token="right")) as here,
        resilient(at(here.url, token="wrong")) as client,
    ):
        with pytest.raises(CallFailed) as caught:
            await client.call("echo", {"text": "hi"})

    assert "refused the token" in str(caught.value)
    assert client.metrics.snapshot().connections.failed == 1


@pytest.mark.timeout(120)
async def test_a_breaker_opens_by_real_refusals_and_closes_again(here: Place) -> None:
    """
    Three refused connections open it; while it is open nobody connects; two calls close it.
    """
    seen: list[Transition] = []
    settings = BreakerSettings(failures=3, open_s=0.3, successes=2, probes=1)
    breaker = Breaker("daemon", clock=now, settings=settings, observers=(seen.append,))
    once_only = RetrySettings(attempts=1, base_s=0.001)
    async with resilient(
        lambda session_id: here.client(session_id=session_id), breaker=breaker, retry=once_only
    ) as client:
        async with here.inject(Down()):
            for _ in range(3):
                with pytest.raises(CallFailed) as caught:
                    await client.call("echo", {"text": "hi"})
                assert caught.value.kind != "breaker_open"
            assert breaker.state == "open"
            tried = client.metrics.snapshot().connections.failed
            with pytest.raises(CallFailed) as refused:
                await client.call("echo", {"text": "hi"})
            assert refused.value.kind == "breaker_open"
            assert client.metrics.snapshot().connections.failed == tried == 3
        await until_half_open(breaker)
        for _ in range(2):
            assert (await client.call("echo", {"text": "hi"})).text == "hi"

    assert [each.after for each in seen] == ["open", "half_open", "closed"]
    figures = client.metrics.snapshot()
    assert figures.breaker_totals.refusals == 1
    assert (figures.messages.sent, figures.connections.total) == (2, 1)


async def until_half_open(breaker: Breaker) -> None:
    async with asyncio.timeout(10):
        while breaker.state == "open":
            left_s = breaker.report().retry_after_s
            await asyncio.sleep(0 if left_s is None else left_s)


@pytest.mark.toxic("reset_peer")
async def test_a_reset_in_the_middle_of_work_is_one_unknown_call(here: Place) -> None:
    """
    And the next one is answered, on a new connection.
    """
    async with resilient(lambda session_id: here.client(session_id=session_id)) as client:
        await client.call("echo", {"text": "hi"})
        async with here.inject(ResetPeer(stream="downstream")):
            with pytest.raises(CallUnknown):
                await client.call("counter", {"name": "n"}, key="once")
        assert (await client.call("echo", {"text": "hi"})).text == "hi"

    assert [effect.key for effect in here.effects()].count("once") == 1
    assert client.results().reconnections == 1


async def test_results_are_of_every_call() -> None:
    """
    All ends and all figures; percentiles are of the failed ones, too.
    """
    keeper = Keeper()
    async with keeping(keeper) as url, resilient(at(url)) as client:
        assert client.results().mean_ms is None
        for _ in range(10):
            await client.call("echo", {"text": "hi"})
        keeper.refuse = "VALIDATION_ERROR"
        with pytest.raises(CallFailed):
            await client.call("echo", {"text": "hi"})

    results = client.results()
    assert (results.calls, results.ok, results.failed) == (11, 10, 1)
    figures = [results.min_ms, results.median_ms, results.p95_ms, results.p99_ms, results.max_ms]
    assert figures == sorted(figures, key=lambda value: value or 0)
    assert results.stdev_ms is not None
    assert results.mean_ms is not None
    assert results.cv == pytest.approx(results.stdev_ms / results.mean_ms)


async def test_a_client_is_entered_once_and_calls_within() -> None:
    """
    Before and after, it says so; who waits for a connection when it is left is told.
    """
    client = resilient(at("ws://127.0.0.1:9"), retry=SLOW)
    with pytest.raises(InvalidValue, match="is not open"):
        await client.call("echo")
    async with client:
        waits = asyncio.create_task(client.call("echo", {"text": "hi"}))
        await until(lambda: client.results().retries == 1)
    with pytest.raises(CallFailed, match="closed meanwhile"):
        await waits
    with pytest.raises(InvalidValue, match="is not open"):
        await client.call("echo")
    with pytest.raises(InvalidValue, match="entered before"):
        await client.__aenter__()


def once(act: Callable[[ServerConnection], None]) -> Callable[[ServerConnection], None]:
    """Do it the first time, and nothing afterwards."""
    done = False

    def first(connection: ServerConnection) -> None:
        nonlocal done
        if not done:
            done = True
            act(connection)

    return first
