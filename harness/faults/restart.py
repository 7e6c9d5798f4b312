"""The daemon is restarted in an orderly way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from harness.faults.base import Fault, Target, above_zero, fault

__all__ = ["Restart"]


@fault
class Restart(Fault):
    """
    Ask the daemon to end (SIGTERM), then start it again on the same port.

    Injecting returns when the new process answers hello. For a restart without
    warning, inject and lift `Kill`.

    Args:
        within_s: Kill it where it has not ended after so many seconds.

    Raises:
        InvalidValue: If the bound is not above 0.
    """

    type: ClassVar[str] = "restart"
    needs: ClassVar[frozenset[str]] = frozenset({"process"})

    within_s: float = 10.0

    @classmethod
    def complaints(cls, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Also that about a bound which is none."""
        return super().complaints(values) + above_zero(values, "within_s", "seconds")

    async def inject(self, target: Target) -> None:
        """Stop it and start it again."""
        await target.stop_program(within_s=self.within_s)
        await target.start_program()

    async def lift(self, target: Target) -> None:
        """See that it runs."""
        await target.start_program()
