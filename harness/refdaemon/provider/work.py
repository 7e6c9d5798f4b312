"""
What the provider works on, and what it remembers of it.

Rule: the execution is on file before the answer leaves, and nothing is awaited between the two.
A caller that leaves ends nothing: what was begun is finished, and its key has a result.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import msgspec

from harness.clock import Draws, clock_id, now, now_ns
from harness.records import Execution
from harness.refdaemon.lines import LineFile

__all__ = ["Done", "Refused", "Work"]

_WORDS: Final = (
    *("anchor", "beacon", "cinder", "drift", "ember", "fathom", "gravel", "harbour"),
    *("inlet", "juniper", "kelp", "lantern", "meadow", "north", "oxbow", "pebble"),
)
_WORDS_IN_AN_ANSWER: Final = 8


class Refused(Exception):
    """A prompt that was not worked on, with the HTTP status that says so."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Done(msgspec.Struct, frozen=True):
    """
    What became of a prompt.

    Attributes:
        text: The answer: of one seed and one prompt always the same.
        execution: The sequence number of the execution.
    """

    text: str
    execution: int


@dataclass(frozen=True)
class _Kept:
    """What belongs to a key: the prompt, when its work is or was due, and the work."""

    digest: str
    due_s: float
    task: asyncio.Task[Done]


class Work:
    """
    Works on prompts, side by side.

    Args:
        seed: What the answers are drawn from, besides their prompts.
        file: Where executions are written; None keeps no log.
        keep: How many keys are remembered; the oldest whose work is done is forgotten first.

    Attributes:
        executions: How many there were.
    """

    def __init__(self, *, seed: int, file: LineFile | None, keep: int = 10_000) -> None:
        self._seed = seed
        self._file = file
        self._keep = keep
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._running: set[asyncio.Task[Any]] = set()
        self.executions = 0

    @property
    def running(self) -> int:
        """How many are under way."""
        return len(self._running)

    async def on(
        self, prompt: str, *, key: str | None, delay_ms: int, deadline_ms: int | None
    ) -> tuple[Done, bool]:
        """
        Work on a prompt, unless that was done or is being done under this key.

        Args:
            prompt: What to answer.
            key: The caller's idempotency key; None is nobody's.
            delay_ms: How long the work takes.
            deadline_ms: How long the caller still waits; None for ever.

        Returns:
            What became of it, and whether that is of an earlier request.

        Raises:
            Refused: 422 if the key belongs to another prompt, 504 if the work would take longer
                than the caller waits.
            OSError: If the execution could not be put on file. Then there is no answer, and the
                key is free again.
        """
        digest = blake2b(prompt.encode(), digest_size=8).hexdigest()
        kept = None if key is None else self._kept.get(key)
        if kept is not None and kept.digest != digest:
            raise Refused(422, "this Idempotency-Key was used with another prompt")
        if kept is not None:
            refuse_late(kept.due_s - now(), deadline_ms)
            return await asyncio.shield(kept.task), True
        refuse_late(delay_ms / 1000, deadline_ms)
        due_s = now() + delay_ms / 1000
        task = self._begin(self._execute(digest, key, due_s, deadline_ms))
        if key is not None:
            self._kept[key] = _Kept(digest, due_s, task)
            task.add_done_callback(lambda task: self._ended(key, task))
        return await asyncio.shield(task), False

    def close(self) -> None:
        """Break off what is under way; it was not executed."""
        for task in self._running:
            task.cancel()

    def _begin(self, execute: Coroutine[Any, Any, Done]) -> asyncio.Task[Done]:
        task = asyncio.get_running_loop().create_task(execute)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _execute(
        self, digest: str, key: str | None, due_s: float, deadline_ms: int | None
    ) -> Done:
        await until(due_s)
        if self._file is not None:
            self._file.append(
                Execution(
                    sequence=self.executions + 1,
                    time_ns=now_ns(),
                    clock=clock_id(),
                    digest=digest,
                    pid=os.getpid(),
                    key=key,
                    deadline_ms=deadline_ms,
                )
            )
        self.executions += 1
        return Done(self._text(digest), self.executions)

    def _text(self, digest: str) -> str:
        draws = Draws(self._seed, f"provider/{digest}")
        places = range(_WORDS_IN_AN_ANSWER)
        return " ".join(_WORDS[int(draws.at(place) * len(_WORDS))] for place in places)

    def _ended(self, key: str, task: asyncio.Task[Done]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if failed and key in self._kept and self._kept[key].task is task:
            del self._kept[key]
        while len(self._kept) > self._keep:
            oldest = next((key for key, kept in self._kept.items() if kept.task.done()), None)
            if oldest is None:
                break
            del self._kept[oldest]


def refuse_late(takes_s: float, deadline_ms: int | None) -> None:
    """
    Refuse work of which the caller would not see the end.

    Raises:
        Refused: 504, if it takes longer than the deadline.
    """
    if deadline_ms is not None and takes_s * 1000 > deadline_ms:
        raise Refused(504, f"the work takes longer than the {deadline_ms} ms that are left")


async def until(due_s: float) -> None:
    """Wait until then."""
    # uvloop's timers may fire up to a millisecond early.
    while (left_s := due_s - now()) > 0:
        await asyncio.sleep(left_s)
