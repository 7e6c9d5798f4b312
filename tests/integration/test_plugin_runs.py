"""harness_runs: a test carried out several times, judged by the share that passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.rate import said
from tests.integration.inner import Outcome, carried_out
from tests.integration.plugin_runs import (
    again,
    block,
    copied,
    properties,
    pytest_in,
    runs_told,
    told,
)

_CONFTEST = """
    from harness.pytest_plugin.state import RUN

    @pytest.fixture
    def number(request):
        return request.node.stash[RUN].number
    """

_SUITE = {
    "conftest.py": _CONFTEST,
    "test_a.py": """
        import pytest

        @pytest.fixture(scope="module")
        def ups():
            return []

        @pytest.fixture
        def up(ups):
            ups.append("up")
            yield len(ups)
            ups.append("down")

        @pytest.mark.harness_runs(4)
        def test_all(number, up, tell, harness_seed):
            tell(number=number, up=up, seed=harness_seed)

        @pytest.mark.harness_runs(4, min_pass_rate=0.5)
        async def test_enough(number, tell, harness_seed):
            tell(number=number, seed=harness_seed)
            assert number not in (1, 3)

        @pytest.mark.harness_runs(4, 0.75)
        def test_too_few(number, harness_seed, tell):
            tell(number=number, seed=harness_seed)
            print(f"printed in run {number}")
            assert number not in (2, 3), f"run {number} with {harness_seed}"

        @pytest.fixture(scope="class")
        def once():
            return []

        @pytest.mark.harness_runs(3)
        class TestOfClass:
            left = None

            @pytest.mark.parametrize("x", ["a", "b"])
            def test_method(self, number, x, once, tell):
                tell(number=number, fresh=self.left is None, once=len(once))
                self.left = x
                once.append(x)

            @pytest.mark.harness_runs(1)
            def test_closer(self, number, tell):
                tell(number=number)

        @pytest.mark.harness_runs(3)
        def test_skipped(number, tell):
            tell(number=number)
            pytest.skip("not here")

        @pytest.mark.harness_runs(4, 0.5)
        def test_skipped_later(number):
            if number == 2:
                pytest.skip("not now")
            assert number != 3

        @pytest.fixture
        def breaks(number):
            if number == 2:
                raise OSError("set-up of run 2")
            yield
            if number == 3:
                raise OSError("tear-down of run 3")

        @pytest.mark.harness_runs(4)
        def test_broken(breaks, tell, number):
            tell(number=number)

        @pytest.mark.xfail
        @pytest.mark.harness_runs(2)
        def test_expected():
            raise AssertionError

        @pytest.mark.xfail
        @pytest.mark.harness_runs(2, 0.5)
        def test_unexpected(number):
            assert number == 2

        @pytest.mark.harness_runs(2)
        def test_last(number, tell):
            tell(number=number)
        """,
}


def _carried_out(tmp_path_factory: pytest.TempPathFactory, name: str, *options: str) -> Outcome:
    return carried_out(tmp_path_factory.mktemp(name), _SUITE, "--harness-seed", "7", *options)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The suite in one process."""
    return _carried_out(tmp_path_factory, "one")


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The suite over two workers of pytest-xdist."""
    return _carried_out(tmp_path_factory, "two", "-n", "2")


RATES = {
    "test_all": f"{said(4, 4)}, must 100 %",
    "test_enough": f"{said(2, 4)}, must 50 %; failed: 1, 3",
    "test_too_few": f"{said(2, 4)}, must 75 %; failed: 2, 3",
    "test_method[a]": f"{said(3, 3)}, must 100 %",
    "test_method[b]": f"{said(3, 3)}, must 100 %",
    "test_closer": f"{said(1, 1)}, must 100 %",
    "test_skipped_later": f"{said(2, 3)}, must 50 %; 1 more skipped; failed: 3",
    "test_broken": f"{said(2, 4)}, must 100 %; failed: 2, 3",
    "test_expected": f"{said(0, 2)}, must 100 %; failed: 1, 2",
    "test_unexpected": f"{said(1, 2)}, must 50 %; failed: 1",
    "test_last": f"{said(2, 2)}, must 100 %",
}

ENDS = {
    "test_all": ["passed"],
    "test_enough": ["passed"],
    "test_too_few": ["failed"],
    "test_method[a]": ["passed"],
    "test_method[b]": ["passed"],
    "test_closer": ["passed"],
    "test_skipped": ["skipped"],
    "test_skipped_later": ["passed"],
    "test_broken": ["error"],
    "test_expected": ["skipped"],
    "test_unexpected": ["passed"],
    "test_last": ["passed"],
}


def test_the_rate_is_told_with_its_exact_interval(run: Outcome):
    """
    At the end of the session, for each test that has one; a skipped one has none.
    """
    assert runs_told(run) == RATES


def test_the_rate_decides_how_the_test_ends(run: Outcome):
    """
    One report for all runs, whatever became of some of them.
    """
    assert run.ends() == ENDS


def test_workers_tell_the_same(spread: Outcome):
    """
    Rates and ends come to the controller, properties to its JUnit file.
    """
    assert runs_told(spread) == RATES
    assert spread.ends() == ENDS
    assert properties(spread, "test_enough")["harness_runs"] == RATES["test_enough"]


def test_workers_draw_the_same_seeds(run: Outcome, spread: Outcome):
    """
    A seed hangs on the root seed, the test and the run, not on who carries it out.
    """
    for test in ("test_all", "test_enough", "test_too_few"):
        assert told(run, test, "seed") == told(spread, test, "seed")


@pytest.mark.parametrize("name", ["test_enough", "test_too_few", "test_broken"])
def test_the_rate_is_a_property_in_the_junit_file(run: Outcome, name: str):
    """
    Of tests that pass, that fail, and whose set-up fails.
    """
    assert properties(run, name)["harness_runs"] == RATES[name]


def test_seeds_differ_between_runs_and_tests(run: Outcome):
    """
    Each run meets other draws.
    """
    seeds = told(run, "test_all", "seed") + told(run, "test_enough", "seed")

    assert len(set(seeds)) == 8


def test_seeds_are_the_same_again_with_the_same_root_seed(run: Outcome, tmp_path: Path):
    """
    And others with another.
    """
    for name in ("same", "other"):
        (tmp_path / name).mkdir()
    same = carried_out(tmp_path / "same", _SUITE, "--harness-seed=7", "-k", "test_all")
    other = carried_out(tmp_path / "other", _SUITE, "--harness-seed=8", "-k", "test_all")

    seeds = told(run, "test_all", "seed")
    assert told(same, "test_all", "seed") == seeds
    assert not set(told(other, "test_all", "seed")) & set(seeds)


def test_each_run_is_set_up_and_torn_down(run: Outcome):
    """
    What is the test's own is made anew; what its module shares is not.
    """
    assert told(run, "test_all", "number") == [1, 2, 3, 4]
    # The module's list got an "up" and a "down" in each run.
    assert told(run, "test_all", "up") == [1, 3, 5, 7]


def test_each_run_of_a_method_has_a_fresh_instance(run: Outcome):
    """
    As each test has; fixtures of the class's scope stay.
    """
    assert told(run, "test_method[a]", "fresh") == [True, True, True]
    assert told(run, "test_method[a]", "once") == [0, 1, 2]
    assert told(run, "test_method[b]", "once") == [3, 4, 5]


def test_the_closest_marker_counts(run: Outcome):
    """
    A method's own goes before its class's.
    """
    assert told(run, "test_closer", "number") == [1]


def test_a_skip_in_the_first_run_ends_it(run: Outcome):
    """
    The reason would be the same each time.
    """
    assert told(run, "test_skipped", "number") == [1]


def test_a_set_up_or_a_tear_down_that_fails_is_a_failed_run(run: Outcome):
    """
    The other runs are carried out all the same; the first failure is the one that is told.
    """
    assert told(run, "test_broken", "number") == [1, 3, 4]
    assert "set-up of run 2" in block(run, "ERROR at setup of test_broken")
    assert "tear-down of run 3" not in run.text


def test_the_first_run_that_failed_tells_why(run: Outcome):
    """
    Its own error, its own seed, what it printed, and nothing of other runs.
    """
    report = block(run, "test_too_few")

    assert f"run 2 with {told(run, 'test_too_few', 'seed')[1]}" in report
    assert "run 3 with" not in run.text
    assert "printed in run 2" in report
    assert "printed in run 1" not in report
    assert RATES["test_too_few"] in report


def test_the_report_says_how_to_repeat_that_run(run: Outcome, tmp_path: Path):
    """
    Root seed and number of the run; the command meets the same seed and the same failure.
    """
    arguments = again(block(run, "test_too_few"))
    assert arguments == [
        "test_a.py::test_too_few",
        "--harness-seed",
        "7",
        "--harness-only-run",
        "2",
        "-W",
        "error",
    ]
    seed = told(run, "test_too_few", "seed")[1]

    repeated = pytest_in(copied(run, tmp_path / "again"), *arguments)

    assert repeated.code == 1
    assert f"run 2 with {seed}" in block(repeated, "test_too_few")
    assert runs_told(repeated) == {"test_too_few": "run 2 alone: failed"}
    assert again(block(repeated, "test_too_few"))[:5] == arguments[:5]


def test_a_run_that_passed_can_be_repeated_too(run: Outcome, tmp_path: Path):
    """
    Alone it is no rate.
    """
    folder = copied(run, tmp_path / "again")
    repeated = pytest_in(folder, "-k", "test_too_few", "--harness-only-run=4")

    assert repeated.code == 0
    assert runs_told(repeated) == {"test_too_few": "run 4 alone: passed"}


def test_a_test_that_passed_shows_no_failure(run: Outcome):
    """
    Enough runs passed: those that did not are numbers in the summary.
    """
    assert "test_enough" not in run.text.partition("harness runs ===")[0].partition("FAILURES")[2]


@pytest.mark.parametrize("option", ["-x", "--maxfail=1"])
def test_stopping_at_the_first_failure_means_tests_not_runs(tmp_path: Path, option: str):
    """
    The failing test is carried out to its last run, the next one not at all.
    """
    stopped = carried_out(tmp_path, _SUITE, option, "-k", "test_too_few or test_last")

    assert told(stopped, "test_too_few", "number") == [1, 2, 3, 4]
    assert told(stopped, "test_last", "number") == []
    assert "stopping after 1 failures" in stopped.text


def test_verbose_output_has_a_line_for_each_test(tmp_path: Path):
    """
    Not one for each run; --setup-show tells of each set-up.
    """
    run = carried_out(tmp_path, _SUITE, "-v", "--setup-show", "-k", "test_all or test_enough")

    lines = run.text.partition("harness runs =")[0].splitlines()
    assert sum(line.startswith("test_a.py::test_all") for line in lines) == 1
    assert sum(line.strip() == "SETUP    F number" for line in lines) == 8
    assert sum(line.strip() == "SETUP    M ups" for line in lines) == 1
