"""The summary of a CI job, as a session with the plugin writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.inner import carried_out

TOKEN = "sesame-9915"

SUITE = f"""
import pytest
from harness.daemons.reference import Reference
from harness.faults.latency import Latency

@pytest.fixture(scope="session")
def harness_daemon():
    return Reference(token="{TOKEN}")

async def test_passes(harness_environment):
    pass

@pytest.mark.harness_isolation("daemon")
async def test_fails(harness_environment):
    env = harness_environment
    async with env.client() as client, env.inject(Latency(latency_ms=5)):
        reply = await client.call("echo", {{"text": "{TOKEN}"}})
        assert reply.text == "<b>"

@pytest.mark.harness_needs("docker")
def test_needs(harness_environment):
    pass

def test_plain():
    pass
"""


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_session_is_told_once(tmp_path: Path, options: tuple[str, ...]) -> None:
    """After what stood there before, and without the token."""
    page = tmp_path / "summary.md"
    page.write_text("what an earlier step said\n")
    variables = {"GITHUB_STEP_SUMMARY": str(page)}
    run = carried_out(tmp_path, {"test_it.py": SUITE}, *options, variables=variables)

    told = page.read_text()
    assert told.startswith(
        "what an earlier step said\n## harness: 2 passed, 1 failed, 1 skipped\n"
    ), run.text
    assert told.count("## harness") == 1
    assert "| daemon | 1 |" in told
    assert "- path: round trip " in told
    assert "harness_needs: docker: the daemon is a process of this machine" in told
    assert "<summary>test_it.py::test_fails, call</summary>" in told
    assert "latency on replies" in told
    assert TOKEN not in told


def test_a_page_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    """The session is what it was."""
    variables = {"GITHUB_STEP_SUMMARY": str(tmp_path / "no" / "such" / "folder.md")}
    run = carried_out(tmp_path, {"test_it.py": "def test_a(): pass"}, variables=variables)

    assert run.code == 0, run.text
