"""Token buckets: what comes at a rate, with bursts, for each sender of a kind."""

from __future__ import annotations

from typing import Final

from harness.resilience.settings import Settings

__all__ = ["AT_ONCE", "Buckets", "TokenBucket"]

AT_ONCE: Final = 16
"""How many tokens are taken together where there are plenty."""

_MOST_BUCKETS: Final = 10_000
_FIRST_SWEEP: Final = 64
# Who waits exactly as long as it was told must not fail by the rounding of a clock. What is
# taken too soon is owed: no rate rises by it.
_NOTHING_S: Final = 1e-9


class TokenBucket:
    """
    A bucket that fills with time, one token for each message.

    A clock that jumps back costs what would have come in meanwhile, and no more.

    Args:
        per_s: Tokens that come in each second, more than 0.
        burst: How many it holds, 1 or more. It is full at first.
        now: The time it begins, in seconds of any clock.

    Attributes:
        users: How many gates take from it.
    """

    __slots__ = ("_at", "_tokens", "burst", "per_s", "users")

    def __init__(self, *, per_s: float, burst: int, now: float) -> None:
        self.per_s = per_s
        self.burst = burst
        self.users = 0
        self._tokens = float(burst)
        self._at = now

    def tokens(self, now: float) -> float:
        """How many there are."""
        gained_s = now - self._at
        self._at = now
        if gained_s > 0:
            tokens = self._tokens + gained_s * self.per_s
            self._tokens = tokens if tokens < self.burst else float(self.burst)
        return self._tokens

    def wait_s(self, now: float) -> float:
        """How long until there is a whole one, in seconds; 0 where there is."""
        lacking = 1.0 - self.tokens(now)
        if lacking <= 0:
            return 0.0
        wait_s = lacking / self.per_s
        return wait_s if wait_s > _NOTHING_S else 0.0

    def take(self, tokens: int = 1) -> None:
        """Take one, or some. Ask `wait_s` first."""
        self._tokens -= tokens

    @property
    def has_plenty(self) -> bool:
        """Whether at least half of the burst would be left if some were taken at once."""
        return self._tokens - AT_ONCE >= self.burst / 2

    def adopt(self, *, per_s: float, burst: int, now: float) -> None:
        """Fill at another rate from now on; what is in it stays, up to the new burst."""
        kept = self.tokens(now)
        self.per_s, self.burst = per_s, burst
        self._tokens = min(float(burst), kept)


class Buckets:
    """
    The buckets of one kind of sender, by its name.

    One that nobody uses and that is full is as good as none, and is dropped in time. Of those
    that nobody uses there are never more than a fixed number: beyond that those that were asked
    for longest ago are forgotten, which hands their senders full ones.
    """

    def __init__(self, *, rate: str, burst: str) -> None:
        self.limit = burst
        self._keys = (rate, burst)
        self._by_name: dict[str, TokenBucket] = {}
        self._sweep_at = _FIRST_SWEEP

    def __len__(self) -> int:
        return len(self._by_name)

    def use(self, name: str, settings: Settings, *, now: float) -> TokenBucket | None:
        """The bucket of a sender, until it is given back; None where there is no limit."""
        per_s, burst = (getattr(settings, each) for each in self._keys)
        if per_s is None:
            self._by_name.clear()
            return None
        bucket = self._by_name.pop(name, None)
        if bucket is None:
            self._make_room(now)
            bucket = TokenBucket(per_s=per_s, burst=burst, now=now)
        elif (bucket.per_s, bucket.burst) != (per_s, burst):
            bucket.adopt(per_s=per_s, burst=burst, now=now)
        # The last in the table is the one asked for last.
        self._by_name[name] = bucket
        bucket.users += 1
        return bucket

    def _make_room(self, now: float) -> None:
        if len(self._by_name) < self._sweep_at:
            return
        left = {
            name: bucket
            for name, bucket in self._by_name.items()
            if bucket.users or bucket.tokens(now) < bucket.burst
        }
        if len(left) >= _MOST_BUCKETS:
            # Many at a time: a flood of new names must not pay for a sweep each.
            surplus = [name for name, bucket in left.items() if not bucket.users]
            for name in surplus[: _MOST_BUCKETS // 4]:
                del left[name]
        self._by_name = left
        # Swept again when it has doubled: each new name pays for a fixed share of a sweep. Those
        # in use are as many as there are connections, whatever their names.
        used = sum(1 for bucket in left.values() if bucket.users)
        self._sweep_at = max(min(_MOST_BUCKETS, 2 * len(left)), _FIRST_SWEEP, used + _FIRST_SWEEP)
