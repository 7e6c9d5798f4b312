"""The link is down: connections are refused."""

from __future__ import annotations

from typing import ClassVar

from harness.faults.base import Fault, Target, fault

__all__ = ["Down"]


@fault
class Down(Fault):
    """
    Close the proxy's listener and its live connections, as if nobody listened there.

    New connections are refused by the kernel. The port is kept and opened again
    when the fault is lifted.
    """

    type: ClassVar[str] = "down"

    async def inject(self, target: Target) -> None:
        """Disable the proxy."""
        await target.close_link()

    async def lift(self, target: Target) -> None:
        """Enable it again."""
        await target.open_link()
