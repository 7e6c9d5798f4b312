"""What a client meets on a path: all of it brought up once, tried, and put away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from harness.daemons.reference import Reference
from harness.environment.backends import Choice, stack_of
from harness.environment.probe import ResetPath

__all__ = ["PathSeen", "look_at_path"]


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

    def __str__(self) -> str:
        return f"path {self.path}, {self.probed}"


def look_at_path(choice: Choice) -> PathSeen:
    """
    Bring daemon and proxy server up, see whether resets arrive, put all of it away.

    Blocks for about a second.

    Raises:
        EnvironmentFailed: If they cannot be brought up.
    """
    return asyncio.run(_look(choice))


async def _look(choice: Choice) -> PathSeen:
    async with stack_of(Reference(), choice=choice) as stack:
        probed = await stack.probe()
        return PathSeen(str(stack.site.describe().get("path", "local")), probed)
