"""Runs of pytest with the plugin, and what can be read off their output."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tests.integration import inner
from tests.integration.inner import Outcome

__all__ = [
    "again",
    "block",
    "copied",
    "chosen",
    "errors_of",
    "properties",
    "pytest_in",
    "rows",
    "runs_told",
    "sections",
    "tells",
    "told",
]

FEW = ("-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")


def pytest_in(
    folder: Path, *options: str, variables: Mapping[str, str] | None = None, few: bool = True
) -> Outcome:
    """Run pytest in a folder as it is, without anybody's random order."""
    command = [sys.executable, "-m", "pytest", *(FEW if few else ()), *options]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**inner._variables(folder, {}), "GITHUB_ACTIONS": "", **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=inner.BOUND_S,
        check=False,
    )
    return Outcome(folder, done.returncode, done.stdout)


def errors_of(run: Outcome) -> list[str]:
    """What a run that never began was refused for, line by line."""
    assert run.code == 4, run.text
    text = run.text.partition("ERROR: ")[2]
    assert text, run.text
    return [line for line in text.splitlines() if line.strip()]


def block(run: Outcome, title: str) -> str:
    """One report of a failure, by the title pytest gives it."""
    pattern = rf"^_+ {re.escape(title)} _+$\n(.*?)(?=^_{{3,}} |^={{3,}} |^-+ generated xml)"
    found = re.search(pattern, run.text, re.MULTILINE | re.DOTALL)
    assert found, f"no report of {title} in\n{run.text}"
    return found[1]


def sections(report: str) -> dict[str, str]:
    """The sections of a report, by title."""
    parts = re.split(r"^-+ ([^-].*?) -+$", report, flags=re.MULTILINE)
    return {title: text.strip("\n") for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def rows(report: str) -> dict[str, list[str]]:
    """What the section "harness" of a report says, by label."""
    found: dict[str, list[str]] = {}
    for line in sections(report)["harness"].splitlines():
        found.setdefault(line[:10].strip(), []).append(line[10:])
    return found


def copied(run: Outcome, folder: Path) -> Path:
    """The suite of a run in a folder of its own, without what the run left there."""
    shutil.copytree(run.folder, folder, ignore=shutil.ignore_patterns("runs", "told.jsonl", "tmp"))
    return folder


def again(report: str, *options: str) -> list[str]:
    """The arguments of the command that a report gives, without `pytest` itself."""
    [line] = rows(report)["again"]
    program, *arguments = shlex.split(line)
    assert program == "pytest"
    return [*arguments, *options]


def runs_told(run: Outcome) -> dict[str, str]:
    """What the end of the session says of tests that were carried out several times."""
    text = run.text.rpartition(" harness runs =")[2].partition("\n")[2]
    lines = (line.partition(": ") for line in text.partition("\n=")[0].splitlines())
    return {name.rpartition("::")[2]: told for name, colon, told in lines if colon}


def chosen() -> list[str]:
    """The options that say where all suites run at present, as a command that repeats has them."""
    return [
        word
        for name in ("backend", "proxy")
        for word in (f"--harness-{name}", inner.ON[f"HARNESS_{name.upper()}"])
    ]


def tells(run: Outcome, name: str) -> bool:
    """Whether the proxy before a test told what it did to which connection."""
    return "events" in properties(run, name)["harness_abilities"].split()


def properties(run: Outcome, name: str) -> dict[str, str]:
    """What a test told the JUnit file; each property stands there once."""
    for case in ET.parse(run.folder / "report.xml").getroot().iter("testcase"):
        if case.get("name") == name:
            told = [(each.get("name"), each.get("value")) for each in case.iter("property")]
            assert len(told) == len(dict(told)), told
            return {str(key): str(value) for key, value in told}
    raise AssertionError(f"no {name} in the JUnit file\n{run.text}")


def told(run: Outcome, test: str, key: str) -> list[Any]:
    """All that a test told under that key, in order: a value for each run of it."""
    lines = (run.folder / "told.jsonl").read_text().splitlines()
    said = [json.loads(line) for line in lines]
    return [each[key] for each in said if each["test"] == test and key in each]
