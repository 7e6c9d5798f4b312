"""The daemon is restarted in an orderly way."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, ClassVar

from harness.faults.base import Fault, Target, fault

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
        rows = super().complaints(values)
        within_s = values.get("within_s", 1.0)
        if type(within_s) not in (int, float) or not 0 < within_s < inf:
            rows.append(("within_s", f"{within_s!r} is not allowed; seconds, more than 0"))
        return rows

    async def inject(self, target: Target) -> None:
        """Stop it and start it again."""
        await target.stop_daemon(within_s=self.within_s)
        await target.start_daemon()

    async def lift(self, target: Target) -> None:
        """See that it runs."""
        await target.start_daemon()
