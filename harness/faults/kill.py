"""The daemon dies without warning."""

from __future__ import annotations

from typing import ClassVar

from harness.faults.base import Fault, Target, fault

__all__ = ["Kill"]


@fault
class Kill(Fault):
    """
    End the daemon's processes at once (SIGKILL); start it again when lifted.

    While the fault is in place nobody listens on the daemon's port. A proxy still
    accepts for it and then closes.
    """

    type: ClassVar[str] = "kill"
    needs: ClassVar[frozenset[str]] = frozenset({"process"})

    async def inject(self, target: Target) -> None:
        """Kill it, and wait until it is gone."""
        await target.kill_program()

    async def lift(self, target: Target) -> None:
        """Start it, and wait until it answers hello on its own address."""
        await target.start_program()
