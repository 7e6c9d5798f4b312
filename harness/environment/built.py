"""The image of a daemon's container: named, or built from the user's Dockerfile."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from harness.daemons.base import Container
from harness.daemons.reference import IMAGE
from harness.environment.containers import Engine
from harness.environment.images.own import own_image
from harness.environment.threads import in_thread_or_not
from harness.errors import EnvironmentFailed

__all__ = ["image_of"]

_BUILT: Final[dict[Path, str]] = {}
_LOCK: Final = threading.Lock()
# Whoever waits for another's build looks so often whether it is still wanted.
_LOOK_S: Final = 0.1


async def image_of(container: Container, engine: Engine) -> str:
    """
    The name of its image. One that is built is built once in a process: the engine keeps the
    layers, so an unchanged one costs little; a changed Dockerfile is never missed. Whoever is
    cancelled meanwhile breaks the build off.

    Raises:
        EnvironmentFailed: If it cannot be built; the end of the builder's log is in it.
    """
    if container.build is None:
        assert container.image is not None
        return own_image() if container.image == IMAGE else container.image
    build = _Build(container.build.resolve(), engine)
    return await in_thread_or_not(build.carry_out, break_off=build.break_off)


class _Build:
    """One that can be broken off, also while it waits for another's. `carry_out` blocks."""

    def __init__(self, place: Path, engine: Engine) -> None:
        self._place = place
        self._engine = engine
        self._unwanted = threading.Event()
        self._lock = threading.Lock()
        self._hang_up: Callable[[], None] | None = None

    def carry_out(self) -> str:
        """Build it, where it is not built yet. Returns its name."""
        while not _LOCK.acquire(timeout=_LOOK_S):
            self._refuse_unwanted()
        try:
            self._refuse_unwanted()
            if self._place not in _BUILT:
                _BUILT[self._place] = self._built()
            return _BUILT[self._place]
        finally:
            _LOCK.release()

    def _built(self) -> str:
        place = self._place
        folder, file = (place, "Dockerfile") if place.is_dir() else (place.parent, place.name)
        tag = f"ws-harness-built:{hashlib.sha256(str(place).encode()).hexdigest()[:12]}"
        self._engine.images.build(
            str(folder), tag=tag, dockerfile=file, arguments={}, begun=self._begun
        )
        return tag

    def _begun(self, hang_up: Callable[[], None]) -> None:
        with self._lock:
            self._hang_up = hang_up
        if self._unwanted.is_set():
            hang_up()

    def break_off(self) -> None:
        """From whatever thread: the engine ends a build that nobody listens to any more."""
        self._unwanted.set()
        with self._lock:
            hang_up = self._hang_up
        if hang_up is not None:
            hang_up()

    def _refuse_unwanted(self) -> None:
        if self._unwanted.is_set():
            raise EnvironmentFailed("the build was broken off")
