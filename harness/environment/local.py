"""
Daemon and proxy as processes of this machine; no Docker needed.

The daemon's part is in `local_daemon`. Ports stay reserved while nobody listens.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from harness.address import Address
from harness.daemons.base import Daemon, Limits
from harness.environment.base import Environment
from harness.environment.household import Household
from harness.environment.limits import (
    BEGINNING,
    Mark,
    describe_local,
    exhausted,
    put_on,
    with_words,
)
from harness.environment.local_daemon import LocalDaemon
from harness.environment.making import make_proxy, remove_proxy
from harness.environment.parts import ANY_PORT, LOOPBACK
from harness.environment.processes import (
    Program,
    Reaper,
    end_program,
    note_program,
    reserve_port,
)
from harness.environment.readiness import proxy_ready
from harness.environment.stack import Stack
from harness.history import Recorder, Silent
from harness.proxy.control import Control, ProxyState
from harness.proxy.ports import Reservation

if TYPE_CHECKING:
    from harness.environment.networks import Network

__all__ = ["PROXY_COMMAND", "LocalDaemon", "LocalEnvironment", "LocalProxy", "LocalStack"]

# -P: what lies in the caller's folder must not stand in for our modules.
PROXY_COMMAND: Final = (sys.executable, "-P", "-m", "harness", "proxy")
"""The command of our own proxy, without its options."""

_PROXY_START_TIMEOUT_S: Final = 10.0
_PROXY_STOP_S: Final = 1.0
# It has two descriptors for each connection.
_PROXY_LIMITS: Final = Limits(memory_bytes=1 << 30, descriptors=16384)
_PACKAGES: Final = ("ws-harness", "websockets", "picows", "uvloop", "h11", "msgspec")


class LocalProxy:
    """
    Our proxy server, a process.

    Args:
        household: Whose it is.
        seed: Root seed of the draws of proxies that bring none.
        command: What to start, without its options.
        port: The port of its API; 0 lets the system choose.
        allow_remote: Whether it may connect to other machines.
        network: Where the daemons behind it stand, if they are containers.
        log: Its log's name in the household's folder.
        recorder: Where its start and end are noted.
    """

    backend: Final = "embedded"
    own: Final = True
    inside: Final = False
    tapped: Final = False
    host_of_harness: Final = LOOPBACK
    abilities: ClassVar[Mapping[str, str | None]] = {"events": None, "seed": None}

    def __init__(
        self,
        household: Household,
        *,
        seed: int = 0,
        command: Sequence[str] | None = None,
        port: int = 0,
        allow_remote: bool = False,
        network: Network | None = None,
        log: str = "proxy.log",
        recorder: Recorder | None = None,
    ) -> None:
        self._household = household
        self._seed = seed
        self._command = [*(command or PROXY_COMMAND), "--seed", str(seed)]
        self._command += ["--allow-remote"] if allow_remote else []
        self._port = port
        self._network = network
        self._log = log
        self._recorder: Recorder = Silent() if recorder is None else recorder
        self._reservation: Reservation | None = None
        self._program: Program | None = None
        self._ready = False
        # Of its limits those that do not hold, with the reason.
        self._lacking: dict[str, str] = {}

    @property
    def program(self) -> Program:
        """Its process."""
        assert self._program is not None
        return self._program

    @property
    def control(self) -> Control:
        """Its API."""
        assert self._reservation is not None
        return Control(f"http://{self._reservation.address}")

    @property
    def witness(self) -> Control | None:
        """It tells itself what happens to its connections."""
        return self.control

    @property
    def host_for_daemons(self) -> tuple[str, str]:
        """What this machine has on their network; without one, loopback."""
        return LOOPBACK if self._network is None else self._network.host_of_here

    @property
    def trouble(self) -> str | None:
        """How it ended, where nobody asked it to."""
        return self.program.state if self._ready and not self.program.alive else None

    async def ending(self) -> bool:
        """Whether it was killed, or exits, as far as the kernel tells."""
        return self.program.is_dying()

    async def start(self) -> None:
        """Start it on a port of its own, where it does not run yet."""
        if self._program is not None:
            return
        self._reservation = reserve_port(self._port)
        self._program = Program(
            "proxy",
            [*self._command, "--port", str(self._reservation.address.port)],
            variables={},
            run_id=self._household.run_id,
            log=self._household.directory / self._log,
            kept=self._household.kept,
        )
        self._program.start()
        self._lacking = put_on([self._program.pid], _PROXY_LIMITS)

    async def ready(self) -> None:
        """Wait until it answers."""
        if self._ready:
            return
        await proxy_ready(self.control, self.program, within_s=_PROXY_START_TIMEOUT_S)
        self._ready = True
        note_program(self._recorder, self.program, "started")

    async def make(
        self, name: str, *, upstream: Address, listen: Address | None, seed: int | None
    ) -> ProxyState:
        """Make a proxy; without an address it listens on a loopback port the system chooses."""
        return await make_proxy(
            self.control, name, upstream=upstream, listen=listen or ANY_PORT, seed=seed
        )

    async def remove(self, name: str) -> None:
        """Remove it; nothing, where it is gone already."""
        await remove_proxy(self.control, name)

    async def end(self) -> None:
        """End it and give its port back."""
        self._ready = False
        if self._program is not None:
            await end_program(self._program, self._recorder, within_s=_PROXY_STOP_S)
        if self._reservation is not None:
            self._reservation.close()

    async def mark(self) -> Mark:
        """This moment."""
        return Mark(self.log_bytes())

    async def limits_hit(self, *, since: Mark = BEGINNING) -> list[str]:
        """The limits that it hit, each in words."""
        if self._program is None:
            return []
        pids = [self.program.pid] if self.program.exit_code is None else []
        with suppress(OSError):
            return with_words(exhausted(pids, _PROXY_LIMITS), self.written(since=since.log_bytes))
        return []

    def written(self, *, since: int = 0) -> str:
        """What it wrote to its log from that byte on."""
        return self.program.written(since=since)

    def log_bytes(self) -> int:
        """How long that log is."""
        return self.program.log_bytes()

    def describe(self) -> Mapping[str, Any]:
        """Its command and the versions it runs with."""
        return {
            "command": self.program.command,
            "api": self.control.url,
            "seed": self._seed,
            "limits": describe_local(_PROXY_LIMITS, self._lacking),
            "python": platform.python_version(),
            "system": platform.platform(),
            "versions": {name: _version(name) for name in _PACKAGES},
        }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


class LocalStack(Stack):
    """
    A daemon and our proxy, each a process, on ports the system chose.

    Args:
        daemon: Whom to start.
        directory: Where logs and effects go; None keeps them only while it runs.
        recorder: Where starts and ends are noted.
        seed: Root seed of the proxy's draws.
        proxy_command: What to start as the proxy, without its options.
        reaper: Who cleans up if the harness dies; None: one of its own.
    """

    site: LocalDaemon
    server: LocalProxy

    def __init__(
        self,
        daemon: Daemon,
        *,
        directory: Path | None = None,
        recorder: Recorder | None = None,
        seed: int = 0,
        proxy_command: Sequence[str] | None = None,
        reaper: Reaper | None = None,
    ) -> None:
        household = Household(directory=directory, reaper=reaper)
        super().__init__(
            household,
            LocalDaemon(daemon, household, recorder=recorder),
            LocalProxy(household, seed=seed, command=proxy_command, recorder=recorder),
            recorder=recorder,
        )


class LocalEnvironment(Environment):
    """
    A daemon and a proxy before it, both its own; ended when the block is left.

    Args:
        daemon: Whom to start.
        directory: Where logs and effects are kept; None keeps them only meanwhile.
        recorder: Where ops go.
        seed: Root seed of the proxy's draws.
        proxy_command: What to start as the proxy.

    Raises:
        EnvironmentFailed: On entering, if daemon or proxy does not become ready; nothing is
            left then.
    """

    stack: LocalStack

    def __init__(
        self,
        daemon: Daemon,
        *,
        directory: Path | None = None,
        recorder: Recorder | None = None,
        seed: int = 0,
        proxy_command: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            LocalStack(
                daemon,
                directory=directory,
                recorder=recorder,
                seed=seed,
                proxy_command=proxy_command,
            ),
            owns=True,
        )
