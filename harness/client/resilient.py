"""
A client that outlives its connections: reconnect, resume, retry by key, breaker, figures.

What it raises says as exactly as a `Session` what is known. One call is one intention with
one key, over all its attempts; after one attempt of which nobody knows, no later one makes
it certain that the call did not happen.

Rule: a call that may have happened is sent again only where that can do no harm: the daemon
at the other end of *this* connection promised to run each key once, or the caller said that
the tool may run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from harness.client.connecting import Connecting
from harness.client.reply import Reply
from harness.client.results import Results, Tally
from harness.client.session import Session
from harness.clock import Draws, fresh_id, now, now_ns
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
from harness.resilience.breaker import Breaker
from harness.resilience.metrics import Metrics

__all__ = ["KEYS", "RESUME", "ResilientSession"]

KEYS: Final = "keys"
"""The promise to run each idempotency key once, and to answer its repeats with what it did."""

RESUME: Final = "resume"
"""The promise to know a session again by its id, on another connection."""

# Of calls that did not happen, those that may the next time; the rest would fail alike.
_PASSING: Final = frozenset(
    {"not_connected", "out_of_step", "OVER_CAPACITY", "SERVICE_UNAVAILABLE"}
)
# Of connections that did not come about, those that never will.
_LASTING: Final = frozenset({"unauthorized", "tls"})


class ResilientSession:
    """
    Calls to one daemon over as many connections as it takes. Entered once, by `async with`.

    It connects when it is first needed. Calls may run at once; they share a connection, and
    the waiting for one.

    Args:
        open_session: Makes a session that was not opened yet; asked for that session id, where it
            is not None. `lambda session_id: Session(url, session_id=session_id, ...)`.
        retry: How often and how soon it tries again.
        breaker: In front of the daemon, for several clients perhaps; whoever made it has its
            changes counted. None makes one of this client's own.
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
            process, clock=now, observers=(self.metrics.breaker_changed,)
        )
        self.budget = RetryBudget(retry)
        self._figures = self.metrics.client(process)
        self._tally = Tally()
        self._name = f"{process}-{fresh_id()}"
        self._calls = 0
        self._connecting = Connecting(
            open_session,
            backoff=Backoff(retry, draws=Draws(seed, f"{process}/connect")),
            figures=self._figures,
            tally=self._tally,
            resumes=RESUME,
        )
        self._entered = False

    @property
    def session(self) -> Session | None:
        """The connection of the moment, None while there is none."""
        return self._connecting.session

    def results(self) -> Results:
        """What the calls so far came to."""
        return self._tally.results()

    async def __aenter__(self) -> Self:
        if self._entered:
            raise InvalidValue(
                f"the client {self._process} was entered before; it is entered once",
                [("next", "make a new one")],
            )
        self._entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connecting.close()

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
            InvalidValue: As `Session.call`; or if this client was not entered, or was left.
        """
        if not self._entered or self._connecting.closed:
            raise InvalidValue(
                f"the client {self._process} is not open",
                [("next", "call within its `async with` block")],
            )
        self._calls += 1
        intention = _Intention(
            key=key or f"{self._name}-{self._calls}",
            tool=tool,
            arguments=arguments,
            may_run_twice=may_run_twice,
            timeout_s=timeout_s,
            # A place of its own to draw at, whatever other calls do meanwhile.
            backoff=Backoff(
                self._retry, draws=Draws(self._seed, f"{self._process}/call/{self._calls}")
            ),
        )
        try:
            reply = await self._attempts(intention)
        except CallFailed:
            self._tally.failed += 1
            raise
        except (CallUnknown, asyncio.CancelledError):
            self._tally.unknown += 1
            raise
        else:
            self._tally.ok += 1
            return reply
        finally:
            self._tally.ended(intention.elapsed_ms)

    async def _attempts(self, intention: _Intention) -> Reply:
        while True:
            try:
                reply = await self._attempt(intention)
            except (CallError, ConnectFailed, BreakerOpen) as error:
                self._ended_badly(intention, error)
                if not self._may_repeat(intention, error):
                    intention.give_up(error, process=self._process)
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

    async def _attempt(self, intention: _Intention) -> Reply:
        intention.attempt += 1
        with self.breaker.admit() as permit:
            session = await self._connecting.connected()
            assert session.welcome is not None
            promised = KEYS in session.welcome.promises
            if intention.unknown is not None and not (promised or intention.may_run_twice):
                # Another daemon answers at that address by now, and promises less.
                permit.end("ignored")
                intention.repeatable = False
                raise intention.unknown
            intention.repeatable = promised or intention.may_run_twice
            reply = await session.call(
                intention.tool,
                intention.arguments,
                key=intention.key,
                attempt=intention.attempt,
                timeout_s=intention.timeout_s,
                intended_ns=intention.start_ns,
            )
            permit.returned(reply)
            return reply

    def _ended_badly(self, intention: _Intention, error: HarnessError) -> None:
        if intention.attempt > 1:
            self.metrics.retry_failed()
        if isinstance(error, BreakerOpen):
            self.metrics.breaker_refused(error.name)
        elif isinstance(error, CallError):
            self._figures.failed()
            if error.kind == "time_limit":
                self._figures.timed_out()
        if isinstance(error, CallUnknown):
            intention.unknown = error

    def _may_repeat(self, intention: _Intention, error: HarnessError) -> bool:
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


class _Intention:
    """One call, over all its attempts."""

    def __init__(
        self,
        *,
        key: str,
        tool: str | bytes,
        arguments: dict[str, Any] | None,
        may_run_twice: bool,
        timeout_s: float | None,
        backoff: Backoff,
    ) -> None:
        self.key = key
        self.tool = tool
        self.arguments = arguments
        self.may_run_twice = may_run_twice
        self.timeout_s = timeout_s
        self.backoff = backoff
        self.start_ns = now_ns()
        self.attempt = 0
        # The last attempt of which nobody knows, and whether one like it does no harm.
        self.unknown: CallUnknown | None = None
        self.repeatable = may_run_twice
        self.waits = False

    @property
    def elapsed_ms(self) -> float:
        return (now_ns() - self.start_ns) / 1e6

    def give_up(self, error: HarnessError, *, process: str) -> NoReturn:
        """Raise what is known of it after its last attempt."""
        unknown = self.unknown is not None
        if isinstance(error, CallError) and isinstance(error, CallUnknown) == unknown:
            raise error
        if self.unknown is not None:
            kind, request_id = self.unknown.kind, self.unknown.request_id
        else:
            kind, request_id = _kind_of(error), self.key
        raise (CallUnknown if unknown else CallFailed)(
            f"call of {process}: {error.headline}",
            [
                ("attempts", f"{self.attempt}, of key {self.key}"),
                ("elapsed", f"{self.elapsed_ms:.1f} ms"),
                ("means", "it may have happened" if unknown else "it did not happen"),
                *error.details,
            ],
            kind=kind,
            request_id=request_id,
            elapsed_ms=self.elapsed_ms,
        ) from error


def _kind_of(error: HarnessError) -> str:
    """The kind of a call that never left, by what kept it."""
    if isinstance(error, BreakerOpen):
        return error.kind
    refused = isinstance(error, ConnectFailed) and error.kind == "refused"
    return "connection_refused" if refused else "not_connected"
