"""The image of a daemon's container: named, or built from the user's Dockerfile."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Final

from harness.daemons.base import Container
from harness.daemons.reference import IMAGE
from harness.environment.containers import Engine
from harness.environment.images.own import own_image

__all__ = ["image_of"]

_BUILT: Final[dict[Path, str]] = {}
_LOCK: Final = threading.Lock()


def image_of(container: Container, engine: Engine) -> str:
    """
    The name of its image. One that is built is built once in a process: the engine keeps the
    layers, so an unchanged one costs little; a changed Dockerfile is never missed.

    Raises:
        EnvironmentFailed: If it cannot be built; the end of the builder's log is in it.
    """
    if container.build is None:
        assert container.image is not None
        return own_image() if container.image == IMAGE else container.image
    place = container.build.resolve()
    with _LOCK:
        if place not in _BUILT:
            folder, file = (place, "Dockerfile") if place.is_dir() else (place.parent, place.name)
            tag = f"ws-harness-built:{hashlib.sha256(str(place).encode()).hexdigest()[:12]}"
            engine.images.build(str(folder), tag=tag, dockerfile=file, arguments={})
            _BUILT[place] = tag
        return _BUILT[place]
