"""
A client that outlives its connections: reconnect, resume, retry by key, breaker, figures.

What it raises says as exactly as a `Session` what is known. One call is one intention with
one key, over all its attempts; after one attempt of which nobody knows, no later one makes
it certain that the call did not happen.

Rule: a call that may have happened is sent again only where that can do no harm: the daemon
at the other end of *this* connection promised to run each key once and remembers the session,
or the caller said that the tool may run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import Any, Final, Self

from harness.client.connecting import Connecting
from harness.client.intention import Intention
from harness.client.reply import Reply
from harness.client.results import Results, Tally
from harness.client.session import Session
from harness.clock import Draws, fresh_id, now
from harness.errors import (
    BreakerOpen,
    CallError,
    CallFailed,
    CallUnknown,
    ConnectFailed,
    HarnessError,
    InvalidValue,
)
from harness.resilience.backoff import Backoff, RetryBudget, RetrySettings
from harness.resilience.breaker import Breaker, BreakerSettings, Permit
from harness.resilience.metrics import Metrics

__all__ = ["KEYS", "OWN_BREAKER", "RESUME", "ResilientSession"]

KEYS: Final = "keys"
"""The promise to run each idempotency key once, and to answer its repeats with what it did."""

RESUME: Final = "resume"
"""The promise to know a session again by its id, on another connection."""

OWN_BREAKER: Final = BreakerSettings(failures=10, open_s=2.0, half_open_s=10.0)
"""
A client's own breaker. Waits between connections keep a dead daemon from being pestered
already; what is left to it is that callers are refused at once, and not for long.
"""

_Send = Callable[[Session], Awaitable[Reply]]

# Of calls that did not happen, those that may the next time; the rest would fail alike.
_PASSING: Final = frozenset(
    {"not_connected", "out_of_step", "OVER_CAPACITY", "SERVICE_UNAVAILABLE"}
)
# Of connections that did not come about, those that never will.
_LASTING: Final = frozenset({"unauthorized", "tls"})


class ResilientSession:
    """
    Calls to one daemon over as many connections as it takes. Entered once, by `async with`.

    It connects when it is first needed, or by `connect`. Calls may run at once; they share a
    connection, and the waiting for one. Where the dialect has one call at a time, they wait for
    one another. All of it belongs to the event loop it was entered in.

    Args:
        open_session: Makes a session that was not opened yet; asked for that session id, where it
            is not None. `lambda session_id: Session(url, session_id=session_id, ...)`.
        retry: How often and how soon it tries again.
        breaker: In front of the daemon, for several clients perhaps; whoever made it has its
            changes counted. None makes one of this client's own, `OWN_BREAKER`. A connection
            that did not come about, or was lost, counts against the daemon once, however many
            calls it had. While it is open, calls are refused at once, attempts left or not.
        metrics: Where it counts: connections, and each answered call as sent and received, with
            the time until its answer. None makes one of its own.
        process: Who calls: the client's name in metrics, in keys, and for the draws.
        seed: The root seed of its waits.

    Attributes:
        breaker: The breaker in front of the daemon.
        metrics: The figures.
        budget: How many repeats may still be made.
    """

    def __init__(
        self,
        open_session: Callable[[str | None], Session],
        *,
        retry: RetrySettings = RetrySettings(),  # noqa: B008 (frozen)
        breaker: Breaker | None = None,
        metrics: Metrics | None = None,
        process: str = "client",
        seed: int = 0,
    ) -> None:
        self._retry = retry
        self._process = process
        self._seed = seed
        self.metrics = Metrics(clock=now) if metrics is None else metrics
        self.breaker = breaker or Breaker(
            process, clock=now, settings=OWN_BREAKER, observers=(self.metrics.breaker_changed,)
        )
        self.budget = RetryBudget(retry)
        self._figures = self.metrics.client(process)
        self._tally = Tally()
        self._name = f"{process}-{fresh_id()}"
        self._calls = 0
        self._connecting = Connecting(
            open_session,
            backoff=Backoff(retry, draws=Draws(seed, f"{process}/connect")),
            breaker=self.breaker,
            figures=self._figures,
            tally=self._tally,
            resumes=RESUME,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()

    @property
    def session(self) -> Session | None:
        """The connection of the moment, None while there is none."""
        return self._connecting.session

    def results(self) -> Results:
        """What the calls so far came to."""
        return self._tally.results()

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise InvalidValue(
                f"the client {self._process} was entered before; it is entered once",
                [("next", "make a new one")],
            )
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connecting.close()

    async def connect(self) -> None:
        """
        Connect now, rather than with the first call.

        Raises:
            ConnectFailed: If no session came about.
            BreakerOpen: If the breaker let nothing through.
            InvalidValue: If this client is not open.
        """
        self._refuse_elsewhere()
        await self._connecting.connected()

    async def call(
        self,
        tool: str | bytes,
        arguments: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        may_run_twice: bool = False,
        timeout_s: float | None = None,
    ) -> Reply:
        """
        Run a tool, in up to `retry.attempts` attempts.

        Args:
            tool: Its name.
            arguments: What it is given; JSON.
            key: The intention's idempotency key; None makes one.
            may_run_twice: Whether it does no harm if it runs more than once. Then it is repeated
                also where the daemon promised nothing.
            timeout_s: The time limit of each attempt, in seconds; None takes the session's.

        Raises:
            CallFailed: If it certainly did not happen.
            CallUnknown: If it may have happened.
            InvalidValue: As `Session.call`; or if this client is not open, or not in this loop.
        """
        self._refuse_elsewhere()
        self._calls += 1
        intention = Intention(
            key=key or f"{self._name}-{self._calls}",
            may_run_twice=may_run_twice,
            # A place of its own to draw at, whatever other calls do meanwhile.
            backoff=Backoff(
                self._retry, draws=Draws(self._seed, f"{self._process}/call/{self._calls}")
            ),
        )

        async def send(session: Session) -> Reply:
            return await session.call(
                tool,
                arguments,
                key=intention.key,
                attempt=intention.attempt,
                timeout_s=timeout_s,
                intended_ns=intention.start_ns,
            )

        try:
            reply = await self._attempts(intention, send)
        except CallFailed:
            self._tally.ended("failed", intention.elapsed_ms)
            raise
        except (CallUnknown, asyncio.CancelledError):
            self._tally.ended("unknown", intention.elapsed_ms)
            raise
        self._tally.ended("ok", intention.elapsed_ms)
        return reply

    def _refuse_elsewhere(self) -> None:
        if self._loop is None or self._connecting.closed:
            raise InvalidValue(
                f"the client {self._process} is not open",
                [("next", "call within its `async with` block")],
            )
        if self._loop is not asyncio.get_running_loop():
            raise InvalidValue(
                f"the client {self._process} was entered in another event loop",
                [("next", "make one for each loop")],
            )

    async def _attempts(
        self, intention: Intention, send: Callable[[Session], Awaitable[Reply]]
    ) -> Reply:
        while True:
            try:
                reply = await self._attempt(intention, send)
            except (CallError, ConnectFailed, BreakerOpen) as error:
                self._ended_badly(intention, error)
                if not self._may_repeat(intention, error):
                    raise intention.given_up(error) from error.__cause__
            except Exception as error:
                # Whatever it was: an attempt before it may have happened.
                if intention.unknown is not None:
                    raise intention.unknown from error
                raise
            else:
                if intention.attempt > 1:
                    self.metrics.retry_succeeded()
                self.budget.succeeded()
                self._figures.received()
                self._figures.sent(int(intention.elapsed_ms * 1e6))
                self._connecting.answered()
                return reply
            # A lost connection is waited for by whoever connects, once for all.
            if intention.waits:
                await asyncio.sleep(intention.backoff.next_s())

    async def _attempt(
        self, intention: Intention, send: Callable[[Session], Awaitable[Reply]]
    ) -> Reply:
        intention.attempt += 1
        # Who would be refused waits for no connection; the place is for the call itself.
        self.breaker.admit().end("ignored")
        session = await self._connecting.connected()
        turn: AbstractAsyncContextManager[Any] = nullcontext()
        if session.one_at_a_time:
            turn = self._turn
        async with turn:
            # The one before may have ended it.
            session = await self._connecting.connected()
            assert session.welcome is not None
            promised = KEYS in session.welcome.promises
            if not intention.may_be_sent(promised=promised, memory=self._connecting.memory):
                # Another daemon answers at that address by now: it promises less, or it does not
                # remember the session, and so the key.
                assert intention.unknown is not None
                raise intention.unknown
            with self.breaker.admit() as permit:
                try:
                    reply = await send(session)
                except CallError as error:
                    self._count(permit, session, error)
                    raise
                permit.returned(reply)
                return reply

    def _count(self, permit: Permit, session: Session, error: CallError) -> None:
        """What a failed call says of the daemon; a lost connection says it once."""
        lost = error.kind in ("connection_lost", "not_connected")
        if lost and not self._connecting.is_first_loss(session):
            permit.end("ignored")
        elif error.kind == "time_limit":
            # Late, or gone without a word: the next attempt must not wait for the latter.
            self._connecting.doubt(session)

    def _ended_badly(self, intention: Intention, error: HarnessError) -> None:
        if intention.attempt > 1:
            self.metrics.retry_failed()
        if isinstance(error, BreakerOpen):
            self.metrics.breaker_refused(error.name)
        elif isinstance(error, CallError) and error is not intention.unknown:
            self._figures.failed()
            if error.kind == "time_limit":
                self._figures.timed_out()
        if isinstance(error, CallUnknown):
            intention.unknown = error

    def _may_repeat(self, intention: Intention, error: HarnessError) -> bool:
        """Whether there is another attempt; then it is paid for."""
        if isinstance(error, BreakerOpen) or self._connecting.closed:
            return False
        if intention.attempt >= self._retry.attempts:
            return False
        if intention.unknown is not None and not intention.repeatable:
            return False
        if isinstance(error, ConnectFailed):
            passing = error.kind not in _LASTING
        else:
            passing = isinstance(error, CallUnknown) or getattr(error, "kind", "") in _PASSING
        if not passing or not self.budget.take():
            return False
        intention.waits = isinstance(error, CallError) and self._connecting.session is not None
        self._tally.retries += 1
        self.metrics.retry_began()
        return True
