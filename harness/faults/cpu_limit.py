"""The daemon gets less CPU time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from harness.faults.base import Fault, Target, above_zero, fault

__all__ = ["CpuLimit"]


@fault
class CpuLimit(Fault):
    """
    Give the daemon less CPU time than it usually has; its usual limit is back when lifted.

    It is refused nothing: it is held back, and everything takes longer. Only a container can be.
    A limit that is not below the daemon's usual one is refused when it is put on.

    Args:
        cpus: The most CPU time it may have, in CPUs: 0.5 is half of one.

    Raises:
        InvalidValue: If the limit is not above 0.
    """

    type: ClassVar[str] = "cpu_limit"
    needs: ClassVar[frozenset[str]] = frozenset({"cpu_limit"})

    cpus: float

    @classmethod
    def complaints(cls, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Also that about a limit which is none."""
        return super().complaints(values) + above_zero(values, "cpus", "CPUs", float)

    async def inject(self, target: Target) -> None:
        """Put it on."""
        await target.limit_program(cpus=self.cpus)

    async def lift(self, target: Target) -> None:
        """Put the old one back."""
        await target.unlimit_program()
