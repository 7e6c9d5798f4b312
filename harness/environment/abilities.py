"""
What can be done in an environment, and why not where it cannot.

An ability is a word with None (it is there) or a reason (it is not). Faults say which
they need, tests ask with a marker, reports print them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.daemons.base import Daemon
from harness.environment.probe import ResetPath

__all__ = [
    "ABILITIES",
    "HARMS_THE_DAEMON",
    "OF_A_PROGRAM",
    "OF_THE_DAEMON",
    "abilities_of",
    "reset_abilities",
]

ABILITIES: Final[Mapping[str, str]] = {
    "rst": "a TCP reset reaches the client as one",
    "live_rst": "a connection that is open already can be reset",
    "process": "the daemon's process can be paused, killed and restarted",
    "effects": "the daemon keeps an effect log that the harness reads",
    "health": "the daemon reports on itself: connections, sessions, counters",
    "events": "the proxy tells what it did to which connection",
    "seed": "jitter and toxicity are drawn from the seed",
    "frames": "faults can look into WebSocket frames",
    "docker": "the daemon runs in a container",
    "network": "the daemon can be cut off its network and put back",
    "memory_limit": "the daemon's memory can be limited while it runs",
    "cpu_limit": "the daemon's CPU time can be limited while it runs",
    "descriptor_limit": "the daemon's open files can be limited while it runs",
    "provider": "faults can be put between the daemon and the provider behind it, and on that",
    "executions": "the provider keeps a log of executions that the harness reads",
}
"""Every ability, and what it means."""

_HARMS: Final = ("process", "network", "memory_limit", "cpu_limit", "descriptor_limit")

HARMS_THE_DAEMON: Final = (*_HARMS, "provider")
"""Those that harm it for everybody who uses it; what it makes of its provider's faults it keeps."""

OF_A_PROGRAM: Final = (*_HARMS, "docker")
"""Those that hang on where a program runs, a daemon or a provider."""

OF_THE_DAEMON: Final = (*OF_A_PROGRAM, "effects")
"""Those that hang on where the daemon runs."""

_NO_FRAMES: Final = "no fault of this version looks into frames"
_TLS: Final = "TLS passes through the proxy, which sees no frames"


def abilities_of(daemon: Daemon) -> dict[str, str | None]:
    """Those that hang on the daemon's language, and those that nobody has yet."""
    dialect = daemon.dialect
    health = None if "health" in dialect.questions else f"{dialect.name} has no such question"
    return {
        "health": health,
        "frames": _TLS if daemon.tls else _NO_FRAMES,
    }


def reset_abilities(path: ResetPath) -> dict[str, str | None]:
    """What a probe of the path to the client showed."""
    return {
        "rst": None if path.live or path.armed else path.reason,
        "live_rst": None if path.live else path.reason,
    }
