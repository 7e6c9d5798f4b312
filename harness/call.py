"""Calls to a daemon by hand: what it answered, or what is known of a call it did not answer."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from harness.client.reply import Reply
from harness.client.resilient import ResilientSession
from harness.client.results import Results
from harness.client.session import Session
from harness.clock import fresh_seed, now
from harness.dialects.base import Dialect
from harness.dialects.exai import Exai
from harness.dialects.plain import Plain
from harness.errors import (
    EXIT_INVALID,
    EXIT_UNKNOWN,
    EXIT_VALID,
    CallFailed,
    CallUnknown,
    ConnectFailed,
    InvalidValue,
)
from harness.program import complain
from harness.resilience.backoff import RetrySettings
from harness.resilience.breaker import Breaker, BreakerSettings

__all__ = ["Calls", "call"]

_DIALECTS: Final[Mapping[str, type[Dialect]]] = {"exai": Exai, "plain": Plain}
_PROGRAM: Final = "harness call"
_TELL_EACH_S: Final = 1.0
_LONGEST_WAIT_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Calls:
    """
    What is to be called, and how.

    Attributes:
        url: The daemon's address.
        tool: The tool's name; in the dialect plain, the message.
        arguments: Its arguments, a JSON object as text.
        dialect: The daemon's language.
        timeout_s: The time limit of an attempt, in seconds.
        attempts: How often a call is tried in all.
        may_run_twice: Whether it does no harm if it runs more than once.
        key: The idempotency key; None makes one for each call.
        count: How many calls, one after the other.
        token: The daemon's token.
        allow_remote: Whether the daemon may be on another machine.
    """

    url: str
    tool: str
    arguments: str
    dialect: Literal["exai", "plain"] = "exai"
    timeout_s: float = 2.0
    attempts: int = 3
    may_run_twice: bool = False
    key: str | None = None
    count: int = 1
    token: str | None = None
    allow_remote: bool = False


async def call(what: Calls) -> int:
    """
    Connect, say hello where the dialect has one, call, print replies; of many calls the figures.

    Returns:
        0 all answered; 1 one certainly did not happen; 2 one may have happened.

    Raises:
        InvalidValue: If the URL is none, or the arguments are no JSON object.
    """
    given = _object(what.arguments)

    def open_session(session_id: str | None) -> Session:
        return Session(
            what.url,
            dialect=_DIALECTS[what.dialect](),
            process="call",
            token=what.token,
            session_id=session_id,
            call_timeout_s=what.timeout_s,
            allow_remote=what.allow_remote,
        )

    # A mistake in the address is said before anything is tried.
    open_session(None)
    # By hand one waits for the daemon rather than be refused for its sake.
    patient = Breaker("by hand", clock=now, settings=BreakerSettings(failures=1_000_000))
    client = ResilientSession(
        open_session,
        retry=RetrySettings(attempts=what.attempts, cap_s=_LONGEST_WAIT_S),
        breaker=patient,
        process="call",
        seed=fresh_seed(),
    )
    said = _Said(what.count)
    try:
        async with client:
            # So that connecting is not in the first call's time; if it fails, that says why.
            with suppress(ConnectFailed):
                await client.connect()
            for _ in range(what.count):
                said.note(await _once(client, what, given))
    finally:
        said.the_rest()
        if what.count > 1 and client.results().calls:
            print("\n".join(_table(client.results())))
    return said.code


class _Said:
    """What was said of calls without a reply: the first of a kind, and how many more."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kinds: Counter[str] = Counter()
        self._done = 0
        self._told_s = now()
        self.code = EXIT_VALID

    def note(self, end: Reply | CallFailed | CallUnknown) -> None:
        """One call ended."""
        self._done += 1
        if isinstance(end, Reply):
            if self._count == 1:
                _tell(end)
        else:
            self.code = max(
                self.code, EXIT_UNKNOWN if isinstance(end, CallUnknown) else EXIT_INVALID
            )
            self._kinds[end.kind] += 1
            if self._kinds[end.kind] == 1:
                complain(_PROGRAM, end)
        if self._count > 1 and now() - self._told_s >= _TELL_EACH_S:
            self._told_s = now()
            print(f"{self._done} of {self._count} calls", file=sys.stderr)

    def the_rest(self) -> None:
        """How often more than once."""
        for kind, times in self._kinds.items():
            if times > 1:
                print(f"{_PROGRAM}: {times - 1} more ended so: {kind}", file=sys.stderr)


async def _once(
    client: ResilientSession, what: Calls, given: dict[str, Any]
) -> Reply | CallFailed | CallUnknown:
    try:
        return await client.call(what.tool, given, key=what.key, may_run_twice=what.may_run_twice)
    except (CallFailed, CallUnknown) as error:
        return error


def _tell(reply: Reply) -> None:
    if reply.failure is not None:
        print(f"{reply.failure.code}: {reply.failure.message}")
    else:
        print(reply.text)
    print(f"answered after {reply.elapsed_ms:.2f} ms", file=sys.stderr)


def _table(results: Results) -> Iterator[str]:
    """All figures, a line each; times from the start of a call to the end of its last attempt."""
    for name in ("calls", "ok", "failed", "unknown", "retries", "reconnections"):
        yield f"{name:<14}{getattr(results, name):>10,}"
    for name in ("mean", "median", "min", "max", "stdev", "p50", "p95", "p99"):
        value = getattr(results, f"{name}_ms")
        yield f"{name:<14}" + ("         -" if value is None else f"{value:>10.3f} ms")
    yield f"{'cv':<14}" + ("         -" if results.cv is None else f"{results.cv:>10.3f}")


def _object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidValue(
            f"the tool's arguments are no JSON object: {error}",
            [("found", text[:200]), ("next", 'quote them for the shell: \'{"text": "hi"}\'')],
        ) from None
