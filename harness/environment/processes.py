"""
Programs of an environment: started, watched, frozen, ended, each with its log.

Plain `subprocess` objects: nothing here belongs to an event loop. Waiting is
polling with a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from harness.clock import now
from harness.environment import kernel
from harness.environment.logs import Log
from harness.environment.owner import own_name
from harness.environment.reaper import OWNER, PROGRAM, RUN_ID, carriers
from harness.errors import EnvironmentFailed
from harness.history import Recorder
from harness.proxy.ports import Reservation, reason

__all__ = ["Program", "Reaper", "Started", "end_program", "ending", "note_program", "reserve_port"]

_HOST: Final = "127.0.0.1"
_POLL_S: Final = 0.005
_ENDED_WITHIN_S: Final = 2.0
_SWEPT_WITHIN_S: Final = 20.0


def ending(code: int | None) -> str:
    """An exit code in words."""
    if code is None:
        return "runs"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exited with {code}"


class Program:
    """
    One program of a run, started as often as needed.

    Args:
        name: "daemon", "proxy" or "provider"; its processes carry it beside the run id.
        command: The command and its arguments.
        variables: Environment variables on top of the harness's own.
        run_id: The run.
        log: The file that its output is appended to.
        directory: Where it is started; None: where the harness was.
        kept: Whether that file will still be there afterwards.
        secrets: What must not stand in that file, nor in what is quoted of it.

    Attributes:
        variables: Those of its environment variables that we set. A secret may be among them.
        started_at: When its newest process was started, in seconds of the monotonic clock.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        variables: Mapping[str, str],
        run_id: str,
        log: Path,
        directory: Path | None = None,
        kept: bool = True,
        secrets: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._command = list(command)
        self.run_id = run_id
        self._directory = directory
        self.variables = dict(variables)
        self._variables = {**os.environ, **variables, RUN_ID: run_id, PROGRAM: name}
        self._variables[OWNER] = own_name()
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False
        self._log = Log(log, kept=kept, secrets=secrets)
        self.started_at = 0.0

    @property
    def command(self) -> list[str]:
        """The command and its arguments."""
        return self._command

    @property
    def pid(self) -> int:
        """Its newest process."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How its newest process ended, None while it runs; negative for a signal."""
        assert self._process is not None
        return self._process.poll()

    @property
    def alive(self) -> bool:
        """Whether it runs, be it in a process that it forked before its first one ended."""
        return self.exit_code is None or bool(carriers(self.run_id, self.name))

    def is_dying(self) -> bool:
        """Whether its newest process ends, or who runs in its place, as far as the kernel tells."""
        ended = self.exit_code is not None
        pids = carriers(self.run_id, self.name) if ended else [self.pid]
        return all(map(kernel.is_dying, pids))

    @property
    def state(self) -> str:
        """How its newest process is, in words."""
        return ending(self.exit_code)

    @property
    def identity(self) -> dict[str, Any]:
        """Which process it is, for the record."""
        return {"pid": self.pid}

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._process is not None

    def start(self) -> None:
        """
        Start it, in a session of its own, so that Ctrl-C reaches the harness only.

        Raises:
            EnvironmentFailed: If the command cannot be executed.
        """
        self.started_at = now()
        try:
            with self._log.path.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._variables,
                    cwd=self._directory,
                    start_new_session=True,
                )
        except OSError as error:
            raise EnvironmentFailed(
                f"the {self.name}'s command cannot be started: {error.strerror or error}",
                [
                    ("command", " ".join(self.command)),
                    ("directory", str(self._directory or Path.cwd())),
                    ("next", "see that it exists on this machine and may be executed"),
                ],
            ) from None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to every process of it, those it forked included."""
        assert self._process is not None
        pids = carriers(self.run_id, self.name)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if not pids and self._process.poll() is None:
            # Where other processes' environments are not shown: its process group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def freeze(self) -> None:
        """Stop it without telling it (SIGSTOP)."""
        self.send(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> bool:
        """Let it go on. Returns whether it was frozen."""
        was, self._frozen = self._frozen, False
        if was:
            self.send(signal.SIGCONT)
        return was

    async def ended(self, *, within_s: float) -> bool:
        """Wait until all of it is gone. Returns False where it is not in time."""
        deadline = now() + within_s
        while self.exit_code is None or carriers(self.run_id, self.name):
            if now() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def stop(self, *, within_s: float) -> None:
        """
        Ask it to end, and kill it where it does not in time.

        Raises:
            EnvironmentFailed: If it outlives even that.
        """
        if not self.started:
            return
        self.send(signal.SIGTERM)
        # A frozen process hears it only once it goes on.
        self.thaw()
        if not await self.ended(within_s=within_s):
            await self.kill()

    async def kill(self) -> None:
        """
        Kill every process of it and wait until they are gone.

        Raises:
            EnvironmentFailed: If one is still there after 5 s.
        """
        deadline = now() + 5.0
        while now() < deadline:
            # Again and again: it may be forking while it is killed.
            self.send(signal.SIGKILL)
            if await self.ended(within_s=0.1):
                return
        raise EnvironmentFailed(
            f"the {self.name} outlived SIGKILL for 5 s",
            [("processes", ", ".join(map(str, carriers(self.run_id, self.name))))],
        )

    def written(self, *, since: int = 0) -> str:
        """What it wrote to its log from that byte on, without secrets."""
        return self._log.written(since=since)

    def log_bytes(self) -> int:
        """How much it wrote so far."""
        return self._log.size()

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log."""
        return self._log.tail(lines)

    def next_step(self) -> tuple[str, str]:
        """The row of an error that says what to do next."""
        return self._log.next_step()

    def clean_log(self) -> None:
        """Put "***" for every secret in its log; for when it no longer writes there."""
        self._log.clean()


