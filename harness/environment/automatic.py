"""Where a daemon runs when nobody said: in a container where that can be had, else here."""

from __future__ import annotations

from dataclasses import dataclass

from harness.daemons.base import Daemon
from harness.environment.backends import DOCKER, LOCAL, TOXIPROXY, engine
from harness.errors import EnvironmentFailed

__all__ = ["AUTO", "Chosen", "backend_for"]

AUTO = "auto"
"""Docker if the engine answers and the images are there, else local."""


@dataclass(frozen=True)
class Chosen:
    """A backend, and why it and no other."""

    backend: str
    why: str


def backend_for(asked: str, daemon: Daemon, proxy: str) -> Chosen:
    """
    Where a daemon runs.

    Args:
        asked: "local", "docker" or "auto".
        daemon: Which; one that runs already stays where it is.
        proxy: What stands before it.
    """
    if asked != AUTO:
        return Chosen(asked, "asked for")
    if daemon.address is not None:
        return Chosen(LOCAL, "the daemon runs already")
    if daemon.container is None:
        return Chosen(LOCAL, f"the daemon {daemon.type} has no container to run in")
    try:
        missing = [name for name in _images(daemon, proxy) if engine().images.id(name) is None]
    except EnvironmentFailed as error:
        return Chosen(LOCAL, error.headline)
    if missing:
        return Chosen(LOCAL, f"images are missing: {', '.join(missing)}; `harness images`")
    return Chosen(DOCKER, f"engine {engine().version} answers, and the images are there")


def _images(daemon: Daemon, proxy: str) -> list[str]:
    from harness.daemons.reference import IMAGE as OWN
    from harness.environment.container_proxy import IMAGE
    from harness.environment.images.own import own_image

    assert daemon.container is not None
    image = daemon.container.image
    # What is built, or a Compose project, says itself what it lacks.
    own = [] if image is None else [own_image() if image == OWN else image]
    return own + ([IMAGE] if proxy == TOXIPROXY else [])
