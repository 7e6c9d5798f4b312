"""Images: looked up, fetched, built, removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import docker.errors
import urllib3.exceptions
from docker.utils import parse_repository_tag

from harness.clock import now
from harness.environment.containers.building import (
    BUILD_WITHIN_S,
    begin_build,
    follow_build,
    packed,
)
from harness.environment.containers.endpoint import Endpoint
from harness.environment.containers.told import hang_up, told
from harness.errors import EnvironmentFailed

__all__ = ["ImageFacts", "Images"]

# While it pulls, the engine says how far it is, many times a second.
_SILENCE_S: Final = 60.0
_TELL_S: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """
    What the engine knows of an image.

    Attributes:
        size_bytes: All of its layers, those that it shares with others too.
        digests: What it is called in registries, each by its digest.
    """

    id: str
    size_bytes: int
    labels: Mapping[str, str] = field(default_factory=dict)
    digests: Sequence[str] = ()


class Images:
    """The images of an engine."""

    def __init__(self, client: Any, endpoint: Endpoint) -> None:
        self._client = client
        self._endpoint = endpoint

    def facts(self, name: str) -> ImageFacts | None:
        """What is known of an image; None where there is no such image here."""
        try:
            with told(f"image {name} cannot be looked up"):
                found = self._client.images.get(name)
        except EnvironmentFailed as error:
            if isinstance(error.__context__, docker.errors.ImageNotFound):
                return None
            raise
        return ImageFacts(
            id=str(found.id),
            size_bytes=int(found.attrs["Size"]),
            labels=dict(found.labels),
            digests=tuple(found.attrs.get("RepoDigests") or ()),
        )

    def id(self, name: str) -> str | None:
        """An image's id; None where there is no such image here."""
        facts = self.facts(name)
        return None if facts is None else facts.id

    def labels(self, name: str) -> dict[str, str]:
        """An image's labels."""
        with told(f"image {name} cannot be looked up"):
            return dict(self._client.images.get(name).labels)

    def pull(
        self, name: str, *, within_s: float, progress: Callable[[str], None] = lambda _: None
    ) -> None:
        """
        Fetch an image from its registry.

        Args:
            within_s: When it is given up; where the engine falls silent, up to a minute later.
            progress: Takes every few seconds how far it is, in words.

        Raises:
            EnvironmentFailed: If it cannot be fetched: the engine's words are in it.
        """
        what = f"{name.partition('@')[0]} cannot be pulled"
        repository, tag = parse_repository_tag(name)
        slow = _patient(self._endpoint, min(within_s, _SILENCE_S))
        try:
            with told(what):
                events = slow.api.pull(repository, tag=tag or "latest", stream=True, decode=True)
                _follow_pull(events, what, within_s=within_s, progress=progress)
        finally:
            slow.close()

    def tag(self, name: str, new: str) -> None:
        """Give an image another name."""
        repository, _, tag = new.rpartition(":")
        with told(f"image {name} cannot be called {new}"):
            self._client.images.get(name).tag(repository, tag)

    def tags(self, name: str) -> list[str]:
        """The names that begin so, newest first."""
        with told(f"images called {name} cannot be listed"):
            listed = self._client.api.images(name=name.partition(":")[0])
            found = [image for each in listed for image in self._there(each["Id"])]
        dated = [(str(image.attrs["Created"]), tag) for image in found for tag in image.tags]
        return [tag for _, tag in sorted(dated, reverse=True) if tag.startswith(name)]

    def _there(self, image: str) -> list[Any]:
        """It, unless somebody removed it since it was listed."""
        try:
            return [self._client.images.get(image)]
        except docker.errors.ImageNotFound:
            return []

    def remove(self, name: str) -> bool:
        """
        Take an image's name away, and with the last one the image.

        Returns:
            Whether it was here.

        Raises:
            EnvironmentFailed: If a container has it.
        """
        try:
            with told(f"image {name} cannot be removed"):
                self._client.images.remove(name)
        except EnvironmentFailed as error:
            if isinstance(error.__context__, docker.errors.ImageNotFound):
                return False
            raise
        return True

    def build(
        self,
        folder: str,
        *,
        tag: str,
        dockerfile: str = "Dockerfile",
        arguments: Mapping[str, str],
        begun: Callable[[Callable[[], None]], None] = lambda _: None,
    ) -> list[str]:
        """
        Build an image without fetching anything: the base must be here.

        Args:
            folder: The context.
            tag: The image's name.
            dockerfile: Which file in the context says how.
            arguments: Build arguments.
            begun: Is given, when the builder begins, what breaks the build off.

        Returns:
            The builder's log, line by line.

        Raises:
            EnvironmentFailed: If it cannot be built, or not within ten minutes; the end of the
                log is in it.
        """
        slow = _patient(self._endpoint, BUILD_WITHIN_S)
        what = f"image {tag} cannot be built from {folder}"
        try:
            with told(what), packed(folder, dockerfile) as context:
                stream = begin_build(
                    slow.api, context, tag=tag, dockerfile=dockerfile, given=arguments
                )
            begun(hang_up(stream))
            by_hand = f"docker build -f {folder}/{dockerfile} {folder} says the same"
            return follow_build(stream, what, by_hand=by_hand)
        finally:
            slow.close()

    def load_root(self, archive: str, *, name: str, changes: Sequence[str] = ()) -> None:
        """
        Make an image of one layer from a tar archive of a root file system.

        Raises:
            EnvironmentFailed: If it cannot be made, for want of room for instance.
        """
        repository, _, tag = name.rpartition(":")
        slow = _patient(self._endpoint, BUILD_WITHIN_S)
        try:
            with told(f"image {name} cannot be made from {archive}"):
                slow.api.import_image(
                    archive, repository=repository, tag=tag, changes=list(changes)
                )
        finally:
            slow.close()


def _follow_pull(
    events: Iterator[dict[str, Any]],
    what: str,
    *,
    within_s: float,
    progress: Callable[[str], None],
) -> None:
    began = told_at = now()
    layers: dict[str, tuple[int, int]] = {}
    try:
        for event in events:
            # The status of the answer was sent before.
            if "error" in event:
                raise EnvironmentFailed(f"{what}: {event['error']}")
            detail = event.get("progressDetail") or {}
            if event.get("status") == "Downloading" and "total" in detail:
                layers[event["id"]] = (int(detail["current"]), int(detail["total"]))
            if now() - began > within_s:
                raise EnvironmentFailed(
                    f"{what}: not done within {within_s:g} s", [("found", _far(layers))]
                )
            if now() - told_at > _TELL_S:
                told_at = now()
                progress(_far(layers))
    except urllib3.exceptions.HTTPError as error:
        # How silence in the middle of an answer shows.
        raise EnvironmentFailed(
            f"{what}: the engine fell silent", [("found", f"{_far(layers)}; {error}")]
        ) from None
    finally:
        # That ends it in the engine, too.
        hang_up(events)()


def _patient(endpoint: Endpoint, silence_s: float) -> Any:
    """The engine, for what takes long: silence that lasts so long ends it."""
    client = endpoint.dial(timeout_s=silence_s)
    post = client.api.post

    def bounded(*arguments: Any, **options: Any) -> Any:
        # Where it pulls and imports, docker-py asks for no bound at all.
        return post(*arguments, **{**options, "timeout": options.get("timeout") or silence_s})

    client.api.post = bounded
    return client


def _far(layers: Mapping[str, tuple[int, int]]) -> str:
    done = sum(current for current, _ in layers.values())
    total = sum(whole for _, whole in layers.values())
    return f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
