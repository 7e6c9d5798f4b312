"""`harness up` as a process, what it printed, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.clock import now
from harness.environment.reaper import carriers
from tests.integration.proxy_process import BOUND_S

__all__ = ["Up"]

READY = "Ctrl-C ends it and puts everything away.\n"


class Up:
    """
    One `harness up`, in a folder of its own.

    Its output goes to files: nobody needs to read them for it to go on.
    """

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._files = folder / "stdout", folder / "stderr"
        environment = {k: v for k, v in os.environ.items() if k != "EXAI_WS_TOKEN"}
        environment |= {"TMPDIR": str(self.temporary), **variables}
        with self._files[0].open("wb") as output, self._files[1].open("wb") as complaints:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "harness", "up", *arguments],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=complaints,
            )

    @property
    def said(self) -> str:
        """What it printed so far."""
        return self._files[0].read_text()

    @property
    def complaints(self) -> str:
        """What it printed to stderr so far."""
        return self._files[1].read_text()

    @property
    def environment(self) -> dict[str, Any]:
        """What it keeps of itself."""
        found: dict[str, Any] = json.loads(
            (self.folder / "runs/latest/environment.json").read_text()
        )
        return found

    @property
    def run_id(self) -> str:
        return str(self.environment["run_id"])

    def until(self, there: Callable[[], bool], what: str) -> None:
        """Wait until something is so while it runs."""
        deadline = now() + BOUND_S
        while not there():
            assert now() < deadline, f"{what} not within {BOUND_S:g} s; so far: {self.said}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.fail(f"it ended with {self.process.wait(0.01)}: {self.complaints}")

    def ready(self) -> Up:
        """Wait until it said all that it has to say."""
        self.until(lambda: self.said.endswith(READY), "it was ready")
        return self

    def row(self, label: str) -> str:
        """What it printed beside that label, further lines included."""
        found = re.search(
            rf"^  {re.escape(label):14}  (.*(?:\n {{17}}.*)*)", self.said, re.MULTILINE
        )
        assert found is not None, self.said
        return "\n".join(line.strip() for line in found[1].splitlines())

    def url(self, label: str) -> str:
        """The address in that row."""
        return self.row(label).split()[0]

    def paste(self, label: str) -> str:
        """Paste the command of that row into a shell: all that it says."""
        done = subprocess.run(
            ["sh", "-c", self.row(label)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def call_ms(self) -> float:
        """How long the call that it suggests takes."""
        took = re.search(r"answered after ([0-9.]+) ms", self.paste("call it"))
        assert took is not None
        return float(took[1])

    def end(self, number: signal.Signals) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(BOUND_S)

    def left(self) -> list[str]:
        """What is left of it, by name, beside its run directory."""
        left = [f"process {pid}" for pid in carriers(self.run_id)]
        for label in ("your clients", "the daemon", "the proxy"):
            _, host, port = re.split(r"://|:(?=\d)", self.url(label).rstrip("/"))
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    left.append(label)
        return left + [str(path) for path in self.temporary.iterdir()]
