"""
Daemon and proxy as processes of this machine; no Docker needed.

Ready means a completed hello on the daemon's *own* address: a proxy accepts for a
dead daemon too. Ports stay reserved while nobody listens, so a restarted daemon has
its old one.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Final

from harness.address import Address
from harness.clock import now
from harness.daemons.base import Daemon
from harness.environment.base import Environment
from harness.environment.household import Household
from harness.environment.making import make_proxy, remove_proxy
from harness.environment.processes import Program, Reaper
from harness.environment.readiness import daemon_ready, proxy_ready
from harness.environment.stack import ANY_PORT, Stack
from harness.errors import EnvironmentFailed, ProgramExited
from harness.history import Recorder, Silent
from harness.proxy.control import Control, ProxyState
from harness.proxy.ports import Reservation, reason

__all__ = ["PROXY_COMMAND", "LocalDaemon", "LocalEnvironment", "LocalProxy", "LocalStack"]

# -P: what lies in the caller's folder must not stand in for our modules.
PROXY_COMMAND: Final = (sys.executable, "-P", "-m", "harness", "proxy")
"""The command of our own proxy, without its options."""

_HOST: Final = "127.0.0.1"
_PROXY_START_TIMEOUT_S = 10.0
_DAEMON_STOP_S = 2.0
_PROXY_STOP_S = 1.0
_START_ATTEMPTS = 3
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
        recorder: Where its start and end are noted.
    """

    backend: Final = "embedded"
    own: Final = True
    abilities: ClassVar[Mapping[str, str | None]] = {"events": None, "seed": None}

    def __init__(
        self,
        household: Household,
        *,
        seed: int = 0,
        command: Sequence[str] | None = None,
        port: int = 0,
        allow_remote: bool = False,
        recorder: Recorder | None = None,
    ) -> None:
        self._household = household
        self._seed = seed
        self._command = [*(command or PROXY_COMMAND), "--seed", str(seed)]
        self._command += ["--allow-remote"] if allow_remote else []
        self._port = port
        self._recorder: Recorder = Silent() if recorder is None else recorder
        self._reservation: Reservation | None = None
        self._program: Program | None = None
        self._ready = False

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
    def trouble(self) -> str | None:
        """How it ended, where nobody asked it to."""
        return self.program.state if self._ready and not self.program.alive else None

    def start(self) -> None:
        """Start it on a port of its own, where it does not run yet."""
        if self._program is not None:
            return
        self._reservation = _reserved(self._port)
        self._program = Program(
            "proxy",
            [*self._command, "--port", str(self._reservation.address.port)],
            variables={},
            run_id=self._household.run_id,
            log=self._household.directory / "proxy.log",
            kept=self._household.kept,
        )
        self._program.start()

    async def ready(self) -> None:
        """Wait until it answers."""
        if self._ready:
            return
        await proxy_ready(self.control, self.program, within_s=_PROXY_START_TIMEOUT_S)
        self._ready = True
        _note(self._recorder, self.program, "started")

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
            await _end(self._program, self._recorder, within_s=_PROXY_STOP_S)
        if self._reservation is not None:
            self._reservation.close()

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
            "python": platform.python_version(),
            "system": platform.platform(),
            "versions": {name: _version(name) for name in _PACKAGES},
        }


