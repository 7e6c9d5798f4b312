"""The daemon may use less than before: CPU time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from harness.faults.base import Fault, Target, above_zero, fault

__all__ = ["CpuLimit"]


@fault
class CpuLimit(Fault):
    """
    Give the daemon a tighter limit; its old one is back when lifted.

    Args:
        cpus: The most it may use: CPU time, in CPUs.

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
        await target.limit_daemon(cpus=self.cpus)

    async def lift(self, target: Target) -> None:
        """Put the old one back."""
        await target.unlimit_daemon()
