"""Where a daemon runs when nobody said: in a container where that can be had, else here."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import Final

from harness.clock import now
from harness.daemons.base import Daemon
from harness.daemons.container import Containerized
from harness.daemons.reference import IMAGE as OWN_NAME
from harness.environment.backends import DOCKER, LOCAL, TOXIPROXY, engine
from harness.errors import EnvironmentFailed

__all__ = ["AUTO", "Chosen", "backend_for"]

AUTO = "auto"
"""Docker if the engine answers and the images are there or soon are, else local."""

# Enough to build our own image on a base that is here, or to pull two small ones.
_BRING_S: Final = 30.0
_END_S: Final = 5.0


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
    if daemon.provider is not None and daemon.provider.container is None:
        return Chosen(LOCAL, f"the provider of {daemon.type} has no container to run in")
    try:
        found = engine()
        missing = [name for name in _images(daemon, proxy) if found.images.id(name) is None]
    except EnvironmentFailed as error:
        return _without(daemon, error.headline)
    images = "the images are there"
    if missing:
        ours = set(missing) <= set(_ours())
        brought_s = _bring() if ours else None
        if brought_s is None:
            todo = "; `harness images`" if ours else ""
            return _without(daemon, f"images are missing: {', '.join(missing)}{todo}")
        images = f"the images were brought in {brought_s:.1f} s"
    return Chosen(DOCKER, f"engine {found.version} answers, and {images}")


def _without(daemon: Daemon, why: str) -> Chosen:
    """Here, where it can be; else it shall fail for the reason that it has."""
    if isinstance(daemon, Containerized):
        return Chosen(DOCKER, f"the daemon runs in a container only, although {why}")
    return Chosen(LOCAL, why)


@cache
def _bring() -> float | None:
    """Have our images brought, within a bound. How long it took; None where it cannot be."""
    began = now()
    bringing = subprocess.Popen(
        [sys.executable, "-m", "harness", "images"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return now() - began if bringing.wait(_BRING_S) == 0 else None
    except subprocess.TimeoutExpired:
        return None
    finally:
        if bringing.poll() is None:
            # As Ctrl-C: it ends what it started, and keeps what was fetched.
            bringing.send_signal(signal.SIGINT)
        try:
            bringing.wait(_END_S)
        except subprocess.TimeoutExpired:
            bringing.kill()
            bringing.wait()


def _images(daemon: Daemon, proxy: str) -> list[str]:
    """Those that it takes."""
    own, toxiproxy = _ours()
    assert daemon.container is not None
    behind = None if daemon.provider is None else daemon.provider.container
    images = [box.image for box in (daemon.container, behind) if box is not None]
    # What is built, or a Compose project, says itself what it lacks.
    its = [own if image == OWN_NAME else image for image in images if image is not None]
    return [*dict.fromkeys(its), *([toxiproxy] if proxy == TOXIPROXY else [])]


def _ours() -> tuple[str, str]:
    """Those that `harness images` brings: of our own programs, and of the real Toxiproxy."""
    from harness.environment.container_proxy import IMAGE
    from harness.environment.images.own import own_image

    return own_image(), IMAGE
