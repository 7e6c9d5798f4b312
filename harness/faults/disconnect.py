"""The daemon is cut off its network."""

from __future__ import annotations

from typing import ClassVar

from harness.faults.base import Fault, Target, fault

__all__ = ["Disconnect"]


@fault
class Disconnect(Fault):
    """
    Take the daemon's container off its network; put it back with its old address when lifted.

    Connections that are open fall silent: nobody is told. Where they are as patient as TCP
    is, they go on afterwards. New ones find nobody.
    """

    type: ClassVar[str] = "disconnect"
    needs: ClassVar[frozenset[str]] = frozenset({"network"})

    async def inject(self, target: Target) -> None:
        """Cut it off."""
        await target.disconnect_program()

    async def lift(self, target: Target) -> None:
        """Put it back."""
        await target.connect_program()
