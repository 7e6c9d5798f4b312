"""What a client meets on a path: all of it brought up once, tried, and put away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.daemons.reference import Reference
from harness.environment.backends import Choice, engine, stack_of
from harness.environment.probe import ResetPath

if TYPE_CHECKING:
    from harness.environment.containers import Engine

__all__ = ["PathSeen", "see_path"]


@dataclass(frozen=True)
class PathSeen:
    """
    What was seen on a path.

    Attributes:
        path: Its name; "local" where there is no container.
        probed: What became of resets, and how long a byte took.
    """

    path: str
    probed: ResetPath

    @property
    def resets(self) -> bool:
        """Whether a reset reaches the client in any way."""
        return self.probed.live or self.probed.armed

    @property
    def lines(self) -> list[str]:
        """What is to be read: the path, then each of its legs."""
        return [f"path {self.path}", *map(str, self.probed.legs)]


def see_path(choice: Choice, *, connect: Callable[[], Engine] = engine) -> PathSeen:
    """
    Bring daemon and proxy server up, see whether resets arrive, put all of it away.

    Blocks for about a second.

    Args:
        choice: Which path.
        connect: Finds the container engine, where one is needed.

    Raises:
        EnvironmentFailed: If they cannot be brought up.
    """
    return asyncio.run(_look(choice, connect))


async def _look(choice: Choice, connect: Callable[[], Engine]) -> PathSeen:
    async with stack_of(Reference(), choice=choice, connect=connect) as stack:
        probed = await stack.probe()
        return PathSeen(str(stack.site.describe().get("path", "local")), probed)
