"""Images under names of a test's own, on the engine that is there; nothing of them stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.clock import fresh_id
from harness.environment import images
from harness.environment.containers import Engine
from harness.environment.images import Image
from harness.errors import EnvironmentFailed
from tests.backends import no_containers

__all__ = ["Bench", "bench", "engine_or_skip"]


def engine_or_skip(config: pytest.Config) -> Engine:
    """The engine; where there is none the test is skipped, or fails where containers must be."""
    try:
        engine = Engine()
    except EnvironmentFailed as error:
        no_containers(config, str(error))
    return engine


@dataclass(frozen=True)
class Bench:
    """
    An engine, a folder for what is fetched, and names that nobody else has.

    Attributes:
        told: The lines that were told.
    """

    engine: Engine
    folder: Path
    mark: str
    told: list[str]

    @property
    def daemon(self) -> Image:
        """Our own image."""
        return replace(images.DAEMON, name=f"ws-harness-test-{self.mark}:daemon")

    @property
    def toxiproxy(self) -> Image:
        """The real Toxiproxy's."""
        return replace(images.TOXIPROXY, name=f"ws-harness-test-{self.mark}:toxiproxy")

    def ensure(self, *wanted: Image, pull: bool = False) -> None:
        """As the command does, with these images."""
        images.ensure(
            self.engine, pull=pull, tell=self.told.append, images=wanted, folder=self.folder
        )

    def said(self, words: str) -> list[str]:
        """The lines with those words in them."""
        return [line for line in self.told if words in line]


@contextmanager
def bench(folder: Path, config: pytest.Config) -> Iterator[Bench]:
    """A bench; the images of its names are removed."""
    made = Bench(engine_or_skip(config), folder, fresh_id(), [])
    try:
        yield made
    finally:
        images.remove(made.engine, images=[made.daemon, made.toxiproxy])
        made.engine.close()
