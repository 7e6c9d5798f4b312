"""What is on record of a daemon in a container that tests share, and of one that never came up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.run.record import load_history
from tests.integration.inner import Outcome, carried_out
from tests.talker import TALKER

IN_CONTAINERS = {"HARNESS_BACKEND": "docker", "HARNESS_STRICT": "1"}

SHARED = f"""
    import asyncio
    import pytest
    from harness.daemons.base import Container
    from harness.daemons.container import Containerized
    from harness.daemons.reference import IMAGE
    from harness.dialects.plain import Plain

    @pytest.fixture(scope="session")
    def harness_daemon():
        container = Container(image=IMAGE, port=9000, command=("python3", "-c", {TALKER!r}))
        return Containerized(container=container, dialect=Plain())

    @pytest.mark.parametrize("word", ["one", "two"])
    async def test_it(harness_environment, word):
        async with harness_environment.client() as client:
            assert (await client.call(word)).text == word
        # The engine tells of its line when it likes, and a test that is over does not get it.
        async with asyncio.timeout(10):
            while f"heard {{word}}" not in lines(harness_environment):
                await asyncio.sleep(0.01)

    def lines(environment):
        return [op.value["line"] for op in environment.history().ops if op.f == "log"]
"""

NEVER = """
    import pytest
    from harness.daemons.base import Container
    from harness.daemons.container import Containerized
    from harness.daemons.reference import IMAGE

    @pytest.fixture(scope="session")
    def harness_daemon():
        command = ("sh", "-c", "echo no database url; exit 3")
        return Containerized(container=Container(image=IMAGE, port=9000, command=command))

    def test_it(harness_environment):
        pass
"""


def told(run: Outcome, name: str, process: str) -> list[Any]:
    """What somebody said in a test's record."""
    ops = load_history(run.run_directory(name)).ops
    return [op for op in ops if op.process == process]


def test_each_test_has_what_was_said_in_it(containers: None, tmp_path: Path) -> None:
    """The daemon is the same one; its lines are the test's in which it wrote them."""
    run = carried_out(tmp_path, {"test_it.py": SHARED}, variables=IN_CONTAINERS)
    assert run.code == 0, run.text

    directories = sorted((tmp_path / "runs").glob("test_it*/*"))
    ops = [load_history(directory).ops for directory in directories]
    lines = [[op.value["line"] for op in each if op.f == "log"] for each in ops]
    # The first one brought it up.
    assert sorted(lines) == [["heard two"], ["talker is up", "heard one"]]


@pytest.mark.parametrize("isolation", ["proxy", "daemon"])
def test_of_one_that_never_came_up_all_is_kept(
    containers: None, tmp_path: Path, isolation: str
) -> None:
    """Its log, what the engine told, and why."""
    variables = {**IN_CONTAINERS, "HARNESS_ISOLATION": isolation}
    run = carried_out(tmp_path, {"test_it.py": NEVER}, variables=variables)

    assert run.ends() == {"test_it": ["error"]}, run.text
    directory = run.run_directory("test_it")
    assert (directory / "daemon.log").read_text() == "no database url\n"
    results = json.loads((directory / "results.json").read_text())
    assert results["failed"] is True
    assert "the daemon exited with 3 before it was ready" in results["trouble"]
    [died] = [op for op in told(run, "test_it", "engine") if op.f == "die"]
    assert died.value["exit_code"] == 3
