"""The daemon this project ships to be tested, and to test the harness with."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.daemons.base import Daemon

__all__ = ["Reference"]


@dataclass(frozen=True, kw_only=True)
class Reference(Daemon):
    """
    `python -m harness.refdaemon`.

    Args:
        transport: "picows" (fast) or "websockets" (the reference: is it us or the transport?).
        options: Further command line options, for instance ("--ping-interval", "1").
    """

    type: ClassVar[str] = "reference"

    transport: Literal["picows", "websockets"] = "picows"
    options: tuple[str, ...] = ()

    def command(self, *, host: str, port: int, effects: str) -> list[str]:
        """Start it with an effect log."""
        return [
            # -P: what lies in the caller's folder must not stand in for our modules.
            *(sys.executable, "-P", "-m", "harness.refdaemon"),
            *("--host", host, "--port", str(port)),
            *("--transport", self.transport),
            *("--effects", effects),
            *self.options,
        ]
