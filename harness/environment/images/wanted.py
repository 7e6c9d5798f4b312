"""Which images are wanted, whether they are there, and how each is had."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.clock import now
from harness.daemons.reference import IMAGE as DAEMON
from harness.environment.container_proxy import IMAGE as TOXIPROXY
from harness.environment.images import site
from harness.environment.images.cache import locked, patiently
from harness.environment.images.making import make_base, make_toxiproxy
from harness.environment.images.own import own_image
from harness.errors import EnvironmentFailed

if TYPE_CHECKING:
    from harness.environment.containers import Engine

__all__ = ["State", "ensure", "missing", "state"]

Tell = Callable[[str], None]

# By digest, as many well-kept projects pin it: the index digest of the release 2.12.0, read in
# nine public repositories that name tag and digest together.
_TOXIPROXY_UPSTREAM: Final = (
    "ghcr.io/shopify/toxiproxy:2.12.0"
    "@sha256:9378ed52a28bc50edc1350f936f518f31fa95f0d15917d6eb40b8e376d1a214e"
)
# Read in the Dockerfile of peiyang-z6/BandStructure_AI_Project.
_PYTHON_UPSTREAM: Final = (
    "python:3.11-slim-bookworm"
    "@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b"
)
_HOW: Final = "ws-harness.how"
_MOST_KEPT: Final = 6
_PULL_S: Final = 120
# In the wheel they lie beside this file, in the source tree where people look for them.
_HERE: Final = Path(__file__).parent
_DOCKERFILES: Final = _HERE if (_HERE / "Dockerfile").exists() else _HERE.parents[2] / "docker"


@dataclass(frozen=True, kw_only=True)
class State:
    """
    How it stands with an image.

    Attributes:
        name: Its name.
        tag: The name of the very one that is wanted: of ours there may be several.
        id: The engine's id of it; None where it is not there.
        how: How it was had, where it says so.
    """

    name: str
    tag: str
    id: str | None
    how: str = ""


def state(engine: Engine) -> list[State]:
    """How it stands with each image that is wanted."""
    found = []
    for name, tag in ((DAEMON, own_image()), (TOXIPROXY, TOXIPROXY)):
        image = engine.images.id(tag)
        labels = {} if image is None else engine.images.labels(tag)
        found.append(State(name=name, tag=tag, id=image, how=labels.get(_HOW, "")))
    return found


def missing(engine: Engine) -> list[str]:
    """The names of those that are not there."""
    return [each.tag for each in state(engine) if each.id is None]


def ensure(engine: Engine, *, pull: bool, tell: Tell) -> None:
    """
    Have each image: present, pulled, made, in this order.

    Args:
        engine: Where.
        pull: Whether a registry may be asked.
        tell: Takes a line of progress.

    Raises:
        EnvironmentFailed: If one cannot be had; every way that was tried is named with why
            it failed.
    """
    with locked(tell) as cache:
        for each in state(engine):
            if each.id is not None:
                tell(f"{each.name:34} present   {each.id[7:19]} {each.how}".rstrip())
                continue
            started = now()
            make = _toxiproxy if each.name == TOXIPROXY else _daemon
            how = make(engine, cache, pull=pull, tell=tell)
            tell(f"{each.name:34} {how}, {now() - started:.1f} s")


def _toxiproxy(engine: Engine, cache: Path, *, pull: bool, tell: Tell) -> str:
    why = _pulled(engine, _TOXIPROXY_UPSTREAM, pull=pull, tell=tell)
    if why is None:
        engine.images.tag(_TOXIPROXY_UPSTREAM, TOXIPROXY)
        return f"pulled as {_TOXIPROXY_UPSTREAM.partition('@')[0]}"
    try:
        program = make_toxiproxy(cache, machine=engine.machine, tell=tell)
        with tempfile.TemporaryDirectory(prefix="ws-harness-") as name:
            folder = Path(name)
            (folder / "server").write_bytes(program.read_bytes())
            (folder / "server").chmod(0o755)
            _build(engine, folder, TOXIPROXY, "Dockerfile.toxiproxy", {_HOW: "made from source"})
    except EnvironmentFailed as error:
        raise _both(TOXIPROXY, why, error) from None
    return f"made from source, for it cannot be pulled: {why}"


def _daemon(engine: Engine, cache: Path, *, pull: bool, tell: Tell) -> str:
    base, how = _base(engine, pull=pull, tell=tell)
    with tempfile.TemporaryDirectory(prefix="ws-harness-") as name:
        folder = Path(name)
        (folder / "site").mkdir()
        site.lay(folder / "site", machine=engine.machine, cache=cache, tell=tell)
        _build(engine, folder, own_image(), "Dockerfile", {_HOW: how}, BASE=base)
    # For people, and compose.yaml: the newest.
    engine.images.tag(own_image(), DAEMON)
    for old in engine.images.tags(f"{DAEMON}-")[_MOST_KEPT:]:
        engine.images.remove(old)
    return f"made {how}"


def _base(engine: Engine, *, pull: bool, tell: Tell) -> tuple[str, str]:
    """An image with Python, and how it was had."""
    made = "ws-harness-base:bookworm"
    for name in (_PYTHON_UPSTREAM, made):
        if engine.images.id(name) is not None:
            return name, f"on {name.partition('@')[0]}, which was here"
    why = _pulled(engine, _PYTHON_UPSTREAM, pull=pull, tell=tell)
    if why is None:
        return _PYTHON_UPSTREAM, f"on {_PYTHON_UPSTREAM.partition('@')[0]}, pulled"
    try:
        with tempfile.TemporaryDirectory(prefix="ws-harness-") as name:
            archive = make_base(Path(name), tell=tell)
            engine.images.load_root(str(archive), name=made)
    except EnvironmentFailed as error:
        raise _both(DAEMON, why, error) from None
    return made, f"on a base by debootstrap, for none can be pulled: {why}"


def _pulled(engine: Engine, name: str, *, pull: bool, tell: Tell) -> str | None:
    """Pull an image; why it could not be, None where it was."""
    if not pull:
        return "pulling was switched off"
    tell(f"pulling {name.partition('@')[0]}")
    work = lambda: engine.images.pull(name, within_s=_PULL_S)  # noqa: E731
    try:
        patiently(f"pulling {name.partition('@')[0]}", work, tell)
    except EnvironmentFailed as error:
        return error.headline.rpartition("cannot be pulled: ")[2]
    return None


def _build(
    engine: Engine,
    folder: Path,
    tag: str,
    dockerfile: str,
    labels: dict[str, str],
    **arguments: str,
) -> None:
    (folder / "Dockerfile").write_text((_DOCKERFILES / dockerfile).read_text("utf-8"), "utf-8")
    engine.images.build(str(folder), tag=tag, arguments=arguments, labels=labels)


def _both(name: str, why: str, error: EnvironmentFailed) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"image {name} cannot be had",
        [("pulled", why), ("made", error.headline), *error.details],
    )