def reserve_port(port: int = 0) -> Reservation:
    """
    Keep a port of loopback; 0 lets the system choose.

    Raises:
        EnvironmentFailed: If somebody has it.
    """
    try:
        return Reservation(_HOST, port)
    except OSError as error:
        raise EnvironmentFailed(
            f"port {port} of {_HOST} cannot be had: {reason(error)}",
            [("next", "give another port; where none is given the system chooses one")],
        ) from None


async def end_program(program: Program, recorder: Recorder, *, within_s: float) -> None:
    """End a program that may have been started, and note how it ended."""
    if not program.started:
        return
    early = not program.alive
    await program.stop(within_s=within_s)
    program.clean_log()
    note_program(recorder, program, "ended", early=early)


class Started(Protocol):
    """
    What was started, be it a process or a container.

    Attributes:
        name: "daemon", "proxy" or "provider".
        started_at: When it was last started, in seconds of the monotonic clock.
    """

    name: str
    started_at: float

    @property
    def command(self) -> list[str]:
        """What was started."""

    @property
    def identity(self) -> dict[str, Any]:
        """Which process or container it is, for the record."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""

    @property
    def state(self) -> str:
        """How it is, in words."""

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log."""

    def next_step(self) -> tuple[str, str]:
        """The row of an error that says what to do next."""


def note_program(recorder: Recorder, program: Started, what: str, **more: Any) -> None:
    """Put on record what became of a program."""
    how = {"how": program.state} if what == "ended" else {}
    value = {**how, **program.identity, **more}
    recorder.record(process=program.name, type="info", f=what, value=value)


class Reaper:
    """
    The process that puts things away where the harness cannot; see `reaper`.

    One serves any number of runs. Safe to use from several threads.

    Attributes:
        run_ids: All that it was ever told to watch.
    """

    def __init__(self) -> None:
        self.run_ids: set[str] = set()
        # Those that have containers and were not put away.
        self._contained: set[str] = set()
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            # -P: what lies in the caller's folder must not stand in for our modules.
            [sys.executable, "-P", "-m", "harness.environment.reaper", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, run_id: str) -> None:
        """See to it that no process that carries this id outlives the harness."""
        self.run_ids.add(run_id)
        self._tell(f"{run_id} watch")

    def contain(self, run_id: str) -> None:
        """See to it that no container, network or volume of this run outlives the harness."""
        self._contained.add(run_id)
        self._tell(f"{run_id} contain")

    def remove(self, run_id: str, path: Path) -> None:
        """Have a directory of this run removed, too."""
        self._tell(f"{run_id} remove {path}")

    def delete(self, run_id: str, url: str) -> None:
        """Have something that this run made on somebody's HTTP server deleted, too."""
        self._tell(f"{run_id} delete {url}")

    def leave(self, run_id: str, url: str) -> None:
        """Take that back: it is not there any more, or not ours."""
        self._tell(f"{run_id} leave {url}")

    def settle(self, run_id: str) -> None:
        """Its processes and directories were put away."""
        self._contained.discard(run_id)
        self._tell(f"{run_id} done")

    def dismiss(self) -> None:
        """Nothing more will come: let it go."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            # An engine that would not remove something may take its time the second time, too.
            self._process.wait(_SWEPT_WITHIN_S if self._contained else _ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(os.fsencode(f"{line}\n"))
            self._process.stdin.flush()
