"""
Break one thing on purpose, then run the harness: a test that still passes proves nothing.

    python tests/sabotage.py inert:latency proxy --port 0     the toxic is accepted and does nothing
    python tests/sabotage.py rst-as-fin proxy --port 0        resets leave as FIN
    python tests/sabotage.py bypass demo                      clients are sent past the proxy
    python tests/sabotage.py inert:all demo                   the demo's proxy is sabotaged
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from harness.faults.base import EOF, Fault, Piece, Pipe, Toxic
from harness.registry import catalogue

__all__ = ["command", "sabotage", "toxics"]


def toxics() -> dict[str, type[Toxic]]:
    """Every toxic there is."""
    faults = catalogue("harness.faults", Fault)
    return {name: fault for name, fault in faults.items() if issubclass(fault, Toxic)}


def command(what: str) -> tuple[str, ...]:
    """The command of a sabotaged proxy, without its options."""
    return (sys.executable, str(Path(__file__).resolve()), what, "proxy")


class _Through(Pipe):
    """What a toxic would be that does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[Piece] = []

    def receive_data(self, data: bytes, now: float) -> None:
        self._pieces.append(data)

    def receive_eof(self, now: float) -> None:
        self._pieces.append(EOF)

    def next_due(self) -> float | None:
        return 0.0 if self._pieces else None

    def advance(self, now: float) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces

    def change(self, toxic: Any, now: float) -> None:
        pass

    def drain(self) -> list[Piece]:
        return self.advance(0.0)


def sabotage(what: str) -> None:
    """Break it, in this process and in the proxies it starts from here on."""
    if what.startswith("inert:"):
        name = what.removeprefix("inert:")
        for toxic in toxics().values() if name == "all" else [toxics()[name]]:
            toxic.pipe = lambda self, draws, now: _Through()  # type: ignore[method-assign]
    elif what == "rst-as-fin":
        from harness.proxy import relay

        relay.reset = lambda transport: transport.abort()
    elif what == "bypass":
        from harness.environment.base import Environment

        Environment.address = property(  # type: ignore[assignment]
            lambda self: self.stack.site.address
        )
    else:
        raise SystemExit(f"{what!r} is no sabotage; inert:NAME, inert:all, rst-as-fin or bypass")
    if "harness.environment.local" in sys.modules or what != "bypass":
        from harness.environment import local

        local.PROXY_COMMAND = command(what)  # type: ignore[misc]


if __name__ == "__main__":
    _, what, *arguments = sys.argv
    sabotage(what)
    from harness.cli import main

    sys.argv = ["harness", *arguments]
    main()
