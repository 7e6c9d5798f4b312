"""What machines are told: properties in JUnit files, annotations on GitHub."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.inner import Outcome, carried_out
from tests.integration.plugin_runs import copied, properties, pytest_in

_SUITE = {
    "conftest.py": """
        @pytest.fixture
        def far_away(harness_environment):
            raise OSError("50% off, or\\nnot")
        """,
    "test_a.py": """
        import sys
        import pytest
        from harness.daemons.command import Command
        from harness.faults.latency import Latency

        def test_passes(harness_environment):
            pass

        async def test_call(harness_environment):
            async with harness_environment.inject(Latency(latency_ms=1)):
                assert 1 == 2, "50% off"

        @pytest.mark.harness_isolation("daemon")
        async def test_ours(harness_client):
            async with harness_client as client:
                await client.call("no_such_tool")

        def test_set_up(far_away):
            pass

        @pytest.fixture
        def late(harness_environment):
            yield
            raise OSError("late")

        def test_tear_down(late):
            pass

        def test_leaves(harness_environment):
            env = harness_environment
            env.run(env.inject(Latency(latency_ms=1)).__aenter__())

        @pytest.mark.parametrize("x", ["a,b:c"])
        def test_parameter(harness_seed, x):
            assert x == harness_seed

        def test_nothing_of_ours():
            assert 1 == 2
        """,
    "test_b.py": """
        import sys
        import pytest
        from harness.daemons.base import Container
        from harness.daemons.command import Command
        from harness.daemons.reference import IMAGE

        @pytest.fixture(scope="module")
        def harness_daemon():
            code = "raise SystemExit(7) # {port}"
            container = Container(image=IMAGE, port=9000, command=("python3", "-c", code))
            return Command(template=(sys.executable, "-c", code), container=container)

        @pytest.mark.harness_isolation("environment")
        def test_never_up(harness_environment):
            pass
        """,
}
_GITHUB = {"GITHUB_ACTIONS": "true"}


@pytest.fixture(scope="module")
def run(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The suite as GitHub Actions would run it."""
    folder = tmp_path_factory.mktemp("github")
    variables = {**_GITHUB, "GITHUB_WORKSPACE": str(folder)}
    return carried_out(folder, _SUITE, "--harness-seed=7", variables=variables)