class LocalDaemon:
    """
    A daemon, a process.

    Args:
        daemon: Whom to start.
        household: Whose it is.
        recorder: Where its starts and ends are noted.
    """

    backend: Final = "local"
    own: Final = True

    def __init__(
        self, daemon: Daemon, household: Household, *, recorder: Recorder | None = None
    ) -> None:
        self.daemon = daemon
        self._household = household
        self._recorder: Recorder = Silent() if recorder is None else recorder
        self._reservation: Reservation | None = None
        self._program: Program | None = None
        # From its hello until somebody ends it.
        self._wanted = False

    @property
    def program(self) -> Program:
        """Its process."""
        assert self._program is not None
        return self._program

    @property
    def address(self) -> Address:
        """The daemon's own address."""
        assert self._reservation is not None
        return self._reservation.address

    @property
    def effects_file(self) -> Path:
        """Where the daemon's effects go."""
        return (self._household.directory / "effects.jsonl").resolve()

    @property
    def abilities(self) -> Mapping[str, str | None]:
        """Its process is ours; its effects are, where it was told the file."""
        texts = [*self.program.command, *self.program.variables.values()]
        told = any(str(self.effects_file) in text for text in texts)
        return {"process": None, "effects": None if told else "the daemon was not told {effects}"}

    @property
    def trouble(self) -> str | None:
        """How it ended, where nobody asked it to."""
        return self.program.state if self._wanted and not self.program.alive else None

    def start(self) -> None:
        """Start it on a port of its own."""
        self._program = self._new()
        self._program.start()

    def _new(self) -> Program:
        """Its program on a fresh port, not yet started."""
        if self._reservation is not None:
            self._reservation.close()
        self._reservation = _reserved()
        host, port = self.address.host, self.address.port
        effects = str(self.effects_file)
        daemon = self.daemon
        return Program(
            "daemon",
            daemon.command(host=host, port=port, effects=effects),
            variables=daemon.variables(host=host, port=port, effects=effects),
            run_id=self._household.run_id,
            log=self._household.directory / "daemon.log",
            directory=daemon.directory,
            kept=self._household.kept,
            secrets=() if daemon.token is None else (daemon.token,),
        )

    async def ready(self) -> None:
        """
        Wait for its hello; where it ended at once, try another port without keeping it.

        A daemon that does not set SO_REUSEADDR cannot bind a port we keep.
        """
        for _ in range(_START_ATTEMPTS - 1):
            try:
                await self._hello()
            except ProgramExited:
                log = self.program.tail().lower()
                if "address already in use" not in log and "eaddrinuse" not in log:
                    raise
            else:
                return
            self._program = self._new()
            assert self._reservation is not None
            self._reservation.close()
            self._program.start()
        await self._hello()

    async def _hello(self) -> None:
        program = self.program
        await daemon_ready(self.daemon, self.address, program)
        self._wanted = True
        ready_ms = round((now() - program.started_at) * 1000, 1)
        _note(self._recorder, program, "started", ready_ms=ready_ms)

    async def pause(self) -> None:
        """Freeze its processes."""
        self.program.freeze()
        _note(self._recorder, self.program, "paused")

    async def resume(self) -> None:
        """Let them go on, where they are frozen."""
        if self.program.thaw():
            _note(self._recorder, self.program, "resumed")

    async def kill(self) -> None:
        """End them at once."""
        self._wanted = False
        await self.program.kill()
        _note(self._recorder, self.program, "ended")

    async def stop(self, *, within_s: float) -> None:
        """Ask them to end, and kill them after that many seconds."""
        self._wanted = False
        await self.program.stop(within_s=within_s)
        _note(self._recorder, self.program, "ended")

    async def revive(self) -> None:
        """Start the daemon on its old port where it does not run, and wait for its hello."""
        if not self.program.alive:
            self.program.start()
            await self._hello()

    async def end(self) -> None:
        """End it and give its port back."""
        self._wanted = False
        if self._program is not None:
            await _end(self._program, self._recorder, within_s=_DAEMON_STOP_S)
        if self._reservation is not None:
            self._reservation.close()

    def written(self, *, since: int = 0) -> str:
        """What it wrote to its log from that byte on, without its token."""
        return self.program.written(since=since)

    def log_bytes(self) -> int:
        """How long that log is."""
        return self.program.log_bytes()

    def describe(self) -> Mapping[str, Any]:
        """Its command and its address."""
        return {
            "type": self.daemon.type,
            "dialect": self.daemon.dialect.name,
            "command": self.program.command,
            "address": str(self.address),
            "promises": list(self.daemon.promises),
        }


def _reserved(port: int = 0) -> Reservation:
    try:
        return Reservation(_HOST, port)
    except OSError as error:
        raise EnvironmentFailed(
            f"port {port} of {_HOST} cannot be had: {reason(error)}",
            [("next", "give another port; where none is given the system chooses one")],
        ) from None


async def _end(program: Program, recorder: Recorder, *, within_s: float) -> None:
    if not program.started:
        return
    early = not program.alive
    await program.stop(within_s=within_s)
    program.clean_log()
    _note(recorder, program, "ended", early=early)


def _note(recorder: Recorder, program: Program, what: str, **more: Any) -> None:
    how = {"how": program.state} if what == "ended" else {}
    value = {**how, "pid": program.pid, **more}
    recorder.record(process=program.name, type="info", f=what, value=value)


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
