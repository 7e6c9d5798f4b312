"""
Each call once: what was done for a key is answered again, not done again.

No socket and no clock here: the time is handed in. A key belongs to a session. Its first call
runs; one that comes while it runs waits for it; one that comes later gets the same answer.

Rule: a key whose call is running is never forgotten. Of one that is done first the answer goes,
where answers take too much room, and only then, by age or number, the key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from harness.resilience.settings import Settings, key

__all__ = ["GONE", "Idempotency", "IdempotencySettings", "Keys", "Kept"]


@dataclass(frozen=True, kw_only=True)
class IdempotencySettings(Settings):
    """How long, and how much of, what was answered is remembered. All of it is live."""

    ttl_s: float = key(
        300.0,
        about="how long a key is remembered after its call was answered",
        low=0,
        high=604_800,
        variable="EXAI_WS_RESULT_TTL",
        advice="longer than a client goes on repeating a call",
    )
    keys_per_session: int = key(
        1_000,
        about="how many keys of one session are remembered; the oldest goes",
        low=1,
        high=10_000_000,
        advice="more than a client calls while it waits for one answer; about 300 bytes each",
    )
    answers_bytes_per_session: int = key(
        4_194_304,
        about="what calls and answers of one session that are kept may weigh; beyond it the oldest"
        " answers go, and their keys stay",
        low=0,
        high=2**40,
    )
    answers_bytes: int = key(
        67_108_864,
        about="the same of all sessions together",
        low=0,
        high=2**40,
        advice="what memory bears beside connections and queues",
    )

    def contradictions(self) -> Iterable[tuple[tuple[str, ...], str]]:
        """A part may not have more than the whole."""
        if self.answers_bytes_per_session > self.answers_bytes:
            yield (
                ("answers_bytes_per_session", "answers_bytes"),
                f"{self.answers_bytes_per_session} is more than answers_bytes,"
                f" {self.answers_bytes}; it would never hold",
            )


class _Gone:
    """The answer of a call that was run, and whose answer is kept no longer."""


GONE: Final = _Gone()


class Kept(msgspec.Struct, eq=False, gc=False):
    """
    What is known of one key.

    Attributes:
        name: The key.
        what: The call it stands for: two that are equal are the same call. None where the answer
            is gone.
        answer: What was answered; None while it runs, `GONE` where that is not kept any more.
        done_s: When it was answered.
        size: What call and answer weigh, in bytes.
    """

    name: str
    what: Any
    answer: Any = None
    done_s: float = 0.0
    size: int = 0


class Idempotency:
    """
    What the keys of all sessions share: the settings, and the room for answers.

    Args:
        settings: How long and how much.
        clock: Seconds that only go forward.

    Attributes:
        sessions: The keys of each session that is not closed.
        bytes: What all answers that are kept weigh.
        forgotten: How many keys went by their number, before their time.
        answers_gone: How many answers went for their bytes, before their time.
    """

    def __init__(self, settings: IdempotencySettings, *, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.clock = clock
        self.sessions: set[Keys] = set()
        self.bytes = 0
        self.forgotten = 0
        self.answers_gone = 0

    def __len__(self) -> int:
        return sum(map(len, self.sessions))

    def adopt(self, settings: IdempotencySettings) -> None:
        """Go by other settings from now on; what is beyond them goes when it is next looked at."""
        self.settings = settings

    def keys(self) -> Keys:
        """The keys of a new session; to be closed with it."""
        return Keys(self)

    def make_room(self) -> None:
        """Let go the older answers of whoever has most, until all fit."""
        while self.bytes > self.settings.answers_bytes:
            most = max(self.sessions, key=lambda keys: keys.bytes)
            most.let_go(down_to_bytes=most.bytes // 2)


class Keys:
    """
    The keys of one session.

    Attributes:
        bytes: What its answers that are kept weigh.
    """

    __slots__ = ("_all", "_gone", "_known", "_order", "bytes")

    def __init__(self, all_keys: Idempotency) -> None:
        self._all = all_keys
        # Those that run, and those that are done.
        self._known: dict[str, Kept] = {}
        # Those that are done, the oldest first, and of how many of these the answer is gone.
        self._order: deque[Kept] = deque()
        self._gone = 0
        self.bytes = 0
        all_keys.sessions.add(self)

    def __len__(self) -> int:
        return len(self._known)

    def find(self, name: str) -> Kept | None:
        """What is known of a key; None where nothing is."""
        kept = self._known.get(name)
        if kept is None or kept.answer is None:
            return kept
        now_s = self._all.clock()
        if now_s - kept.done_s >= self._all.settings.ttl_s:
            self._tidy(now_s)
            return None
        return kept

    def begin(self, name: str, what: object) -> Kept:
        """A call that nothing is known of begins to run; `done` or `forget` must follow."""
        kept = self._known[name] = Kept(name, what)
        return kept

    def done(self, kept: Kept, answer: object, *, size: int) -> None:
        """
        A call was answered.

        Args:
            kept: As `begin` made it.
            answer: How; anything but None.
            size: What call and answer weigh, in bytes.
        """
        kept.answer, kept.done_s, kept.size = answer, self._all.clock(), size
        self.keep(kept)

    def keep(self, kept: Kept) -> None:
        """What `done` does, for a call that was done at once, and of which all is known."""
        shared, order = self._all, self._order
        settings = shared.settings
        self._known[kept.name] = kept
        order.append(kept)
        self.bytes += kept.size
        shared.bytes += kept.size
        while len(order) > settings.keys_per_session:
            shared.forgotten += 1
            self._drop()
        if (
            self.bytes > settings.answers_bytes_per_session
            or shared.bytes > settings.answers_bytes
            or kept.done_s - order[0].done_s >= settings.ttl_s
        ):
            self._tidy(kept.done_s)

    def forget(self, kept: Kept) -> None:
        """Nothing is known of it any more: whoever asks next runs it."""
        if self._known.get(kept.name) is kept:
            del self._known[kept.name]

    def close(self) -> None:
        """The session is gone."""
        self._all.bytes -= self.bytes
        self._all.sessions.discard(self)
        # Calls of it may still run. What they come to is nobody's, and weighs nothing.
        self._all = Idempotency(self._all.settings, clock=self._all.clock)
        self.bytes = self._gone = 0
        self._known = {name: kept for name, kept in self._known.items() if kept.answer is None}
        self._order.clear()

    def _tidy(self, now_s: float) -> None:
        """Let go what is too old or too much."""
        shared, order = self._all, self._order
        settings = shared.settings
        while order and now_s - order[0].done_s >= settings.ttl_s:
            self._drop()
        if self.bytes > settings.answers_bytes_per_session:
            self.let_go(down_to_bytes=settings.answers_bytes_per_session)
        if shared.bytes > settings.answers_bytes:
            shared.make_room()

    def let_go(self, *, down_to_bytes: int) -> None:
        """Keep the oldest answers no longer, until the others weigh no more than that."""
        while self.bytes > down_to_bytes:
            kept = self._order[self._gone]
            self.bytes -= kept.size
            self._all.bytes -= kept.size
            kept.what, kept.answer, kept.size = None, GONE, 0
            self._gone += 1
            self._all.answers_gone += 1

    def _drop(self) -> None:
        """Forget the oldest key."""
        kept = self._order.popleft()
        if self._known.get(kept.name) is kept:
            del self._known[kept.name]
        if self._gone:
            self._gone -= 1
        self.bytes -= kept.size
        self._all.bytes -= kept.size
