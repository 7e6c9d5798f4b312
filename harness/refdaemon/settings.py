"""What a daemon is started with that is no configuration: it cannot change, or is for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.resilience.config import Loaded

__all__ = ["Settings", "Transport"]

Transport = Literal["picows", "websockets"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    One daemon's settings.

    Attributes:
        loaded: Its configuration at the start, and where that came from.
        transport: Which library speaks WebSocket.
        effects: The effect log; None keeps none.
        allow_remote: Whether it may listen where other machines reach it.
        defects: The names of the defects that are switched on.
    """

    loaded: Loaded
    transport: Transport = "picows"
    effects: Path | None = None
    allow_remote: bool = False
    defects: frozenset[str] = frozenset()
