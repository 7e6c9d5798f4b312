"""The daemon this project ships to be tested, and to test the harness with."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from harness import __version__
from harness.daemons._container import Container
from harness.daemons.base import Daemon

__all__ = ["IMAGE", "Reference"]

IMAGE: Final = f"ws-harness:{__version__}"
"""The image of our own programs."""

_PORT: Final = 8079


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
    container: Container | None = field(
        default_factory=lambda: Container(image=IMAGE, port=_PORT), compare=False
    )

    def command(self, *, host: str, port: int, effects: str) -> list[str]:
        """Start it with an effect log."""
        return [sys.executable, *self._words(host=host, port=port, effects=effects)]

    def container_command(self, *, effects: str) -> list[str] | None:
        """The same, in there: on all of the container's addresses, which nobody else has."""
        assert self.container is not None
        host, port = "0.0.0.0", self.container.port
        words = self._words(host=host, port=port, effects=effects)
        return ["python3", *words, "--allow-remote"]

    def _words(self, *, host: str, port: int, effects: str) -> list[str]:
        return [
            # -P: what lies in the caller's folder must not stand in for our modules.
            *("-P", "-m", "harness.refdaemon"),
            *("--host", host, "--port", str(port)),
            *("--transport", self.transport),
            *("--effects", effects),
            *self.options,
        ]
