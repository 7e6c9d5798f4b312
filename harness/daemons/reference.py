"""The daemon this project ships to be tested, and to test the harness with."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from harness import __version__
from harness.daemons._container import Container
from harness.daemons._provider import Provider
from harness.daemons.base import Daemon

__all__ = ["IMAGE", "Reference", "own_provider"]

IMAGE: Final = f"ws-harness:{__version__}"
"""The image of our own programs."""

_PORT: Final = 8079
_PROVIDER_PORT: Final = 8090
# -P: what lies in the caller's folder must not stand in for our modules.
_PROVIDER: Final = (
    *("-P", "-m", "harness.refdaemon.provider"),
    *("--host", "{host}", "--port", "{port}", "--executions", "{executions}"),
)


@dataclass(frozen=True, kw_only=True)
class Reference(Daemon):
    """
    `python -m harness.refdaemon`.

    With a provider, `own_provider()` for instance, it is told where that is: its tool `chat`
    calls it.

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
        at = None if self.provider is None else self.provider.at
        provider = [] if at is None else ["--provider", f"http://{at}"]
        return [
            # -P: what lies in the caller's folder must not stand in for our modules.
            *("-P", "-m", "harness.refdaemon"),
            *("--host", host, "--port", str(port)),
            *("--transport", self.transport),
            *("--effects", effects),
            *provider,
            *self.options,
        ]


def own_provider(*options: str) -> Provider:
    """
    `python -m harness.refdaemon.provider`, a stand-in for what a daemon calls.

    Args:
        options: Further command line options.
    """
    inside = ("python3", *_PROVIDER, "--allow-remote", *options)
    return Provider(
        template=("{python}", *_PROVIDER, *options),
        container=Container(image=IMAGE, port=_PROVIDER_PORT, command=inside),
    )
