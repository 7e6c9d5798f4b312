"""
Failures of set-ups, tear-downs and daemons, and what is kept of a failure: logs and the
run directory.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.run.store import load_history
from tests.integration.inner import Outcome, carried_out
from tests.integration.plugin_runs import block, rows, sections

_SUITE = {
    "conftest.py": """
        @pytest.fixture
        async def far_away(harness_client):
            async with harness_client as client:
                await client.call("no_such_tool")
        """,
    "test_a.py": """
        import os
        import signal
        import pytest

        async def test_call(harness_environment):
            assert False, "the call alone"

        @pytest.fixture
        async def near(harness_client):
            async with harness_client as client:
                await client.call("no_such_tool")

        async def test_set_up(near):
            pass

        async def test_set_up_far_away(far_away):
            pass

        @pytest.fixture
        async def late(harness_environment):
            yield
            async with harness_environment.client() as client:
                await client.call("no_such_tool")

        async def test_tear_down(late):
            pass

        async def test_both(late):
            assert False, "the call"

        @pytest.mark.harness_isolation("daemon")
        async def test_daemon_ends(harness_environment):
            async with harness_environment.client(direct=True) as client:
                program = harness_environment.stack.site.program
                # Of a container, its first process as this machine counts.
                pid = getattr(program, "pid", 0) or program.box.state().pid
                os.kill(pid, signal.SIGKILL)
                await client.call("echo", {"text": "hi"})
        """,
    "test_b.py": """
        import sys
        import pytest
        from harness.daemons.base import Container
        from harness.daemons.command import Command
        from harness.daemons.reference import IMAGE

        @pytest.fixture(scope="module")
        def harness_daemon():
            code = "for n in range(33): print('line', n)  # {port}"
            container = Container(image=IMAGE, port=9000, command=("python3", "-c", code))
            return Command(template=(sys.executable, "-c", code), container=container)

        @pytest.mark.harness_isolation("daemon")
        def test_never_up(harness_environment):
            pass
        """,
}

_FAILED = "CallFailed: call no_such_tool: no tool of that name (TOOL_NOT_FOUND)"


@pytest.fixture(scope="module")
def run(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The suite, once on each backend."""
    return carried_out(tmp_path_factory.mktemp("phases"), _SUITE, "--harness-seed=7")


@pytest.mark.parametrize(
    ("title", "label"),
    [
        ("ERROR at setup of test_set_up", "set-up"),
        ("ERROR at setup of test_set_up_far_away", "set-up"),
        ("ERROR at teardown of test_tear_down", "tear-down"),
    ],
)
def test_a_fixture_that_fails_is_told_with_its_line(run: Outcome, title: str, label: str):
    """
    In the test's module or in a conftest.py; the label says which phase it was.
    """
    told = rows(block(run, title))

    assert told[label] == ['await client.call("no_such_tool")']
    assert told["seen"] == [_FAILED]
    assert told["fault"] == ["none was injected"]


def test_the_run_directory_has_all_that_is_named(run: Outcome):
    """
    History, environment, results and both logs, whatever phase failed.
    """
    for name in (
        "test_call",
        "ERROR at setup of test_set_up",
        "ERROR at teardown of test_tear_down",
    ):
        folder = run.folder / rows(block(run, name))["run"][0].split()[0]
        test = name.rpartition(" ")[2]
        about = json.loads((folder / "environment.json").read_bytes())
        results = json.loads((folder / "results.json").read_bytes())
        assert (about["test"], about["seed"], results["test"]) == (test, 7, test)
        assert load_history(folder).ops
        assert (folder / "daemon.log").exists()
        assert (folder / "proxy.log").exists()


def test_a_log_that_says_nothing_takes_no_room(run: Outcome):
    """
    It is named as empty beside the run directory.
    """
    report = block(run, "test_call")

    _, _, empty = rows(report)["run"][0].partition("; ")
    # A real Toxiproxy writes of each connection.
    assert empty in ("daemon.log and proxy.log empty)", "daemon.log empty)")
    assert not any("daemon.log" in title for title in sections(report))
    assert any("proxy.log" in title for title in sections(report)) == ("proxy.log" not in empty)


_GROWING = """
    import itertools
    from harness.pytest_plugin.place import Place

    logs = itertools.chain([{"daemon.log": ""}], itertools.repeat({"daemon.log": "late"}))
    Place.logs = lambda place: next(logs)
    """


def test_a_line_that_comes_while_it_is_told_is_none_of_it(tmp_path: Path):
    """
    A log that is called empty is not shown.
    """
    test = "def test_it(harness_environment):\n    assert False\n"
    files = {"conftest.py": _GROWING, "test_it.py": test}

    report = block(carried_out(tmp_path, files), "test_it")

    assert rows(report)["run"][0].endswith("; daemon.log empty)")
    assert not any("daemon.log" in title for title in sections(report))


def test_of_a_long_log_the_end_is_shown(run: Outcome):
    """
    Twenty lines, and how many there are; the rest is in the run directory.
    """
    report = block(run, "ERROR at setup of test_never_up")

    tail = sections(report)["harness daemon.log, last 20 of 33 lines"].splitlines()
    assert tail == [f"line {n}" for n in range(13, 33)]


def test_an_environment_that_never_came_up_says_why(run: Outcome):
    """
    Of faults there is nothing to say; the record of the attempt is there.
    """
    told = rows(block(run, "ERROR at setup of test_never_up"))

    assert told["seen"] == ["ProgramExited: the daemon exited with 0 before it was ready"]
    assert told.keys() == {"seen", "run", "again"}
    assert told["run"][0].endswith(" (history.jsonl, daemon.log)")


def test_a_daemon_that_ended_by_itself_is_told(run: Outcome):
    """
    Whoever reads that a call got no answer wants to know that nobody was there to give one.
    """
    told = rows(block(run, "test_daemon_ends"))

    assert told["daemon"] == ["killed by SIGKILL in the middle of the test, unasked"]


def test_the_tear_down_of_a_failed_test_does_not_draw_it_again(run: Outcome):
    """
    The timeline stands with the first failure.
    """
    first, second = block(run, "test_both"), block(run, "ERROR at teardown of test_both")

    assert rows(first)["failed"] == ["the call"]
    assert "harness timeline" not in sections(second)
    assert rows(second)["seen"][0].startswith("CallFailed: ")
    assert rows(first)["run"] == rows(second)["run"]
