"""What README tells a reader to paste, pasted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.environment.backends import engine
from tests.integration.ports import spare_ports

README = Path(__file__).resolve().parents[2] / "README.md"

BOUND_S = 25


def block(heading: str, *, language: str = "sh", containing: str = "") -> str:
    """The first block under a heading that is in a language and has some words in it."""
    text = README.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return next(found for found in blocks if containing in found)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the block uses curl")
def test_the_toxiproxy_block_works_when_it_is_pasted_whole(tmp_path: Path) -> None:
    """The programs are waited for, the call is late, and both programs end with the block."""
    daemon, api, edge = map(str, spare_ports(3))
    script = block("A Toxiproxy without Docker").replace(
        "harness proxy", "harness proxy --port 8474"
    )
    for documented, free in (("8079", daemon), ("8474", api), ("9079", edge)):
        assert documented in script
        script = script.replace(documented, free)
    (tmp_path / ".venv").symlink_to(sys.prefix)

    # With job control, as in a terminal. Its output ends when the programs do, too.
    done = subprocess.run(
        ["bash", "--norc", "-m"],
        input=script,
        cwd=tmp_path,
        env={**os.environ, "HARNESS_API": f"http://127.0.0.1:{api}"},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "  latency_downstream   latency   downstream   latency_ms=200 jitter_ms=0" in lines
    assert "hi" in lines
    took = re.search(r"answered after ([0-9.]+) ms", done.stderr)
    assert took is not None
    assert float(took[1]) >= 200
    assert '"kind":"delayed"' in done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="the block uses curl")
def test_the_daemons_block_works_when_it_is_pasted_whole(tmp_path: Path) -> None:
    """It is well, its provider answers, what happened is told, and both end with the block."""
    script = block("The daemon we ship")
    for documented, free in zip(("8090", "8079", "8080"), map(str, spare_ports(3)), strict=True):
        assert documented in script
        script = script.replace(documented, free)
    (tmp_path / ".venv").symlink_to(sys.prefix)

    done = subprocess.run(
        ["bash", "--norc", "-m"],
        input=script,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert '"ready":true' in done.stdout
    assert "answered after" in done.stderr
    assert '"kind":"session new"' in done.stdout


@pytest.mark.usefixtures("containers", "compose")
@pytest.mark.skipif(shutil.which("curl") is None, reason="the block uses curl")
@pytest.mark.timeout(120)
def test_the_compose_block_works_when_it_is_pasted_whole() -> None:
    """One call is late, the next one is not, and nothing stays."""
    port, api = map(str, spare_ports(2))
    project = f"harness-readme-{port}"
    elsewhere = f"import toxiproxy.api; toxiproxy.api.APIConsumer.port = {api}; "
    places = {"8079": port, "8474": api, ".venv": sys.prefix, "import toxiproxy; ": elsewhere}
    # As far from a call that took its time as from the time limit of a call.
    places['"latency": 200'] = '"latency": 1000'
    script = block("In containers", containing="docker compose up")
    for documented, free in places.items():
        assert documented in script
        script = script.replace(documented, free)
    variables = {
        "HARNESS_PORT": port,
        "HARNESS_API_PORT": api,
        "COMPOSE_PROJECT_NAME": project,
    }

    done = subprocess.run(
        ["bash", "--norc", "-e"],
        input=script,
        cwd=README.parent,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    late, soon = map(float, re.findall(r"answered after ([0-9.]+) ms", done.stderr))
    assert soon < 1000 <= late
    assert engine().of_project(project, "toxiproxy") == []


def pasted(folder: Path) -> Path:
    """The two files of the plugin's example, in an empty folder; the path of the test."""
    heading = "In your own tests"
    (folder / "pytest.ini").write_text(block(heading, language="ini"))
    test = folder / "test_replies.py"
    test.write_text(block(heading, language="python", containing="test_replies.py"))
    return test


def pytest_in(folder: Path) -> subprocess.CompletedProcess[str]:
    """What a reader does next."""
    return subprocess.run(
        [sys.executable, "-m", "pytest"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


def test_the_test_of_the_readme_passes(tmp_path: Path) -> None:
    """Two files in an empty folder are a test of the reference daemon."""
    pasted(tmp_path)

    done = pytest_in(tmp_path)

    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_test_of_the_readme_fails_as_it_says(tmp_path: Path) -> None:
    """With the comparison turned round it fails, and tells which fault was in place."""
    test = pasted(tmp_path)
    assert ">= 100" in test.read_text()
    test.write_text(test.read_text().replace(">= 100", "< 100"))

    done = pytest_in(tmp_path)

    assert done.returncode == 1, done.stdout
    # A reply has stamps in it, which are shorter on a machine that was started lately.
    lines = re.sub(r"\d+ bytes", "n bytes", done.stdout).splitlines()
    shown = block("In your own tests", language="text", containing="in place")
    shown = re.sub(r"\d+ bytes", "n bytes", shown).splitlines()
    for row in ("expected", "fault"):
        (documented,) = [line for line in shown if line.startswith(row)]
        assert documented in lines
    assert any(line.lstrip().endswith("▲ latency-1 is put on") for line in lines)


def test_the_code_without_pytest_runs(tmp_path: Path) -> None:
    """The block for other frameworks needs no more than its imports."""
    body = block("In your own tests", language="python", containing="LocalEnvironment")
    indented = "".join(f"    {line}" for line in body.splitlines(keepends=True))
    script = f"""
import asyncio
from harness.daemons.reference import Reference
from harness.environment.local import LocalEnvironment
from harness.errors import CallUnknown
from harness.faults.reset_peer import ResetPeer

async def main():
{indented}
    print("done")

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )

    assert done.stdout == "done\n", done.stderr
