"""What is here, what is not, and the way from one to the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.clock import now
from harness.daemons.reference import IMAGE
from harness.environment.images.base import MADE_BASE
from harness.environment.images.wanted import IMAGES, INPUTS, Image
from harness.environment.images.workshop import Workshop, cache_folder
from harness.errors import EnvironmentFailed

if TYPE_CHECKING:
    from harness.environment.containers import Engine

__all__ = ["ImageState", "ensure", "listed", "missing", "remove"]

_HOW: Final = "ws-harness.how"


@dataclass(frozen=True, kw_only=True)
class ImageState:
    """
    How it stands with an image that is needed.

    Attributes:
        name: Which.
        what: What is in it, in words.
        id: Its id; "" where it is not here.
        size_bytes: How large it is.
        how: How it came to be, as far as it says so itself.
        stale: Whether it was made of something else than would be taken today.
    """

    name: str
    what: str
    id: str = ""
    size_bytes: int = 0
    how: str = ""
    stale: bool = False

    @property
    def usable(self) -> bool:
        """Whether it is here, and what it should be."""
        return bool(self.id) and not self.stale

    def __str__(self) -> str:
        if not self.id:
            return f"{self.name}: not here ({self.what})"
        size = f"{self.size_bytes / 1e6:.0f} MB"
        stale = "; stale: what it is made of has changed" if self.stale else ""
        return f"{self.name}: {self.id[7:19]}, {size}, {self.how}{stale}"


def listed(engine: Engine, *, images: Sequence[Image] = IMAGES) -> list[ImageState]:
    """How it stands with each image. Some milliseconds."""
    return [_state(engine, image) for image in images]


def missing(engine: Engine, *, images: Sequence[Image] = IMAGES) -> list[str]:
    """The names of the images that are not here, or are stale. Some milliseconds."""
    return [state.name for state in listed(engine, images=images) if not state.usable]


def ensure(
    engine: Engine,
    *,
    pull: bool,
    tell: Callable[[str], None],
    images: Sequence[Image] = IMAGES,
    folder: Path | None = None,
) -> None:
    """
    See that each image is here, and bring what is not. What other processes bring meanwhile is
    waited for.

    Args:
        engine: Where they are needed.
        pull: Whether a registry may be asked.
        tell: Takes a line for a person: which image, by which way, how far.
        images: Which.
        folder: Where what is fetched is kept; None: the user's cache.

    Raises:
        EnvironmentFailed: If one or more cannot be had: which, what was tried, and what to do.
    """
    began = now()
    if missing(engine, images=images):
        workshop = Workshop(folder or cache_folder(), tell=tell)
        with workshop.alone():
            brought, failures = _bring(engine, workshop, images, pull=pull)
    else:
        workshop, brought, failures = None, 0, []
        for state in listed(engine, images=images):
            tell(str(state))
    retries = f", {workshop.retries} attempts made again" if workshop and workshop.retries else ""
    tell(
        f"{len(images) - len(failures)} of {len(images)} images are here, {brought} brought"
        f"{retries}, {now() - began:.1f} s"
    )
    if failures:
        raise EnvironmentFailed(
            f"{len(failures)} of {len(images)} images cannot be had",
            [*failures, ("kept", f"{folder or cache_folder()} has what was fetched")],
        )


def _bring(
    engine: Engine, workshop: Workshop, images: Sequence[Image], *, pull: bool
) -> tuple[int, list[tuple[str, str]]]:
    """Bring what is not here. Returns how many, and why not the others."""
    brought, failures = 0, []
    for image in images:
        # Another process may have brought it while this one waited.
        old = _state(engine, image)
        workshop.tell(str(old))
        if old.usable:
            continue
        began = now()
        try:
            how = image.bring(engine, workshop, image.name, pull)
        except EnvironmentFailed as error:
            workshop.tell(f"{image.name}: cannot be had: {error.headline}")
            failures.append((image.name, str(error)))
            continue
        brought += 1
        if old.id:
            engine.images.discard(old.id)
        workshop.tell(f"{image.name}: {how}, in {now() - began:.1f} s")
    return brought, failures


def remove(engine: Engine, *, images: Sequence[Image] = IMAGES) -> list[str]:
    """
    Remove the images, and the base that was made for one. What was pulled for them stays.

    Returns:
        The names of those that were here.

    Raises:
        EnvironmentFailed: If a container has one, or it cannot be removed for another reason.
    """
    names = [image.name for image in images]
    if images is IMAGES:
        names += [*engine.images.tags(f"{IMAGE}-"), IMAGE, MADE_BASE.name]
    return [name for name in names if engine.images.remove(name)]


def _state(engine: Engine, image: Image) -> ImageState:
    facts = engine.images.facts(image.name)
    if facts is None:
        return ImageState(name=image.name, what=image.what)
    how = facts.labels.get(_HOW)
    if how is None:
        how = f"pulled {facts.digests[0]}" if facts.digests else "not made by this command"
    return ImageState(
        name=image.name,
        what=image.what,
        id=facts.id,
        size_bytes=facts.size_bytes,
        how=how,
        stale=facts.labels.get(INPUTS, "") != image.inputs(),
    )
