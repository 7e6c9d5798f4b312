"""Loading the plugin: what it costs, under which names, beside which others, and its header."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends import in_containers
from tests.integration.inner import Outcome
from tests.integration.plugin_runs import errors_of, pytest_in
from tests.integration.proxy_process import ProxyServer

_TEST = "def test_it(harness_seed): assert harness_seed == 7\n"
_OTHER = 'def pytest_addoption(parser):\n    parser.addoption("--harness-seed", help="mine")\n'
_NO_AUTOLOAD = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
_PATH = ("harness: path ", "harness: the path ")
_SEED = {"HARNESS_SEED": "7"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one test, which asks for seed 7."""
    (tmp_path / "test_a.py").write_text(_TEST)
    return tmp_path


def test_loading_it_imports_nothing_heavy():
    """
    No Docker package, no WebSocket library, no event loop of ours; nothing beyond pytest's own
    modules and the few files of the plugin that it needs at once.
    """
    code = """
import sys
import pytest
before = set(sys.modules)
import harness.pytest_plugin
print("\\n".join(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = set(done.stdout.split())
    assert "harness.pytest_plugin.fixtures" in loaded
    plugin = "harness.pytest_plugin"
    parts = ("fixtures", "header", "marks", "options", "state")
    wanted = {"harness", plugin, *(f"{plugin}.{part}" for part in parts)}
    foreign = {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign <= wanted
    assert "asyncio" not in loaded


def test_a_session_that_asks_for_nothing_imports_nothing_heavy(project: Path):
    """
    Also past the start: with the header printed and tests of other people's run.
    """
    (project / "test_a.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    heavy = {'docker', 'testcontainers', 'websockets', 'msgspec', 'picows', 'uvloop'}\n"
        "    heavy |= {'harness.environment', 'harness.client', 'harness.project'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    (project / "pyproject.toml").write_text('[project]\nname = "somebody"\nversion = "1"\n')

    run = pytest_in(project, "-p", "harness", variables=_NO_AUTOLOAD, few=False)

    assert run.code == 0, run.text
    assert "harness: daemon reference" in run.text


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (["-p", "harness"], _NO_AUTOLOAD),
        (["-p", "harness.pytest_plugin"], _NO_AUTOLOAD),
        (["-p", "harness"], {}),
        (["-p", "harness.pytest_plugin"], {}),
        (["-p", "harness.pytest_plugin", "-p", "harness"], {}),
        ([], {"PYTEST_PLUGINS": "harness.pytest_plugin"}),
        (["-p", "harness.pytest_plugin", "-n", "1"], {}),
    ],
    ids=lambda value: " ".join(value),
)
def test_it_is_loaded_once_under_whatever_names(
    project: Path, options: list[str], variables: dict[str, str]
):
    """
    The entry point's name and the module's are the same plugin; naming both is no mistake.
    """
    run = pytest_in(project, *options, variables={**variables, **_SEED}, few=False)

    assert run.code == 0, run.text
    assert run.text.count("harness: daemon") == 1


def test_a_conftest_may_name_it_too(project: Path):
    """
    Many do, by habit or for those who turn autoloading off.
    """
    (project / "conftest.py").write_text('pytest_plugins = ["harness.pytest_plugin"]\n')

    run = pytest_in(project, variables=_SEED)

    assert run.code == 0, run.text


def test_it_can_be_left_out(project: Path):
    """
    -p no:harness, and neither option nor fixture is there.
    """
    run = pytest_in(project, "-p", "no:harness")

    assert run.code == 1
    assert "fixture 'harness_seed' not found" in run.text


def test_an_option_that_another_plugin_has_already_is_told_in_two_lines(project: Path):
    """
    The plugin that comes second is ours, which says whose fault it is and what to do.
    """
    (project / "other.py").write_text(_OTHER)

    run = pytest_in(project, "-p", "other", variables={"PYTHONPATH": str(project)})

    first, then = errors_of(run)
    assert first.startswith("harness: --harness-seed belongs to another plugin already")
    assert then.split()[0] == "next"
    assert "-p no:harness" in then


def test_a_plugin_that_takes_an_option_of_ours_fails_at_its_own_line(project: Path):
    """
    The plugin that comes second is theirs: pytest shows its line and the option.
    """
    (project / "conftest.py").write_text(_OTHER)

    run = pytest_in(project)

    assert run.code != 0
    assert 'parser.addoption("--harness-seed", help="mine")' in run.text
    assert "already used by ['--harness-seed']" in run.text.splitlines()[-1]


def header(run: Outcome) -> str:
    """The first line of ours at the head of a session."""
    return next(line for line in run.text.splitlines() if line.startswith("harness: "))


def test_the_header_says_what_tests_would_meet(project: Path):
    """
    Daemon, backend, proxy, seed and abilities, with a seed that was given.
    """
    assert header(pytest_in(project, "--harness-seed", "7")) == (
        "harness: daemon reference, backend local, proxy embedded, seed 7; abilities: process, "
        "events, seed (others are probed when first asked for); path local"
    )


def path(run: Outcome) -> list[str]:
    """The lines of ours at the head of a session that tell of the path."""
    lines = run.text.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith(_PATH))
    legs = itertools.takewhile(lambda line: line.startswith("  "), lines[first + 1 :])
    return [lines[first], *(leg.partition(", round trip")[0] for leg in legs)]


@in_containers
def test_the_path_behind_the_real_toxiproxy_is_tried(project: Path):
    """
    Before a daemon that is a process, too; a line for each leg.
    """
    told = path(pytest_in(project, "--harness-proxy", "toxiproxy"))

    assert told == [
        "harness: path local",
        "  client to toxiproxy: a reset of a live connection arrived as FIN; "
        "one armed before it opened arrived as RST",
        "  toxiproxy to tap: not tried: both are on this machine's loopback, "
        "with nothing between them",
        "  tap to daemon: a reset arrived as RST",
    ]


def test_the_path_behind_somebody_elses_server_is_tried(project: Path, proxy_server: ProxyServer):
    """
    Its port may be one that a forwarder publishes.
    """
    there = proxy_server.control.url
    told = path(pytest_in(project, "--harness-proxy", there))

    assert told[0] == "harness: path local"
    assert "a reset of a live connection arrived as RST" in told[1]
    assert proxy_server.http.call("GET", "/proxies").json == {}


def test_nothing_is_tried_where_tests_are_only_listed(project: Path):
    """
    It takes a second, and nobody will use it.
    """
    run = pytest_in(project, "--collect-only", "--harness-proxy", "http://127.0.0.1:1")

    assert path(run) == ["harness: the path was not looked at"]


def test_a_seed_that_was_drawn_is_marked_and_used(project: Path):
    """
    Two sessions draw two; the one in the header is the one that tests get.
    """
    (project / "test_a.py").write_text("def test_it(harness_seed): print('used', harness_seed)\n")

    runs = [pytest_in(project, "-s") for _ in range(2)]

    told = [header(run).partition("seed ")[2].partition(" (drawn)")[0] for run in runs]
    assert told[0] != told[1]
    for seed, run in zip(told, runs, strict=True):
        assert f"used {seed}\n" in run.text


def test_the_header_of_what_runs_elsewhere_claims_nothing(project: Path):
    """
    Neither process nor events are ours there; that no server answers is told.
    """
    options = ("--harness-daemon=ws://127.0.0.1:9/x", "--harness-proxy=http://127.0.0.1:1")

    run = pytest_in(project, *options, variables=_SEED)

    told = header(run)
    assert "daemon running 127.0.0.1:9, backend attached, proxy http://127.0.0.1:1" in told
    assert "abilities: none" in told
    [seen] = path(run)
    assert "cannot be looked at: no Toxiproxy answers at http://127.0.0.1:1" in seen


@pytest.mark.parametrize("options", [[], ["-q"], ["-n", "2"]], ids=["plain", "quiet", "workers"])
def test_all_mistakes_of_the_table_stop_the_session(project: Path, options: list[str]):
    """
    At once, before any test, whether or not one asks for the daemon.
    """
    (project / "test_a.py").write_text("def test_it(): pass\n")
    (project / "pyproject.toml").write_text(
        '[tool.harness.daemon]\ncomand = "x"\npath = 3\nstart_timeout_s = "long"\n'
    )

    first, *rows = errors_of(pytest_in(project, *options))

    assert first.startswith("harness: ")
    assert first.endswith("pyproject.toml: 3 problems")
    assert [row.split()[0] for row in rows] == [
        "daemon.comand",
        "daemon.path",
        "daemon.start_timeout_s",
    ]


def test_a_table_that_is_right_is_what_the_header_tells_of(project: Path):
    """
    The project's own daemon, without an option.
    """
    (project / "pyproject.toml").write_text(
        '[tool.harness.daemon]\naddress = "ws://127.0.0.1:9/"\n'
    )

    assert "daemon running 127.0.0.1:9" in header(pytest_in(project, variables=_SEED))


@pytest.mark.parametrize(("start", "asked"), [("svc", ()), (".", ("svc",)), ("svc/tests", ("."))])
def test_the_nearest_table_is_the_projects(tmp_path: Path, start: str, asked: tuple[str, ...]):
    """
    In a repository of several services each has its own; the root directory may be above.
    """
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "svc" / "tests").mkdir(parents=True)
    (tmp_path / "svc" / "pyproject.toml").write_text(
        '[tool.harness.daemon]\naddress = "ws://localhost:1"\ndialect = "plain"\n'
    )
    (tmp_path / "svc" / "tests" / "test_a.py").write_text(
        "def test_it(harness_daemon):\n    assert str(harness_daemon.address) == 'localhost:1'\n"
    )
    run = pytest_in(tmp_path / start, *asked)

    assert "1 passed" in run.text, run.text
    assert "harness: daemon running localhost:1, backend attached" in run.text
