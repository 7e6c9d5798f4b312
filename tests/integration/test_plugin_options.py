"""Options in a real pytest: help, markers, ini files of all kinds, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.inner import Outcome
from tests.integration.plugin_runs import errors_of, pytest_in

NAMES = ("daemon", "proxy", "seed", "isolation", "runs_dir", "only_run", "strict")

_LOOK = """
def test_look(harness_settings, pytestconfig):
    found = harness_settings
    print("found:", found.seed, found.strict, found.only_run, found.isolation)
"""

_QUIET = 'asyncio_default_fixture_loop_scope = "function"\n'


def look(folder: Path, file: str, text: str, *options: str, **variables: str) -> str:
    """What a test finds set, with that ini file."""
    (folder / "test_look.py").write_text(_LOOK)
    (folder / file).write_text(text)
    run = pytest_in(folder, "-s", "-q", *options, variables=variables)
    assert run.code == 0, run.text
    return run.text.partition("found: ")[2].splitlines()[0]


@pytest.fixture(scope="module")
def help_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """`pytest --help`, each run of spaces as one."""
    run = pytest_in(tmp_path_factory.mktemp("help"), "--help", variables={"HARNESS_SEED": "junk"})
    assert run.code == 0, run.text
    return " ".join(run.text.split())


@pytest.mark.parametrize("name", NAMES)
def test_the_help_names_option_ini_key_and_variable(help_text: str, name: str):
    """
    In a group of ours, each with all three places; also where a value is wrong meanwhile.
    """
    group = help_text.partition("harness: a WebSocket daemon behind a fault-injecting")[2]
    flag = "--harness-" + name.replace("_", "-")
    told = group.partition(flag)[2].partition(" --harness-")[0]

    assert f"[ini: harness_{name}, environment: HARNESS_{name.upper()}]" in told


def test_the_markers_are_listed_and_known_to_strict_sessions(tmp_path: Path):
    """
    `--markers` explains each; `strict = true` takes them.
    """
    (tmp_path / "pytest.toml").write_text(f"[pytest]\nstrict = true\n{_QUIET}")
    (tmp_path / "test_a.py").write_text(
        "import pytest\n"
        'pytestmark = [pytest.mark.harness_isolation("proxy"), pytest.mark.harness_runs(2)]\n'
        "@pytest.mark.harness_needs('process')\n"
        "def test_it(): pass\n"
    )

    told = pytest_in(tmp_path, "--markers")
    run = pytest_in(tmp_path, "--collect-only", "--strict-markers", "-W", "error")

    for marker in ("harness_isolation(level)", "harness_needs(ability, ...)", "harness_runs(n, "):
        assert f"@pytest.mark.{marker}" in told.text
    assert run.code == 0, run.text


def test_native_toml_takes_numbers_and_truth(tmp_path: Path):
    """
    [tool.pytest] has types of its own; nobody must write "7" for 7 there.
    """
    text = f"""
