"""
Who is let in, and how much of it: connections, sessions, calls, messages.

No socket and no clock here: the time is handed in. Whoever serves asks before it does, and
says when something ended.

Rule: what is refused has taken nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from harness.resilience.buckets import AT_ONCE, Buckets, TokenBucket
from harness.resilience.settings import Settings, key

__all__ = ["Admission", "AdmissionSettings", "Gate", "Refused"]

_MOMENT_S: Final = 0.01

_BURST: Final = "how many messages {} may send at once, after a pause"
_RATE: Final = "how many messages a second {} may send for long"


@dataclass(frozen=True, kw_only=True)
class AdmissionSettings(Settings):
    """How many connections, sessions, calls and messages a daemon takes. All of it is live."""

    max_connections: int = key(
        1000,
        about="how many connections there may be; one more is closed with 1008",
        low=1,
        variable="MAX_CONNECTIONS",
        advice="each needs a descriptor; stay below the limit of the process",
    )
    max_connections_per_address: int = key(
        10,
        about="how many connections one address may have",
        low=1,
        variable="MAX_CONNECTIONS_PER_IP",
        advice="as many as max_connections behind a proxy, where all have its address",
    )
    max_sessions: int = key(
        100,
        about="how many sessions there may be",
        low=1,
        variable="SESSION_MAX_CONCURRENT",
        advice="one for each client that says hello",
    )
    max_inflight: int = key(
        24,
        about="how many calls may run at a time",
        low=1,
        variable="EXAI_WS_GLOBAL_MAX_INFLIGHT",
        advice="what the tools' own back ends bear",
    )
    max_inflight_per_session: int = key(
        8,
        about="how many calls of one session may run at a time",
        low=1,
        variable="EXAI_WS_SESSION_MAX_INFLIGHT",
    )
    messages_per_s: float | None = key(
        100.0,
        about=_RATE.format("all together"),
        above=0,
        variable="RATE_LIMIT_GLOBAL_REFILL_RATE",
        advice="above what was measured in a load test, or it is the bottleneck",
    )
    burst_messages: int = key(
        1000,
        about=_BURST.format("all together"),
        low=1,
        variable="RATE_LIMIT_GLOBAL_CAPACITY",
    )
    messages_per_s_per_address: float | None = key(
        10.0,
        about=_RATE.format("one address"),
        above=0,
        variable="RATE_LIMIT_IP_REFILL_RATE",
        advice='as messages_per_s, or "none", behind a proxy',
    )
    burst_messages_per_address: int = key(
        100,
        about=_BURST.format("one address"),
        low=1,
        variable="RATE_LIMIT_IP_CAPACITY",
    )
    messages_per_s_per_session: float | None = key(
        5.0,
        about=_RATE.format("one session"),
        above=0,
        variable="RATE_LIMIT_USER_REFILL_RATE",
        advice="what one client needs when it is busy",
    )
    burst_messages_per_session: int = key(
        50,
        about=_BURST.format("one session"),
        low=1,
        variable="RATE_LIMIT_USER_CAPACITY",
    )

    large_bytes_per_s: float | None = key(
        8_388_608.0,
        about="how many bytes of large messages (64 KiB and more) one connection may send in a"
        " second; after one it is not read from until that is so",
        above=0,
        advice="what is large holds everybody up while it is looked at",
    )

    def contradictions(self) -> Iterable[tuple[tuple[str, ...], str]]:
        """A part may not have more than the whole: its limit would never be met."""
        for part, whole in _PARTS:
            had, most = getattr(self, part), getattr(self, whole)
            if had is not None and most is not None and had > most:
                yield (part, whole), f"{had:g} is more than {whole}, {most:g}; it would never hold"


_PARTS: Final = (
    ("max_connections_per_address", "max_connections"),
    ("max_inflight_per_session", "max_inflight"),
    ("messages_per_s_per_address", "messages_per_s"),
    ("burst_messages_per_address", "burst_messages"),
    ("messages_per_s_per_session", "messages_per_s"),
    ("burst_messages_per_session", "burst_messages"),
)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """
    Why something was not let in.

    Attributes:
        limit: The key of `AdmissionSettings` that was met.
        found: What there would be with this one.
        allowed: What there may be.
        retry_after_s: When the same would be let in if nothing else came; None where that hangs
            on somebody else's end.
    """

    limit: str
    found: float
    allowed: float
    retry_after_s: float | None

    def __str__(self) -> str:
        then = "" if self.retry_after_s is None else f"; again in {self.retry_after_s:.3g} s"
        return f"{self.limit}: {self.found:.6g}, allowed {self.allowed:g}{then}"


class Gate:
    """
    The way in for the messages of one connection, had from `Admission.gate`.

    It holds the buckets of all, of its address and of its session, so that a message costs no
    look for them. Where all of them hold plenty it takes some tokens at once, and lets in for these
    what comes in the same moment. What is not used of them is gone: no rate and no burst is
    exceeded by that, and where tokens are few none is lost.
    """

    __slots__ = ("_buckets", "_credit", "_door", "_limits", "_names", "_settings", "_until")

    def __init__(self, door: Admission, *, address: str, session: str) -> None:
        self._door = door
        self._names = ("", address, session)
        self._settings: AdmissionSettings | None = None
        self._buckets: list[TokenBucket] = []
        self._limits: list[str] = []
        self._credit = 0
        self._until = 0.0

    def message(self, now: float) -> Refused | None:
        """
        A message that came in.

        Args:
            now: The time, by the clock of the admission.

        Returns:
            None where it is let in; else the limit it has to wait for longest.
        """
        if self._settings is not self._door.settings:
            self._renew(now)
        if self._credit:
            if self._until - _MOMENT_S <= now < self._until:
                self._credit -= 1
                return None
            self._credit = 0
        plenty = True
        for bucket in self._buckets:
            if bucket.wait_s(now) > 0:
                return self._refused(now)
            plenty = plenty and bucket.has_plenty
        tokens = AT_ONCE if plenty else 1
        for bucket in self._buckets:
            bucket.take(tokens)
        self._credit, self._until = tokens - 1, now + _MOMENT_S
        return None

    def messages(self, count: int, now: float) -> bool:
        """
        Several messages that came in at once.

        Returns:
            Whether all are let in at no more cost; if not, each of them is for `message`.
        """
        if (
            self._credit < count
            or not self._until - _MOMENT_S <= now < self._until
            or self._settings is not self._door.settings
        ):
            return False
        self._credit -= count
        return True

    def close(self) -> None:
        """No more will come."""
        if self._credit and self._door.clock() < self._until:
            for bucket in self._buckets:
                bucket.take(-self._credit)
        self._credit = 0
        for bucket in self._buckets:
            bucket.users -= 1
        self._buckets = []
        self._settings = None

    def _renew(self, now: float) -> None:
        self.close()
        settings = self._settings = self._door.settings
        self._limits = []
        for kind, name in zip(self._door.buckets, self._names, strict=True):
            bucket = kind.use(name, settings, now=now)
            if bucket is not None:
                self._buckets.append(bucket)
                self._limits.append(kind.limit)

    def _refused(self, now: float) -> Refused:
        waits_s = [bucket.wait_s(now) for bucket in self._buckets]
        wait_s = max(waits_s)
        longest = waits_s.index(wait_s)
        bucket = self._buckets[longest]
        return Refused(
            limit=self._limits[longest],
            found=bucket.burst - bucket.tokens(now) + 1,
            allowed=bucket.burst,
            retry_after_s=wait_s,
        )


class _Slots:
    """Who holds how many of a thing."""

    def __init__(self, *, whole: str, part: str = "") -> None:
        self._whole = whole
        self._part = part
        self._held: Counter[str] = Counter()
        self.total = 0

    def take(self, name: str, settings: AdmissionSettings) -> Refused | None:
        counts = [(self._whole, self.total)]
        if self._part:
            counts.append((self._part, self._held[name]))
        for limit, held in counts:
            allowed = getattr(settings, limit)
            if held >= allowed:
                return Refused(limit=limit, found=held + 1, allowed=allowed, retry_after_s=None)
        self._held[name] += 1
        self.total += 1
        return None

    def give_back(self, name: str) -> None:
        held = self._held[name]
        if held <= 1:
            del self._held[name]
        else:
            self._held[name] = held - 1
        # One too many, as at the end of what was refused, hands out no slot.
        self.total -= held > 0


class Admission:
    """
    Lets in or refuses; counts what is there.

    Args:
        settings: The limits.
        clock: Seconds of a monotonic clock.

    Attributes:
        settings: The limits that hold now.
        clock: As given.
        buckets: Those of all together, of each address, and of each session.
    """

    def __init__(self, settings: AdmissionSettings, *, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.clock = clock
        self._connections = _Slots(whole="max_connections", part="max_connections_per_address")
        self._sessions = _Slots(whole="max_sessions")
        self._calls = _Slots(whole="max_inflight", part="max_inflight_per_session")
        self.buckets = tuple(
            Buckets(rate=f"messages_per_s{of}", burst=f"burst_messages{of}")
            for of in ("", "_per_address", "_per_session")
        )

    def adopt(self, settings: AdmissionSettings) -> None:
        """Go by other limits from now on. Whoever is in stays in, beyond a lower one too."""
        self.settings = settings

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return self._connections.total

    @property
    def sessions(self) -> int:
        """How many clients said hello and are there."""
        return self._sessions.total

    @property
    def calls(self) -> int:
        """How many calls run."""
        return self._calls.total

    def connect(self, address: str) -> Refused | None:
        """A connection from there; None lets it in, and `disconnected` must follow once."""
        return self._connections.take(address, self.settings)

    def disconnected(self, address: str) -> None:
        """A connection that was let in has ended."""
        self._connections.give_back(address)

    def join(self, session: str) -> Refused | None:
        """A client that says hello; None lets it in, and `left` must follow once."""
        return self._sessions.take(session, self.settings)

    def left(self, session: str) -> None:
        """A client that was let in has gone."""
        self._sessions.give_back(session)

    def begin(self, session: str) -> Refused | None:
        """A call of a session; None lets it run, and `ended` must follow once."""
        return self._calls.take(session, self.settings)

    def ended(self, session: str) -> None:
        """A call that was let run has ended."""
        self._calls.give_back(session)

    def gate(self, *, address: str, session: str) -> Gate:
        """The way in for the messages of a connection; it must be closed once."""
        return Gate(self, address=address, session=session)
