"""
The configuration of a daemon: read from several sources, checked at once, changed while it runs.

    loaded = load(Path("daemon.toml"), environment=os.environ, arguments={"server.port": "0"})
    loaded.config.breaker.failures, loaded.origin("breaker.failures")

docs/configuration.md has every key.
"""

from __future__ import annotations

from harness.resilience.config.live import Change, Differences, Live, differences
from harness.resilience.config.loading import Loaded, Sources, load
from harness.resilience.config.presets import PRESETS
from harness.resilience.config.sections import KEYS, SECTIONS, Config

__all__ = [
    "KEYS",
    "PRESETS",
    "SECTIONS",
    "Change",
    "Config",
    "Differences",
    "Live",
    "Loaded",
    "Sources",
    "differences",
    "load",
]
