"""The daemon freezes: its sockets live, nobody answers."""

from __future__ import annotations

from typing import ClassVar

from harness.faults.base import Fault, Target, fault

__all__ = ["Pause"]


@fault
class Pause(Fault):
    """
    Stop the daemon's processes without telling them (SIGSTOP), and let them go on when lifted.

    The kernel goes on accepting connections and bytes for it.
    """

    type: ClassVar[str] = "pause"
    needs: ClassVar[frozenset[str]] = frozenset({"process"})

    async def inject(self, target: Target) -> None:
        """Freeze it."""
        await target.pause_program()

    async def lift(self, target: Target) -> None:
        """Let it go on."""
        await target.resume_program()
