"""The daemon may use less than before: open files and sockets of each process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from harness.faults.base import Fault, Target, above_zero, fault

__all__ = ["DescriptorLimit"]


@fault
class DescriptorLimit(Fault):
    """
    Give the daemon a tighter limit; its old one is back when lifted.

    Args:
        descriptors: The most it may use: open files and sockets of each process.

    Raises:
        InvalidValue: If the limit is not above 0.
    """

    type: ClassVar[str] = "descriptor_limit"
    needs: ClassVar[frozenset[str]] = frozenset({"descriptor_limit"})

    descriptors: int

    @classmethod
    def complaints(cls, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Also that about a limit which is none."""
        return super().complaints(values) + above_zero(values, "descriptors", "descriptors", int)

    async def inject(self, target: Target) -> None:
        """Put it on."""
        await target.limit_daemon(descriptors=self.descriptors)

    async def lift(self, target: Target) -> None:
        """Put the old one back."""
        await target.unlimit_daemon()