[tool.pytest]
strict = true
harness_seed = 7
harness_strict = true
harness_only_run = 2
harness_isolation = "daemon"
{_QUIET}
"""

    assert look(tmp_path, "pyproject.toml", text) == "7 True 2 daemon"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pytest.ini", "[pytest]\nharness_seed = 7\nharness_strict = yes\n"),
        ("pyproject.toml", "[tool.pytest.ini_options]\nharness_seed = 7\nharness_strict = true\n"),
        ("setup.cfg", "[tool:pytest]\nharness_seed = 7\nharness_strict = 1\n"),
    ],
    ids=["ini", "ini_options", "cfg"],
)
def test_the_older_files_have_text(tmp_path: Path, file: str, text: str):
    """
    Text that looks like a number or like truth is one.
    """
    assert look(tmp_path, file, text) == "7 True None None"


def test_of_three_places_the_nearest_is_believed(tmp_path: Path):
    """
    Command line, environment, file; -o stands for the file.
    """
    ini = "[pytest]\nharness_seed = 3\nharness_isolation = environment\n"

    told = look(
        tmp_path,
        "pytest.ini",
        ini,
        "--harness-seed=1",
        "-o",
        "harness_only_run=4",
        HARNESS_SEED="2",
        HARNESS_ISOLATION="daemon",
    )

    assert told == "1 False 4 daemon"


@pytest.mark.parametrize(
    ("options", "variables"), [(["--harness-strict"], {}), ([], {"HARNESS_STRICT": "1"})]
)
def test_the_flag_stands_alone_or_in_the_environment(
    tmp_path: Path, options: list[str], variables: dict[str, str]
):
    """
    On the command line it takes no value.
    """
    told = look(tmp_path, "pytest.ini", "[pytest]\nharness_seed = 1\n", *options, **variables)

    assert told == "1 True None None"


@pytest.fixture(scope="module")
def wrong_in_three_places(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A session with a mistake on the command line, in the environment and in the ini file."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "pytest.ini").write_text("[pytest]\nharness_isolation = none\nharness_strict = 5\n")
    (folder / "test_a.py").write_text("def test_it(): pass\n")
    return pytest_in(folder, "-q", "--harness-seed=x", variables={"HARNESS_ONLY_RUN": "0"})


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("x", "--harness-seed"),
        ("0", "the environment variable HARNESS_ONLY_RUN"),
        ("none", "harness_isolation in "),
        ("5", "harness_strict in "),
    ],
)
def test_wrong_values_of_all_places_are_told_at_once(
    wrong_in_three_places: Outcome, value: str, place: str
):
    """
    A usage error before anything runs; each line names value and place.
    """
    lines = errors_of(wrong_in_three_places)

    assert len(lines) == 4
    [line] = [line for line in lines if place in line]
    assert line.startswith("harness: ")
    assert value in line
    assert "1 passed" not in wrong_in_three_places.text


def test_wrong_types_in_native_toml_are_told_at_once(tmp_path: Path):
    """
    Pytest would stop at the first, as an error of its own.
    """
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest]\nharness_seed = "7"\nharness_strict = 1\nharness_daemon = 3\n'
    )

    lines = errors_of(pytest_in(tmp_path))

    assert len(lines) == 3
    for key in ("harness_seed", "harness_strict", "harness_daemon"):
        assert sum(key in line for line in lines) == 1


@pytest.mark.parametrize(
    ("options", "variables", "place"),
    [
        (["--harness-daemon=nix"], {}, "--harness-daemon"),
        ([], {"HARNESS_DAEMON": "nix"}, "the environment variable HARNESS_DAEMON"),
        (["-o", "harness_daemon=nix"], {}, "harness_daemon in the ini file"),
    ],
)
def test_a_daemon_that_is_none_is_told_with_its_place(
    tmp_path: Path, options: list[str], variables: dict[str, str], place: str
):
    """
    And with what could stand there instead.
    """
    first, *rest = errors_of(pytest_in(tmp_path, *options, variables=variables))

    assert first == f'harness: {place}: "nix" is no daemon'
    assert [line.split()[:2] for line in rest] == [
        ["by", "name"],
        ["by", "address"],
        ["by", "file"],
    ]


def test_paths_of_the_command_line_are_relative_to_the_shell(tmp_path: Path):
    """
    Started in a folder of the project, a daemon's file is looked for in that folder.
    """
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "mine.toml").write_text('[daemon]\naddress = "ws://127.0.0.1:9"\n')
    (tests / "test_a.py").write_text(
        "def test_it(harness_settings, harness_daemon):\n"
        "    assert harness_settings.runs_dir.parts[-2:] == ('tests', 'out')\n"
        "    assert harness_daemon.address.port == 9\n"
    )

    run = pytest_in(tests, "--harness-daemon=mine.toml", "--harness-runs-dir=out")

    assert run.code == 0, run.text
