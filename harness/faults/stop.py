"""The daemon is asked to end, and stays away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from harness.faults.base import Fault, Target, above_zero, fault

__all__ = ["Stop"]


@fault
class Stop(Fault):
    """
    Ask the daemon to end (SIGTERM), kill it where it does not; start it again when lifted.

    A daemon in order closes its connections first. Where `Restart` has it back at once, this
    leaves it down.

    Args:
        within_s: Kill it where it has not ended after so many seconds. A container engine
            counts whole ones.

    Raises:
        InvalidValue: If the bound is not above 0.
    """

    type: ClassVar[str] = "stop"
    needs: ClassVar[frozenset[str]] = frozenset({"process"})

    within_s: float = 10.0

    @classmethod
    def complaints(cls, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Also that about a bound which is none."""
        return super().complaints(values) + above_zero(values, "within_s", "seconds")

    async def inject(self, target: Target) -> None:
        """Stop it, and wait until it is gone."""
        await target.stop_program(within_s=self.within_s)

    async def lift(self, target: Target) -> None:
        """Start it, and wait until it answers hello on its own address."""
        await target.start_program()
