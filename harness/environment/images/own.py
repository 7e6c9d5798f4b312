"""The name of our own image, made of this very code: checkouts do not share one."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from harness.daemons.reference import IMAGE
from harness.environment.images import daemon

if TYPE_CHECKING:
    from harness.environment.containers import Engine
    from harness.environment.images.workshop import Workshop

__all__ = ["bring_own", "own_image"]

_MOST_KEPT: Final = 6


@cache
def own_image() -> str:
    """Its plain name, and a digest of what goes in, after a dash."""
    return f"{IMAGE}-{daemon.inputs()}"


def bring_own(engine: Engine, workshop: Workshop, name: str, pull: bool) -> str:  # noqa: FBT001
    """
    Build it; the newest has the plain name, too, for people and for compose.yaml.

    Raises:
        EnvironmentFailed: If it cannot be built.
    """
    how = daemon.bring(engine, workshop, name, pull)
    engine.images.tag(name, IMAGE)
    for old in engine.images.tags(f"{IMAGE}-")[_MOST_KEPT:]:
        engine.images.remove(old)
    return how
