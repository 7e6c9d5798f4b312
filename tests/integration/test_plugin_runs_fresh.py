"""harness_runs with environments, and with time limits: each run is a test of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.inner import Outcome, carried_out
from tests.integration.plugin_runs import (
    again,
    block,
    copied,
    properties,
    pytest_in,
    rows,
    runs_told,
    told,
)

_SUITE = {
    "conftest.py": """
        from harness.pytest_plugin.state import RUN

        @pytest.fixture
        def number(request):
            return request.node.stash[RUN].number
        """,
    "test_a.py": """
        import pytest
        from harness.faults.latency import Latency

        @pytest.mark.harness_runs(3)
        async def test_fresh(harness_environment, harness_seed, tell):
            env = harness_environment
            tell(folder=str(env.run_directory), address=str(env.address), seed=harness_seed)
            tell(before=len(env.effects()))
            async with env.client() as client:
                await client.call("echo", {"text": "hi"})

        @pytest.mark.harness_isolation("daemon")
        @pytest.mark.harness_runs(3, 0.5)
        async def test_daemons(harness_environment, tell, number):
            tell(pid=harness_environment.stack.site.program.started_at)
            assert number != 1, "this run alone"

        @pytest.mark.harness_runs(3)
        async def test_fails(harness_environment, harness_client, tell, number, harness_seed):
            env = harness_environment
            tell(folder=str(env.run_directory), seed=harness_seed)
            async with harness_client as client, env.inject(Latency(latency_ms=20)):
                reply = await client.call("echo", {"text": f"run {number}"})
                assert number == 1, f"met in {reply.text} with seed {harness_seed}"
        """,
    "test_b.py": """
        import sys
        import pytest
        from harness.daemons.command import Command
        from harness.daemons.reference import Reference

        @pytest.fixture
        def harness_daemon(number):
            if number == 2:
                return Command(template=(sys.executable, "-c", "raise SystemExit(7) # {port}"))
            return Reference()

        @pytest.mark.harness_runs(3, 0.5)
        def test_starts_sometimes(harness_environment, tell, number):
            tell(number=number)
        """,
}


@pytest.fixture(scope="module")
def run(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The suite, once."""
    return carried_out(tmp_path_factory.mktemp("fresh"), _SUITE, "--harness-seed=7")


def test_each_run_has_a_fresh_proxy_and_a_run_directory(run: Outcome):
    """
    Nothing of an earlier run is seen; each directory has its run's seed on file.
    """
    folders = [Path(each) for each in told(run, "test_fresh", "folder")]
    seeds = told(run, "test_fresh", "seed")

    assert len(set(folders)) == len(set(told(run, "test_fresh", "address"))) == 3
    assert told(run, "test_fresh", "before") == [0, 0, 0]
    on_file = [json.loads((folder / "environment.json").read_bytes()) for folder in folders]
    assert [each["seed"] for each in on_file] == seeds


def test_isolation_holds_for_each_run(run: Outcome):
    """
    A test that is given a daemon of its own is given one in each run.
    """
    assert len(set(told(run, "test_daemons", "pid"))) == 3


def test_the_record_says_of_each_run_whether_it_failed(run: Outcome):
    """
    Also where enough of them passed.
    """
    folders = sorted((run.folder / "runs" / "test_daemons").iterdir())
    results = [json.loads((folder / "results.json").read_bytes()) for folder in folders]

    assert sorted(each["failed"] for each in results) == [False, False, True]
    assert run.ends()["test_daemons"] == ["passed"]


def test_the_report_is_of_the_first_run_that_failed(run: Outcome):
    """
    Its sentence, its faults, its run directory, and the properties of that run.
    """
    report = block(run, "test_fails")
    folders, seeds = told(run, "test_fails", "folder"), told(run, "test_fails", "seed")

    assert rows(report)["failed"] == [f"met in run 2 with seed {seeds[1]}"]
    assert rows(report)["fault"][0].startswith("in place: latency on replies, latency_ms 20 (")
    assert str(run.folder / rows(report)["run"][0].split()[0]) == folders[1]
    assert properties(run, "test_fails")["harness_seed"] == str(seeds[1])
    assert properties(run, "test_fails")["harness_run"] == folders[1]


def test_its_command_meets_the_same_failure_again(run: Outcome, tmp_path: Path):
    """
    With the seed that run had, and no other run.
    """
    seed = told(run, "test_fails", "seed")[1]
    folder = copied(run, tmp_path / "again")

    repeated = pytest_in(folder, *again(block(run, "test_fails")))

    assert rows(block(repeated, "test_fails"))["failed"] == [f"met in run 2 with seed {seed}"]
    assert len(list((folder / "runs" / "test_fails").iterdir())) == 1


def test_a_daemon_that_does_not_start_fails_its_run_alone(run: Outcome):
    """
    An environment that could not be brought up is no pass.
    """
    assert told(run, "test_starts_sometimes", "number") == [1, 3]
    assert runs_told(run)["test_starts_sometimes"].startswith("2 of 3 (66.7 %; ")
    assert run.ends()["test_starts_sometimes"] == ["passed"]


def test_a_time_limit_holds_for_each_run(tmp_path: Path):
    """
    A run that hangs is ended, and so is the next one that does; the others pass.
    """
    files = {
        **_SUITE,
        "test_a.py": """
            import threading
            import pytest

            @pytest.mark.timeout(3, method="signal")
            @pytest.mark.harness_runs(4, min_pass_rate=0.5)
            def test_hangs(number):
                if number % 2 == 0:
                    threading.Event().wait(40)
            """,
    }

    run = carried_out(tmp_path, files, "test_a.py")

    assert runs_told(run)["test_hangs"].endswith("must 50 %; failed: 2, 4")


def test_the_time_limit_of_all_runs_together_is_called_off(tmp_path: Path):
    """
    pytest-timeout sets one before we know better; by a thread it would end the whole session.
    """
    files = {
        "conftest.py": """
            told = []

            def pytest_timeout_set_timer(item):
                told.append("set")

            def pytest_timeout_cancel_timer(item):
                told.append("cancelled")
            """,
        "test_a.py": """
            import pytest
            from conftest import told

            @pytest.mark.timeout(40)
            @pytest.mark.harness_runs(2)
            def test_it():
                told.append("run")

            def test_after():
                print("timers:", *told)
            """,
    }

    run = carried_out(tmp_path, files, "-s")

    timers = run.text.partition("timers: ")[2].splitlines()[0].split()
    each = ["set", "run", "cancelled"]
    assert timers[:8] == ["set", "cancelled", *each, *each]


def test_a_run_with_a_failed_subtest_is_a_failed_run(tmp_path: Path):
    """
    Though the test itself went on to its end; its subtests are told as pytest tells them.
    """
    files = {
        **_SUITE,
        "test_a.py": """
            import pytest

            @pytest.mark.harness_runs(3, min_pass_rate=0.5)
            def test_parts(number, subtests):
                with subtests.test("part"):
                    assert number != 2
            """,
    }

    run = carried_out(tmp_path, files, "test_a.py")

    assert runs_told(run)["test_parts"].endswith("must 50 %; failed: 2")
    assert "--harness-only-run 2" in block(run, "test_parts [part]")
