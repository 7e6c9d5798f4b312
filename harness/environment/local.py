"""
Daemon and proxy as processes of this machine; no Docker needed.

Ready means a completed hello on the daemon's *own* address: a proxy accepts for a
dead daemon too.
"""

from __future__ import annotations

import asyncio
import platform
import secrets
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from harness.address import Address
from harness.clock import clock_id, now, stamp
from harness.daemons.base import Daemon
from harness.environment.base import Environment
from harness.environment.clean_up import put_away
from harness.environment.processes import Program, Reaper
from harness.environment.readiness import daemon_ready, proxy_ready
from harness.environment.reaper import end_all
from harness.errors import ProgramExited
from harness.history import Recorder, Silent
from harness.proxy.control import Control
from harness.proxy.ports import Reservation

__all__ = ["PROXY_COMMAND", "LocalEnvironment", "LocalStack"]

PROXY_COMMAND: Final = (sys.executable, "-m", "harness", "proxy")
"""The command of our own proxy, without its options."""

_HOST: Final = "127.0.0.1"
_PROXY_START_TIMEOUT_S = 10.0
_DAEMON_STOP_S = 2.0
_PROXY_STOP_S = 1.0
_START_ATTEMPTS = 3
_MOST_SWEEPS = 400


class LocalStack:
    """
    A daemon and our proxy, each a process, on ports the system chose.

    The ports stay reserved while nobody listens, so a restarted daemon has its old one.

    Args:
        daemon: Whom to start.
        directory: Where logs and effects go; None keeps them only while it runs.
        recorder: Where starts and ends are noted.
        seed: Root seed of the proxy's draws.
        proxy_command: What to start as the proxy, without its options.
    """

    def __init__(
        self,
        daemon: Daemon,
        *,
        directory: Path | None = None,
        recorder: Recorder | None = None,
        seed: int = 0,
        proxy_command: Sequence[str] | None = None,
    ) -> None:
        self.daemon = daemon
        self.recorder: Recorder = Silent() if recorder is None else recorder
        self.run_id = f"{stamp()}-{secrets.token_hex(6)}"
        self.seed = seed
        self._keep = directory is not None
        self._directory = directory
        self._proxy_command = list(proxy_command or PROXY_COMMAND)
        self._reservations: dict[str, Reservation] = {}
        self._programs: dict[str, Program] = {}

    @property
    def directory(self) -> Path:
        """Where logs and effects go."""
        assert self._directory is not None
        return self._directory

    @property
    def daemon_address(self) -> Address:
        """The daemon's own address."""
        return self._reservations["daemon"].address

    @property
    def effects_file(self) -> Path:
        """Where the daemon's effects go."""
        return self.directory / "effects.jsonl"

    @property
    def daemon_program(self) -> Program:
        """The daemon's process."""
        return self._programs["daemon"]

    @property
    def proxy_program(self) -> Program:
        """The proxy's process."""
        return self._programs["proxy"]

    async def __aenter__(self) -> Self:
        """Start both and wait until both answer. Where that fails, nothing is left."""
        # First of all, so that there is no moment without somebody to clean up.
        self._reaper = Reaper(self.run_id)
        try:
            if self._directory is None:
                self._directory = Path(tempfile.mkdtemp(prefix="harness-"))
                self._reaper.remove(self._directory)
            self._directory.mkdir(parents=True, exist_ok=True)
            await self._start_both()
        except BaseException as error:
            await self._close(error)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End both, bounded in time, and look that nothing is left."""
        await self._close(error)

    async def _start_both(self) -> None:
        proxy = self._reserve("proxy")
        self._programs["proxy"] = Program(
            "proxy",
            [*self._proxy_command, "--port", str(proxy.port), "--seed", str(self.seed)],
            variables={},
            run_id=self.run_id,
            log=self.directory / "proxy.log",
            kept=self._keep,
        )
        self.control = Control(f"http://{proxy}")
        self._programs["daemon"] = self._new_daemon()
        self.proxy_program.start()
        self.daemon_program.start()
        await proxy_ready(self.control, self.proxy_program, within_s=_PROXY_START_TIMEOUT_S)
        self._note(self.proxy_program, "started")
        await self._daemon_ready_or_retried()

    def _reserve(self, name: str) -> Address:
        if name in self._reservations:
            self._reservations.pop(name).close()
        self._reservations[name] = Reservation(_HOST)
        return self._reservations[name].address

    def _new_daemon(self) -> Program:
        """The daemon's program on a port of its own, not yet started."""
        address = self._reserve("daemon")
        effects = str(self.effects_file.resolve())
        return Program(
            "daemon",
            self.daemon.command(host=address.host, port=address.port, effects=effects),
            variables=self.daemon.variables(),
            run_id=self.run_id,
            log=self.directory / "daemon.log",
            kept=self._keep,
            secrets=() if self.daemon.token is None else (self.daemon.token,),
        )

    async def _daemon_ready_or_retried(self) -> None:
        """
        Wait for the daemon; where it ended at once, try another port without keeping it.

        A daemon that does not set SO_REUSEADDR cannot bind a port we keep.
        """
        for _ in range(_START_ATTEMPTS - 1):
            try:
                await self._daemon_ready()
            except ProgramExited:
                log = self.daemon_program.tail().lower()
                if "address already in use" not in log and "eaddrinuse" not in log:
                    raise
            else:
                return
            self._programs["daemon"] = self._new_daemon()
            self._reservations["daemon"].close()
            self.daemon_program.start()
        await self._daemon_ready()

    async def _daemon_ready(self) -> None:
        program = self.daemon_program
        await daemon_ready(self.daemon, self.daemon_address, program)
        self._note(program, "started", ready_ms=round((now() - program.started_at) * 1000, 1))

    async def pause_daemon(self) -> None:
        """Freeze the daemon's processes."""
        self.daemon_program.freeze()
        self._note(self.daemon_program, "paused")

    async def resume_daemon(self) -> None:
        """Let them go on, where they are frozen."""
        if self.daemon_program.thaw():
            self._note(self.daemon_program, "resumed")

    async def kill_daemon(self) -> None:
        """End them at once."""
        await self.daemon_program.kill()
        self._note(self.daemon_program, "ended")

    async def stop_daemon(self, *, within_s: float) -> None:
        """Ask them to end, and kill them after that many seconds."""
        await self.daemon_program.stop(within_s=within_s)
        self._note(self.daemon_program, "ended")

    async def start_daemon(self) -> None:
        """Start the daemon on its old port where it does not run, and wait for its hello."""
        if not self.daemon_program.alive:
            self.daemon_program.start()
            await self._daemon_ready()

    async def _close(self, error: BaseException | None) -> None:
        """Everything that was started is ended; each step, whatever the others did."""
        await put_away(error, self._end_programs(), self._look_that_nothing_is_left())

    async def _end_programs(self) -> None:
        bounds = {"daemon": _DAEMON_STOP_S, "proxy": _PROXY_STOP_S}
        running = [(p, bounds[name]) for name, p in self._programs.items() if p.started]
        unexpected = [program for program, _ in running if not program.alive]
        # Side by side, and each to its end, whatever becomes of the other.
        await put_away(None, *[asyncio.ensure_future(p.stop(within_s=b)) for p, b in running])
        for program, _ in running:
            program.clean_log()
            self._note(program, "ended", early=program in unexpected)

    async def _look_that_nothing_is_left(self) -> None:
        for reservation in self._reservations.values():
            reservation.close()
        for _ in range(_MOST_SWEEPS):
            if not end_all(self.run_id):
                break
            await asyncio.sleep(0.005)
        if not self._keep and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._reaper.dismiss()

    def _note(self, program: Program, what: str, **more: Any) -> None:
        how = {"how": program.state} if what == "ended" else {}
        value = {**how, "pid": program.pid, **more}
        self.recorder.record(process=program.name, type="info", f=what, value=value)

    def describe(self) -> dict[str, Any]:
        """What environment.json says of it. No secret is in it."""
        return {
            "backend": "local",
            "proxy": "embedded",
            "run_id": self.run_id,
            "seed": self.seed,
            "clock": clock_id(),
            "daemon": {
                "type": self.daemon.type,
                "command": self.daemon_program.command,
                "address": str(self.daemon_address),
            },
            "proxy_command": self.proxy_program.command,
            "python": platform.python_version(),
            "system": platform.platform(),
            "versions": {name: _version(name) for name in _PACKAGES},
        }


_PACKAGES: Final = ("ws-harness", "websockets", "picows", "uvloop", "h11", "msgspec")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


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
            )
        )

    async def __aenter__(self) -> Self:
        """Start both and make the proxy."""
        await self.stack.__aenter__()
        try:
            return await super().__aenter__()
        except BaseException as error:
            await put_away(error, self.stack.__aexit__(type(error), error, error.__traceback__))
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put everything away, whatever fails meanwhile. Nothing need be healed that ends."""
        await put_away(error, self.collect(), self.stack.__aexit__(kind, error, trace))
