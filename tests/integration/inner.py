"""
A suite of tests in a folder of its own, run by a pytest of its own: loops, signals and
processes in it are real.

Its tests have a fixture `tell(**values)`, whose values come out here by the test's name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

__all__ = [
    "ECHO",
    "Outcome",
    "begun",
    "carried_out",
    "running_daemon",
    "still_there",
    "traced",
    "written",
]

BOUND_S = 150

ON: dict[str, str] = {}
"""Variables that all suites are given: the backend they run on, where a test says one."""

NO_ASYNCIO = """
[pytest]
addopts = --strict-markers --strict-config -p no:cacheprovider -p no:randomly
"""
"""The ini file of a project that has no pytest-asyncio."""

_INI = f"""{NO_ASYNCIO}
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
"""

_TELL = '''
import json
import runpy

import pytest


@pytest.fixture
def tell(request):
    """Say something to whoever looks at this run."""

    def say(**values):
        with open("told.jsonl", "a") as file:
            file.write(json.dumps({"test": request.node.name, **values}) + "\\n")

    return say


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    here = item.funcargs.get("harness_environment")
    if here is None:
        return (yield)
    peers = runpy.run_path({peers!r})
    peers["prove_peers"](here)
    result = yield
    peers["prove_effects"](here)
    return result


'''.replace("{peers!r}", repr(str(Path(__file__).with_name("peers.py"))))

ECHO = """
import asyncio
import sys

from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    async with serve(echo, "127.0.0.1", int(sys.argv[1])):
        await asyncio.Future()


asyncio.run(main())
"""
"""A daemon that speaks no dialect of ours: python FILE PORT."""


@dataclass(frozen=True)
class Outcome:
    """
    What became of such a run.

    Attributes:
        folder: Where it was.
        code: Its exit code.
        text: What it printed.
    """

    folder: Path
    code: int
    text: str

    def ends(self) -> dict[str, list[str]]:
        """Each test by name: "passed", "failed", "error" or "skipped"; a list with one or two."""
        found: dict[str, list[str]] = {}
        for name, case in self._cases():
            kinds = [child.tag for child in case if child.tag in _KINDS]
            found.setdefault(name, []).extend(_KINDS[kind] for kind in kinds or ["passed"])
        return found

    def complaint(self, name: str) -> str:
        """What a test was failed for, in its last report."""
        texts = [
            f"{child.get('message')}\n{child.text}"
            for found, case in self._cases()
            for child in case
            if found == name and child.tag in ("failure", "error")
        ]
        assert texts, f"{name} was not failed:\n{self.text}"
        return texts[-1]

    def _cases(self) -> Iterator[tuple[str, ET.Element]]:
        file = self.folder / "report.xml"
        assert file.exists(), self.text
        for case in ET.parse(file).getroot().iter("testcase"):
            yield case.get("name") or "", case

    def told(self, key: str) -> dict[str, Any]:
        """What tests told under that key, by the test's name."""
        file = self.folder / "told.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        said = [json.loads(line) for line in lines]
        return {each["test"]: each[key] for each in said if key in each}

    def run_directory(self, name: str) -> Path:
        """The newest run directory of a test."""
        return max((self.folder / "runs" / name).iterdir())


def traced(text: str) -> bool:
    """Whether a failure's text leads its reader through lines of code."""
    return ".py:" in text or "Traceback" in text


_KINDS = {"passed": "passed", "failure": "failed", "error": "error", "skipped": "skipped"}


def written(folder: Path, files: Mapping[str, str], *, ini: str = _INI) -> Path:
    """A suite in a folder: its files by name, and its ini file."""
    for name, text in {"conftest.py": "", **files}.items():
        before = _TELL if name == "conftest.py" else ""
        (folder / name).write_text(before + textwrap.dedent(text))
    (folder / "pytest.ini").write_text(ini)
    return folder


def _command(options: tuple[str, ...]) -> list[str]:
    # Warnings are errors: a connection that nobody closed is told by one.
    return [sys.executable, "-m", "pytest", "-W", "error", "--junitxml", "report.xml", *options]


def _variables(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    # Whoever runs us may have settings and options of their own, and be a worker.
    theirs = ("HARNESS_", "PYTEST_ADDOPTS", "PYTEST_XDIST_")
    mine = {name: text for name, text in os.environ.items() if not name.startswith(theirs)}
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        **mine,
        "TMPDIR": str(temporary),
        "COLUMNS": "200",
        "GITHUB_STEP_SUMMARY": "",
        **ON,
        **more,
    }


def carried_out(
    folder: Path,
    files: Mapping[str, str],
    *options: str,
    ini: str = _INI,
    variables: Mapping[str, str] | None = None,
) -> Outcome:
    """Write a suite, run it to its end, and see what became of it."""
    written(folder, files, ini=ini)
    done = subprocess.run(
        _command(options),
        cwd=folder,
        env=_variables(folder, variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    return Outcome(folder, done.returncode, done.stdout)


@contextmanager
def begun(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A suite that was written before, while it runs, in a session of its own."""
    process = subprocess.Popen(
        _command(options),
        cwd=folder,
        env=_variables(folder, {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def still_there(folder: Path) -> list[str]:
    """
    What is left of a suite's runs: processes and temporary folders.

    Every process of it, whoever started it, has the suite's own folder for temporary files.
    """
    mine = f"TMPDIR={folder / 'tmp'}".encode()
    left = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        # A process that ends while it is looked at, or is somebody else's.
        with suppress(OSError):
            if mine in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                left.append(f"process {entry.name}: {command}")
    return left + [f"folder {path.name}" for path in (folder / "tmp").glob("harness-*")]


@contextmanager
def running_daemon() -> Iterator[str]:
    """A reference daemon of somebody else's: its URL."""
    command = [sys.executable, "-m", "harness.refdaemon", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        try:
            yield json.loads(process.stdout.readline())["listening"]
        finally:
            process.kill()
