"""Connections made ready to be reset while they live, on whatever proxy there is."""

from __future__ import annotations

from typing import ClassVar

from harness.faults.base import Fault, Target, fault
from harness.faults.reset_peer import ResetPeer

__all__ = ["ArmedReset"]


@fault
class ArmedReset(Fault):
    """
    Every connection that opens while this is in place ends with an RST, however it ends.

    It harms nothing by itself. Toxiproxy 2.12 ends a connection that was open before
    `reset_peer` came with a plain FIN; one that met the toxic when it opened, if only at
    toxicity 0, is closed with an RST from then on: by `ResetPeer`, by `LimitData`, and by
    every other close, too. So put it on before connecting, and only where a test asks for
    it. Our own proxy resets live connections without it.

    Source: facts measured on Toxiproxy 2.12.0; toxics/reset_peer.go sets linger when a link
    begins.
    """

    type: ClassVar[str] = "armed_reset"
    needs: ClassVar[frozenset[str]] = frozenset({"rst"})

    async def inject(self, target: Target) -> None:
        """Arm it."""
        await target.add_toxic(ResetPeer(toxicity=0.0))

    async def lift(self, target: Target) -> None:
        """Disarm it, for connections that open later."""
        await target.remove_toxic()
