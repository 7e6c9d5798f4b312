"""Where downloads are kept between runs, and one at a time who works there."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from harness.clock import Draws, fresh_seed, now
from harness.errors import EnvironmentFailed

__all__ = ["folder", "locked", "patiently"]

T = TypeVar("T")

_ATTEMPTS: Final = 3
_FIRST_PAUSE_S: Final = 1.0
_LOCK_S: Final = 900
_POLL_S: Final = 0.2


def folder() -> Path:
    """The cache: $XDG_CACHE_HOME/ws-harness, or ~/.cache/ws-harness."""
    home = os.environ.get("XDG_CACHE_HOME")
    place = (Path(home) if home else Path.home() / ".cache") / "ws-harness"
    place.mkdir(parents=True, exist_ok=True)
    return place


@contextmanager
def locked(tell: Callable[[str], None]) -> Iterator[Path]:
    """
    The cache, for nobody else meanwhile.

    Raises:
        EnvironmentFailed: If somebody keeps it for a quarter of an hour.
    """
    place = folder()
    with (place / "lock").open("w") as file:
        deadline, waits = now() + _LOCK_S, False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if now() >= deadline:
                    raise EnvironmentFailed(
                        f"another process has kept {place} for {_LOCK_S} s",
                        [("next", f"see who: `fuser {place}/lock`")],
                    ) from None
                if not waits:
                    tell("another process makes images; waiting for it")
                waits = True
                threading.Event().wait(_POLL_S)
        yield place


def patiently(what: str, work: Callable[[], T], tell: Callable[[str], None]) -> T:
    """
    Do something that may fail for foreign reasons, a download for instance, up to three times.

    Raises:
        EnvironmentFailed: The last failure.
    """
    draws = Draws(fresh_seed(), what)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return work()
        except EnvironmentFailed as error:
            if attempt == _ATTEMPTS:
                raise
            # Twice as long each time, and never for all who wait at the same moment.
            pause_s = _FIRST_PAUSE_S * 2 ** (attempt - 1) * (0.5 + draws.at(attempt))
            why = error.headline.rpartition(": ")[2]
            tell(f"{what}: try {attempt} of {_ATTEMPTS} failed ({why}), again in {pause_s:.1f} s")
            threading.Event().wait(pause_s)
    raise AssertionError("it returned or raised")
