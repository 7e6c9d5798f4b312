"""What every backend is: a daemon and a proxy server that run somewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from harness.address import Address
from harness.daemons.base import Daemon
from harness.history import Recorder
from harness.proxy.control import Control

__all__ = ["Stack"]


class Stack(Protocol):
    """A daemon and a proxy server that run somewhere. Each backend is one."""

    daemon: Daemon
    control: Control
    recorder: Recorder

    @property
    def run_id(self) -> str:
        """Names everything that belongs to it."""

    @property
    def daemon_address(self) -> Address:
        """The daemon's own address."""

    @property
    def effects_file(self) -> Path:
        """Where the daemon's effects go."""

    async def pause_daemon(self) -> None:
        """Freeze the daemon's processes."""

    async def resume_daemon(self) -> None:
        """Let them go on."""

    async def kill_daemon(self) -> None:
        """End them at once."""

    async def stop_daemon(self, *, within_s: float) -> None:
        """Ask them to end."""

    async def start_daemon(self) -> None:
        """Start the daemon where it does not run, and wait for its hello."""
