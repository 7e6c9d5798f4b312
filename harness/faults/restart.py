"""The daemon is restarted in an orderly way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.errors import InvalidValue
from harness.faults.base import Fault, Target

__all__ = ["Restart"]


@dataclass(frozen=True, kw_only=True)
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

    within_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.within_s > 0:
            raise InvalidValue(f"restart: within_s {self.within_s} is not allowed; seconds above 0")

    async def inject(self, target: Target) -> None:
        """Stop it and start it again."""
        await target.stop_daemon(within_s=self.within_s)
        await target.start_daemon()

    async def lift(self, target: Target) -> None:
        """See that it runs."""
        await target.start_daemon()
