"""Images: looked up, fetched, built."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import docker.errors

import docker
from harness.environment.containers.told import told
from harness.errors import EnvironmentFailed

__all__ = ["Images"]


class Images:
    """The images of an engine."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def id(self, name: str) -> str | None:
        """An image's id; None where there is no such image here."""
        try:
            with told(f"image {name} cannot be looked up"):
                return str(self._client.images.get(name).id)
        except EnvironmentFailed as error:
            if isinstance(error.__context__, docker.errors.ImageNotFound):
                return None
            raise

    def labels(self, name: str) -> dict[str, str]:
        """An image's labels."""
        with told(f"image {name} cannot be looked up"):
            return dict(self._client.images.get(name).labels)

    def pull(self, name: str, *, within_s: float) -> None:
        """Fetch an image from its registry."""
        slow = docker.from_env(timeout=int(within_s))
        try:
            with told(f"image {name} cannot be pulled"):
                slow.images.pull(name)
        finally:
            slow.close()

    def tag(self, name: str, other: str) -> None:
        """Give an image another name, too."""
        repository, _, tag = other.rpartition(":")
        with told(f"image {name} cannot be tagged {other}"):
            self._client.images.get(name).tag(repository, tag)

    def tags(self, name: str) -> list[str]:
        """The names that begin so, newest first."""
        with told(f"images called {name} cannot be listed"):
            found = self._client.images.list(name=name.partition(":")[0])
        dated = [(str(image.attrs["Created"]), tag) for image in found for tag in image.tags]
        return [tag for _, tag in sorted(dated, reverse=True) if tag.startswith(name)]

    def remove(self, name: str) -> None:
        """Take a name away, and the image where it has no other; nothing, where it is gone."""
        with told(f"image {name} cannot be removed"), contextlib.suppress(docker.errors.NotFound):
            self._client.images.remove(name)

    def build(
        self,
        folder: str,
        *,
        tag: str,
        dockerfile: str = "Dockerfile",
        arguments: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[str]:
        """
        Build an image without fetching anything: the base must be here.

        Returns:
            The builder's log, line by line.

        Raises:
            EnvironmentFailed: If it cannot be built; the end of the log is in it.
        """
        slow = docker.from_env(timeout=600)
        try:
            with told(f"image {tag} cannot be built from {folder}"):
                _, log = slow.images.build(
                    path=folder,
                    tag=tag,
                    dockerfile=dockerfile,
                    buildargs=dict(arguments or {}),
                    labels=dict(labels or {}),
                    rm=True,
                    forcerm=True,
                )
                return _lines(log)
        except EnvironmentFailed as error:
            if isinstance(error.__context__, docker.errors.BuildError):
                tail = "\n".join(_lines(error.__context__.build_log)[-12:])
                raise EnvironmentFailed(
                    f"image {tag} cannot be built from {folder}: {error.__context__.msg}",
                    [("log tail", tail), ("next", f"docker build {folder} says the same")],
                ) from None
            raise
        finally:
            slow.close()

    def load_root(self, archive: str, *, name: str, changes: Sequence[str] = ()) -> None:
        """Make an image of one layer from a tar archive of a root file system."""
        repository, _, tag = name.rpartition(":")
        slow = docker.from_env(timeout=600)
        try:
            with told(f"image {name} cannot be made from {archive}"):
                slow.api.import_image(
                    archive, repository=repository, tag=tag, changes=list(changes)
                )
        finally:
            slow.close()


def _lines(log: Any) -> list[str]:
    text = "".join(str(part.get("stream", part.get("error", ""))) for part in log)
    return [line for line in text.splitlines() if line.strip()]
