"""
Docker Compose, asked: each command a program of its own, in a session of its own, that carries
the run's id. It blocks.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from harness.environment.owner import own_name
from harness.environment.reaper import OWNER, PROGRAM, RUN_ID, end_all
from harness.errors import EnvironmentFailed

__all__ = ["Compose"]

_PROGRAM: Final = "compose"
_TAIL_LINES: Final = 20
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
# What is killed ends at once; its pipes with it.
_KILLED_S: Final = 5.0
# Without a plugin compose, docker takes its options for its own.
_NO_PLUGIN: Final = "unknown shorthand flag: 'p' in -p"


class Compose:
    """
    Compose for one file of the user's.

    Args:
        file: The Compose file.
        run_id: Whose it is.
        variables: Environment variables on top of the harness's own. A secret may be among them.

    Attributes:
        broken_off: Whether it was broken off.
    """

    def __init__(self, file: Path, *, run_id: str, variables: Mapping[str, str]) -> None:
        self.broken_off = False
        self._file = file
        self._run_id = run_id
        self._variables = {**os.environ, **variables, RUN_ID: run_id, PROGRAM: _PROGRAM}
        self._variables[OWNER] = own_name()
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def run(
        self,
        *words: str,
        project: str,
        overrides: Sequence[Path] = (),
        within_s: float,
        anyway: bool = False,
    ) -> str:
        """
        Carry out a command, to its end.

        Args:
            words: The command.
            project: The project's name.
            overrides: Files on top of the user's.
            within_s: After so many seconds it is killed.
            anyway: Also after it was broken off.

        Returns:
            What it wrote to its standard output.

        Raises:
            EnvironmentFailed: If it fails, does not end in time, or is broken off.
        """
        files = [word for file in (self._file, *overrides) for word in ("-f", str(file))]
        command = ["docker", "compose", "-p", project, *files]
        process = self._begin([*command, *words], anyway=anyway)
        try:
            output, said = process.communicate(timeout=within_s)
        except BaseException as error:
            self._kill(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_KILLED_S)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise EnvironmentFailed(
                f"docker compose {words[0]} did not end within {within_s:g} s",
                [("file", str(self._file))],
            ) from None
        if process.returncode and _NO_PLUGIN in said:
            raise _not_here()
        if process.returncode:
            # A builder says why on the one or the other.
            lines = _COLOURS.sub("", f"{output}\n{said}").splitlines()
            tail = "\n".join([line for line in lines if line.strip()][-_TAIL_LINES:])
            raise EnvironmentFailed(
                f"docker compose {words[0]} ended with {process.returncode}",
                [
                    ("file", str(self._file)),
                    ("it said", tail),
                    ("next", f"docker compose -f {self._file} {words[0]}, by hand"),
                ],
            )
        return output

    def _begin(self, command: Sequence[str], *, anyway: bool) -> subprocess.Popen[str]:
        with self._lock:
            if self.broken_off and not anyway:
                raise EnvironmentFailed("docker compose was broken off")
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    encoding="utf-8",
                    # What services write may be anything.
                    errors="replace",
                    env=self._variables,
                    start_new_session=True,
                )
            except FileNotFoundError:
                raise _not_here() from None
            return self._process

    def break_off(self) -> None:
        """From whatever thread: end what runs, and begin nothing more."""
        with self._lock:
            self.broken_off = True
            if self._process is not None:
                self._kill(self._process)

    def _kill(self, process: subprocess.Popen[str]) -> None:
        # Not reaped yet, so the group's number is nobody else's.
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        # Its plugin may have a group of its own.
        end_all(self._run_id, _PROGRAM)


def _not_here() -> EnvironmentFailed:
    return EnvironmentFailed(
        "a Compose project needs the program docker with its plugin compose",
        [("next", "install Docker Compose v2; `docker compose version` tells")],
    )
