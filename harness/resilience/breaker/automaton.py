"""
A circuit breaker: closed, open, half-open.

No clock here: it is handed one. Nothing here awaits, so the same breaker serves plain
and asynchronous code, and many calls may be under way at once; off the path of a
success in a closed breaker a lock guards it, so threads may share it.

The states, and what leads from one to the next:

    closed     -> open       the policy says so: failures in a row, or a window's rates
    open       -> half_open  `open_s` seconds have passed; seen at the next look or call
    half_open  -> closed     `successes` probes succeeded
    half_open  -> open       a probe failed or was slow, or `half_open_s` passed without a verdict
    any        -> closed     `reset`

Each change begins a new epoch. Rule: a call that was let in in one epoch moves nothing in
another, and gives its place back however it ends.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from threading import Lock
from typing import Final, ParamSpec, TypeVar, TypeVarTuple

from harness.errors import BreakerOpen
from harness.resilience.breaker.counting import Counting, Verdict
from harness.resilience.breaker.permit import Permit
from harness.resilience.breaker.protecting import protected
from harness.resilience.breaker.values import BreakerReport, BreakerSettings, State, Transition
from harness.resilience.breaker.windows import Window, window_of

__all__ = ["Breaker", "Observer"]

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

Observer = Callable[[Transition], None]

_log = logging.getLogger(__name__)
_COUNTING: Final = Counting()


class Breaker:
    """
    Keeps calls away from a peer that does not answer them.

    Four ways to use it, which count alike: `breaker.call(function, ...)`,
    `await breaker.call_async(function, ...)`, `@breaker.protect` on either kind of function,
    and `with breaker.admit():` around any code, awaiting or not.

    Args:
        name: Whose breaker it is, for errors and events.
        settings: When it opens and closes.
        clock: Seconds that only go forward, `harness.clock.now` for instance.
        counting: What counts as failure.
        observers: Told of each change of state, after it. What they raise is logged and harms
            no call.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Callable[[], float],
        settings: BreakerSettings = BreakerSettings(),  # noqa: B008 (frozen)
        counting: Counting = _COUNTING,
        observers: tuple[Observer, ...] = (),
    ) -> None:
        self.name = name
        self._clock = clock
        self._counting = counting
        self._observers = observers
        self._lock = Lock()
        self._untold: list[Transition] = []
        self._state: State = "closed"
        self._since_s = clock()
        self._epoch = 0
        self._streak = 0
        self._probing = 0
        self._successes = 0
        self._refusals = 0
        self._stale = 0
        self._opens = 0
        self._adopt(settings)

    def __repr__(self) -> str:
        return f"Breaker({self.name!r}, {self._state})"

    # ---- what state it is in

    @property
    def state(self) -> State:
        """The state now: one that has been open for long enough is half-open, called or not."""
        if self._state != "closed":
            with self._lock:
                self._settle()
            self._tell()
        return self._state

    @property
    def is_closed(self) -> bool:
        """Whether it lets every call through."""
        return self._state == "closed"

    @property
    def settings(self) -> BreakerSettings:
        """What it goes by."""
        return self._settings

    def report(self) -> BreakerReport:
        """What there is to know of it, at this moment."""
        with self._lock:
            retry_after_s = self._settle()
            calls, failed, slow = (0, 0, 0) if self._window is None else self._window.counts
            report = BreakerReport(
                name=self.name,
                state=self._state,
                since_s=self._since_s,
                retry_after_s=retry_after_s,
                failures_in_a_row=self._streak,
                window_calls=calls,
                window_failed=failed,
                window_slow=slow,
                probing=self._probing,
                refusals=self._refusals,
                stale=self._stale,
                opens=self._opens,
            )
        self._tell()
        return report

    def watch(self, observer: Observer) -> None:
        """Tell this one, too, of each change of state."""
        self._observers = (*self._observers, observer)

    # ---- calls

    def call(self, function: Callable[[*Ts], R], /, *args: *Ts) -> R:
        """
        Call a function, if the breaker lets it through.

        Keywords go by `functools.partial`, as asyncio has it: a place for them would cost every
        call a third of what the breaker costs.

        Raises:
            BreakerOpen: If it does not; the function was not called.
        """
        # First: should another thread open it after this, the call is of the old epoch.
        epoch = self._epoch
        if not self._quick:
            return self._call_noting(epoch, function, *args)
        try:
            result = function(*args)
        except BaseException as error:
            self._end(epoch, self._counting.of_error(error), None)
            raise
        if self._streak:
            self._end(epoch, "success", None)
        return result

    def _call_noting(self, epoch: int, function: Callable[[*Ts], R], *args: *Ts) -> R:
        """A call of which even a success must be noted."""
        if self._state != "closed":
            with self.admit() as permit:
                result = function(*args)
                permit.returned(result)
                return result
        started_s = self._clock() if self._timed else None
        try:
            result = function(*args)
        except BaseException as error:
            self._end(epoch, self._counting.of_error(error), started_s)
            raise
        self._end(epoch, self._counting.of_result(result), started_s)
        return result

    async def call_async(self, function: Callable[[*Ts], Awaitable[R]], /, *args: *Ts) -> R:
        """Await what a function returns, if the breaker lets it through. As `call`."""
        epoch = self._epoch
        if not self._quick:
            return await self._call_noting_async(epoch, function, *args)
        try:
            result = await function(*args)
        except BaseException as error:
            self._end(epoch, self._counting.of_error(error), None)
            raise
        if self._streak:
            self._end(epoch, "success", None)
        return result

    async def _call_noting_async(
        self, epoch: int, function: Callable[[*Ts], Awaitable[R]], *args: *Ts
    ) -> R:
        if self._state != "closed":
            with self.admit() as permit:
                result = await function(*args)
                permit.returned(result)
                return result
        started_s = self._clock() if self._timed else None
        try:
            result = await function(*args)
        except BaseException as error:
            self._end(epoch, self._counting.of_error(error), started_s)
            raise
        self._end(epoch, self._counting.of_result(result), started_s)
        return result

    def protect(self, function: Callable[P, R]) -> Callable[P, R]:
        """
        A decorator, for functions and for coroutine functions; keywords are fine here.

        Raises:
            InvalidValue: If it is a generator function: calling one does nothing yet.
        """
        return protected(self.call, self.call_async, function)

    def admit(self) -> Permit:
        """
        A permit for one call, to be entered by `with`, or ended by hand.

        Raises:
            BreakerOpen: If there is none to be had.
        """
        permit: Permit | None = None
        with self._lock:
            retry_after_s = self._settle()
            if self._state == "closed" or (
                self._state == "half_open" and self._probing < self._settings.probes
            ):
                self._probing += self._state == "half_open"
                started_s = self._clock() if self._timed else None
                permit = Permit(self._end, self._counting, self._epoch, started_s)
            else:
                self._refusals += 1
        self._tell()
        if permit is None:
            if retry_after_s is None:
                how = f"breaker {self.name} is half-open, and its probes are under way"
            else:
                how = f"breaker {self.name} is open for another {retry_after_s:.3g} s"
            raise BreakerOpen(how, name=self.name, retry_after_s=retry_after_s)
        return permit

    # ---- by hand

    def reset(self) -> None:
        """Close it, whatever it has seen; calls under way count no more."""
        with self._lock:
            if self._state == "closed":
                self._epoch += 1
                self._forget()
            else:
                self._move("closed", self._clock(), "reset by hand")
        self._tell()

    def adopt(self, settings: BreakerSettings) -> None:
        """Go by other settings from now on. The state stays; a window starts anew."""
        with self._lock:
            self._adopt(settings)

    # ---- the automaton; the lock is held

    def _adopt(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._window: Window | None = window_of(settings)
        self._timed = settings.slow_call_s is not None
        self._mark_quick()

    def _mark_quick(self) -> None:
        """Whether a success needs no note, but that a row of failures is over."""
        self._quick = (
            self._state == "closed" and self._window is None and self._counting.kind_of is None
        )

    def _settle(self) -> float | None:
        """Do what time has brought about; for how many seconds it is still open, None if not."""
        if self._state == "closed":
            return None
        now_s = self._clock()
        # One that went back must not keep a breaker open for longer than it was to be.
        self._since_s = min(self._since_s, now_s)
        settings = self._settings
        if self._state == "half_open" and now_s >= self._since_s + settings.half_open_s:
            why = f"half-open for {settings.half_open_s:g} s without a verdict"
            self._move("open", self._since_s + settings.half_open_s, why)
        if self._state != "open":
            return None
        # One sum and one look at the clock, or "another 0 s" and less could be refused.
        until_s = self._since_s + settings.open_s
        if now_s < until_s:
            return until_s - now_s
        self._move("half_open", now_s, f"open for {settings.open_s:g} s")
        return None

    def _end(self, epoch: int, verdict: Verdict, started_s: float | None) -> None:
        """A call that was let in has ended. Takes the lock."""
        with self._lock:
            if self._state != "closed":
                # A half-open time that has run out ends before what comes too late for it.
                self._settle()
            if epoch != self._epoch:
                self._stale += 1
            elif self._state == "half_open":
                self._probing -= 1
                self._end_probe(verdict, self._clock(), started_s)
            elif verdict != "ignored":
                self._end_closed(verdict == "failure", started_s)
        if self._untold:
            self._tell()

    def _end_probe(self, verdict: Verdict, now_s: float, started_s: float | None) -> None:
        if verdict == "failure":
            self._move("open", now_s, "a probe failed")
        elif verdict == "success" and self._is_slow(now_s, started_s):
            self._move("open", now_s, "a probe was slow")
        elif verdict == "success":
            self._successes += 1
            if self._successes >= self._settings.successes:
                self._move("closed", now_s, f"{self._successes} probes succeeded")

    def _end_closed(self, failed: bool, started_s: float | None) -> None:  # noqa: FBT001
        self._streak = self._streak + 1 if failed else 0
        if self._window is None:
            if self._streak >= self._settings.failures:
                self._move("open", self._clock(), f"{self._streak} calls failed in a row")
            return
        now_s = self._clock()
        slow = self._timed and self._is_slow(now_s, started_s)
        why = self._window.record(now_s, failed, slow)
        if why is not None:
            self._move("open", now_s, why)

    def _is_slow(self, now_s: float, started_s: float | None) -> bool:
        limit_s = self._settings.slow_call_s
        return limit_s is not None and started_s is not None and now_s - started_s >= limit_s

    def _move(self, after: State, at_s: float, why: str) -> None:
        before, self._state = self._state, after
        self._since_s = at_s
        self._epoch += 1
        self._opens += after == "open"
        self._forget()
        self._mark_quick()
        self._untold.append(
            Transition(
                name=self.name,
                epoch=self._epoch,
                at_s=at_s,
                before=before,
                after=after,
                why=why,
            )
        )

    def _forget(self) -> None:
        self._streak = self._probing = self._successes = 0
        self._window = window_of(self._settings)

    def _tell(self) -> None:
        """Tell the observers, the lock released: they may ask the breaker things."""
        while self._untold:
            try:
                transition = self._untold.pop(0)
            except IndexError:
                # Another thread told of it.
                return
            for observer in self._observers:
                try:
                    observer(transition)
                # Their mistake must not become the end of a call that went well.
                except Exception:  # noqa: BLE001
                    _log.exception("breaker %s: an observer failed", self.name)
