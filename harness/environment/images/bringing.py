"""What is here, what is not, and the way from one to the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.clock import now
from harness.environment.images.base import MADE_BASE
from harness.environment.images.wanted import IMAGES, Image
from harness.environment.images.workshop import Workshop, cache_folder
from harness.errors import EnvironmentFailed

if TYPE_CHECKING:
    from harness.environment.containers import Engine

__all__ = ["ImageState", "ensure", "listed", "missing", "remove"]

_HOW: Final = "ws-harness.how"
_MOST_KEPT: Final = 6


@dataclass(frozen=True, kw_only=True)
class ImageState:
    """
    How it stands with an image that is needed.

    Attributes:
        name: Which.
        tag: The name of the very one that is needed; of ours there is one for each state of the
            code.
        id: Its id; "" where it is not here.
        size_bytes: How large it is.
        how: How it came to be, as far as it says so itself.
        others: Whether one of that name is here that is made of other code.
    """

    name: str
    tag: str
    id: str = ""
    size_bytes: int = 0
    how: str = ""
    others: bool = False

    def __str__(self) -> str:
        if not self.id:
            others = ", only of other code or other packages" if self.others else ""
            return f"{self.tag}: not here{others}"
        return f"{self.tag}: {self.id[7:19]}, {self.size_bytes / 1e6:.0f} MB, {self.how}"


def listed(engine: Engine, *, images: Sequence[Image] = IMAGES) -> list[ImageState]:
    """How it stands with each image. Some milliseconds."""
    return [_state(engine, image) for image in images]


def missing(engine: Engine, *, images: Sequence[Image] = IMAGES) -> list[str]:
    """The names of the very images that are not here. Some milliseconds."""
    return [state.tag for state in listed(engine, images=images) if not state.id]


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
    began, brought, failures = now(), 0, list[tuple[str, str]]()
    workshop = Workshop(folder or cache_folder(), tell=tell)
    if missing(engine, images=images):
        with workshop.alone():
            brought, failures = _bring(engine, workshop, images, pull=pull)
    else:
        for state in listed(engine, images=images):
            tell(str(state))
    for image in images:
        _call(engine, image)
    again = len(workshop.again.told)
    retries = f", {again} attempts made again" if again else ""
    tell(
        f"{len(images) - len(failures)} of {len(images)} images are here, {brought} brought"
        f"{retries}, {now() - began:.1f} s"
    )
    if failures:
        raise EnvironmentFailed(
            f"{len(failures)} of {len(images)} images cannot be had",
            [*failures, ("kept", f"{workshop.folder} has what was fetched")],
        )


def _bring(
    engine: Engine, workshop: Workshop, images: Sequence[Image], *, pull: bool
) -> tuple[int, list[tuple[str, str]]]:
    """Bring what is not here. Returns how many, and why not the others."""
    brought, failures = 0, []
    for image in images:
        # Another process may have brought it while this one waited.
        state = _state(engine, image)
        workshop.tell(str(state))
        if state.id:
            continue
        began = now()
        try:
            how = image.bring(engine, workshop, image.tag, pull)
        except EnvironmentFailed as error:
            workshop.tell(f"{image.tag}: cannot be had: {error.headline}")
            failures.append((image.tag, str(error)))
            continue
        brought += 1
        workshop.tell(f"{image.tag}: {how}, in {now() - began:.1f} s")
    return brought, failures


def _call(engine: Engine, image: Image) -> None:
    """The one of this code has the plain name, for people and compose.yaml; few others stay."""
    here = engine.images.id(image.tag)
    if image.tag == image.name or here is None:
        return
    if engine.images.id(image.name) != here:
        engine.images.tag(image.tag, image.name)
    kept = [tag for tag in engine.images.tags(f"{image.name}-") if tag != image.tag]
    for old in kept[_MOST_KEPT - 1 :]:
        # A container has it: another time.
        with contextlib.suppress(EnvironmentFailed):
            engine.images.remove(old)


def remove(engine: Engine, *, images: Sequence[Image] = IMAGES) -> list[str]:
    """
    Remove the images, those of other code too, and the base that was made for one. What was
    pulled for them stays.

    Returns:
        The names of those that were here.

    Raises:
        EnvironmentFailed: If a container has one, or it cannot be removed for another reason.
    """
    names = [
        name for image in images for name in (*engine.images.tags(f"{image.name}-"), image.name)
    ]
    if images is IMAGES:
        names.append(MADE_BASE.name)
    return [name for name in names if engine.images.remove(name)]


def _state(engine: Engine, image: Image) -> ImageState:
    tag = image.tag
    facts = engine.images.facts(tag)
    if facts is None:
        others = tag != image.name and engine.images.id(image.name) is not None
        return ImageState(name=image.name, tag=tag, others=others)
    how = facts.labels.get(_HOW)
    if how is None:
        how = f"pulled {facts.digests[0]}" if facts.digests else "not made by this command"
    return ImageState(name=image.name, tag=tag, id=facts.id, size_bytes=facts.size_bytes, how=how)