@pytest.fixture(scope="module")
def spread(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The same over two workers."""
    folder = tmp_path_factory.mktemp("workers")
    variables = {**_GITHUB, "GITHUB_WORKSPACE": str(folder)}
    return carried_out(folder, _SUITE, "--harness-seed=7", "-n", "2", variables=variables)


@pytest.mark.parametrize("name", ["test_passes", "test_call", "test_set_up", "test_tear_down"])
def test_the_junit_file_has_the_environment(run: Outcome, spread: Outcome, name: str):
    """
    Seed, run directory, isolation and abilities, whatever phase failed; workers tell the same.
    """
    for each in (run, spread):
        told = properties(each, name)
        assert told.keys() == {
            "harness_seed",
            "harness_run",
            "harness_isolation",
            "harness_abilities",
            "harness_path",
        }
        assert (told["harness_seed"], told["harness_isolation"]) == ("7", "proxy")
        abilities = set(told["harness_abilities"].split())
        assert {"rst", "effects"} <= abilities
        # A real Toxiproxy tells nothing and takes no seed; behind it nothing is hidden, either.
        assert ("events" in abilities) == ("seed" in abilities) == ("docker" not in abilities)
        assert (Path(told["harness_run"]) / "history.jsonl").exists()
        assert Path(told["harness_run"]).parent.name == name


def test_an_environment_that_never_came_up_has_properties_too(run: Outcome, spread: Outcome):
    """
    All but its abilities, which nobody could probe.
    """
    for each in (run, spread):
        told = properties(each, "test_never_up")
        assert told.keys() == {"harness_seed", "harness_run", "harness_isolation"}
        assert told["harness_isolation"] == "environment"
        assert (Path(told["harness_run"]) / "daemon.log").exists()


def test_a_test_without_an_environment_has_none(run: Outcome):
    """
    There is nothing to tell.
    """
    assert properties(run, "test_nothing_of_ours") == {}


def annotations(run: Outcome) -> dict[str, tuple[str, int, str]]:
    """Each annotation by its title: file, line and message."""
    pattern = r"^::error file=([^,]*),line=(\d+),title=([^:]*)::(.*)$"
    found = re.findall(pattern, run.text, re.MULTILINE)
    assert len(found) == run.text.count("::error "), run.text
    told = {title: (file, int(line), text) for file, line, title, text in found}
    assert len(told) == len(found), run.text
    return told


def _line(run: Outcome, file: str, source: str) -> int:
    lines = (run.folder / file).read_text().splitlines()
    [number] = [n for n, line in enumerate(lines, 1) if line.strip() == source]
    return number


@pytest.mark.parametrize(
    ("title", "file", "source"),
    [
        ("test_call, call", "test_a.py", 'assert 1 == 2, "50% off"'),
        ("test_ours, call", "test_a.py", 'await client.call("no_such_tool")'),
        ("test_set_up, setup", "conftest.py", 'raise OSError("50% off, or\\nnot")'),
        ("test_tear_down, teardown", "test_a.py", 'raise OSError("late")'),
        ("test_leaves, teardown", "test_a.py", "def test_leaves(harness_environment):"),
        ("test_parameter[a,b:c], call", "test_a.py", "assert x == harness_seed"),
        ("test_never_up, setup", "test_b.py", '@pytest.mark.harness_isolation("environment")'),
    ],
)
def test_each_failure_is_shown_at_its_line(
    run: Outcome, spread: Outcome, title: str, file: str, source: str
):
    """
    In call, set-up and tear-down; where no line of the project failed, at the test. Once, also
    with workers.
    """
    for each in (run, spread):
        module = "test_b.py" if title.startswith("test_never_up") else "test_a.py"
        escaped = f"{module}::{title}".replace(":", "%3A").replace(",", "%2C")
        found_file, line, _ = annotations(each)[escaped]
        assert (found_file, line) == (file, _line(each, file, source))


def test_nothing_else_is_annotated(run: Outcome, spread: Outcome):
    """
    Other people's tests are other people's.
    """
    assert len(annotations(run)) == len(annotations(spread)) == 7


def test_a_message_says_all_there_is_to_say(run: Outcome):
    """
    It stands alone: error, fault, run directory and the command, escaped into one line.
    """
    _, _, call = annotations(run)["test_a.py%3A%3Atest_call%2C call"]
    _, _, left = annotations(run)["test_a.py%3A%3Atest_leaves%2C teardown"]
    _, _, ours = annotations(run)["test_a.py%3A%3Atest_ours%2C call"]

    lines = call.replace("%0A", "\n").replace("%25", "%").splitlines()
    assert lines[:3] == ["failed    50% off", "expected  1 == 2", "seen      1 == 2"]
    assert [line.split()[0] for line in lines[3:]] == ["fault", "run", "again"]
    assert "latency-1 was still " in left
    assert "means    it did not happen" in ours


def test_the_file_is_told_as_the_repository_knows_it(run: Outcome, tmp_path: Path):
    """
    Tests may have a root directory of their own in a larger repository.
    """
    folder = copied(run, tmp_path / "part" / "tests")
    variables = {**_GITHUB, "GITHUB_WORKSPACE": str(tmp_path)}

    told = pytest_in(folder, "-k", "test_parameter", variables=variables)

    [(file, _, _)] = annotations(told).values()
    assert file == "part/tests/test_a.py"


def test_there_are_none_outside_github(run: Outcome, tmp_path: Path):
    """
    They would be noise in a terminal.
    """
    folder = copied(run, tmp_path / "terminal")

    told = pytest_in(folder, "-k", "test_parameter")

    assert told.code == 1
    assert "::error" not in told.text


def test_there_are_none_beside_the_plugin_that_makes_them(run: Outcome, tmp_path: Path):
    """
    pytest-github-actions-annotate-failures annotates every failure itself.
    """
    folder = copied(run, tmp_path / "beside")
    (folder / "other.py").write_text(
        "def pytest_configure(config):\n"
        "    name = 'pytest_github_actions_annotate_failures'\n"
        "    config.pluginmanager.register(object(), name)\n"
    )
    variables = {**_GITHUB, "PYTHONPATH": str(folder)}

    told = pytest_in(folder, "-p", "other", "-k", "test_parameter", variables=variables)

    assert told.code == 1
    assert "::error" not in told.text
