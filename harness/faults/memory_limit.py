"""The daemon gets less memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from harness.faults.base import Fault, Target, above_zero, fault

__all__ = ["MemoryLimit"]


@fault
class MemoryLimit(Fault):
    """
    Give the daemon less memory than it usually has; its usual limit is back when lifted.

    A process of this machine keeps what it has, and is refused more (RLIMIT_DATA): its
    allocations fail. A container is limited as a whole, and the kernel kills what goes beyond.
    A limit that is not below the daemon's usual one is refused when it is put on.

    Args:
        limit_bytes: The most it may have, in bytes; each of its processes, where they are
            processes of this machine.

    Raises:
        InvalidValue: If the limit is not above 0.
    """

    type: ClassVar[str] = "memory_limit"
    needs: ClassVar[frozenset[str]] = frozenset({"memory_limit"})

    limit_bytes: int

    @classmethod
    def complaints(cls, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Also that about a limit which is none."""
        return super().complaints(values) + above_zero(values, "limit_bytes", "bytes", int)

    async def inject(self, target: Target) -> None:
        """Put it on."""
        await target.limit_program(memory_bytes=self.limit_bytes)

    async def lift(self, target: Target) -> None:
        """Put the old one back."""
        await target.unlimit_program()
