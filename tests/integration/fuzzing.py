"""
Hypothesis' examples on a loop that runs: round after round with fresh seeds, until one fails or the
time is over, and told how to do it again.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from harness.clock import now

__all__ = ["SECONDS", "Fuzz"]

EXAMPLES: Final = 200
"""Of each round."""

SECONDS: Final = float(os.environ.get("HARNESS_FUZZ_SECONDS", "0"))
_SEED: Final = os.environ.get("HARNESS_FUZZ_SEED")

Check = Callable[[Any], Awaitable[None]]


class Fuzz:
    """
    Carries out examples, in a thread of their own since Hypothesis waits for each, on the loop
    of the test.

    Args:
        seconds: How long at least; the round that is begun is ended.
        test: The test's id.
        tell: Prints.
        smaller: Whether a failing example is made smaller, which takes minutes at most.
    """

    def __init__(
        self, seconds: float, test: str, tell: Callable[[str], None], *, smaller: bool = True
    ) -> None:
        self._seconds = seconds
        self._test = test
        self._tell = tell
        # No file of examples: what was found is found again by its seed.
        self._settings = settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink) if smaller else (Phase.generate,),
        )

    async def __call__(self, examples: st.SearchStrategy[Any], check: Check) -> None:
        """
        Check examples until one fails or the time is over.

        Raises:
            BaseException: What the check raised, with the example and its seed in its notes.
        """
        await asyncio.to_thread(self._rounds, examples, check, asyncio.get_running_loop())

    def _rounds(
        self, examples: st.SearchStrategy[Any], check: Check, loop: asyncio.AbstractEventLoop
    ) -> None:
        count = 0

        def example(value: Any) -> None:
            nonlocal count
            count += 1
            asyncio.run_coroutine_threadsafe(check(value), loop).result()

        first = seed = secrets.randbelow(10**9) if _SEED is None else int(_SEED)
        began = now()
        while True:
            try:
                hypothesis.seed(seed)(self._settings(hypothesis.given(examples)(example)))()
            except BaseException as error:
                error.add_note(f"again: HARNESS_FUZZ_SEED={seed} python -m pytest '{self._test}'")
                raise
            if now() - began >= self._seconds:
                break
            seed += 1
        self._tell(
            f"fuzz: {count} examples in {now() - began:.0f} s, seeds {first} to {seed}; again:"
            f" HARNESS_FUZZ_SECONDS={SECONDS:g} HARNESS_FUZZ_SEED={first}"
            f" python -m pytest '{self._test}'"
        )
