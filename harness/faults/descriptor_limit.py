"""The daemon gets fewer descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from harness.faults.base import Fault, Target, above_zero, fault

__all__ = ["DescriptorLimit"]


@fault
class DescriptorLimit(Fault):
    """
    Give the daemon fewer descriptors than it usually has; its usual limit is back when lifted.

    What is open stays open. New files and connections fail with EMFILE: a proxy before it
    accepts still, as the kernel does for it.
    A limit that is not below the daemon's usual one is refused when it is put on.

    Args:
        descriptors: The most open files and sockets that each of its processes may have.

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
        await target.limit_program(descriptors=self.descriptors)

    async def lift(self, target: Target) -> None:
        """Put the old one back."""
        await target.unlimit_program()
