"""Tests, errors and neighbours that are not of the usual kind: all of them are told of."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.integration.inner import Outcome, carried_out
from tests.integration.plugin_runs import block, properties, pytest_in, rows

_TOKEN = "geheim-of-some-length"

_PROJECT = """
[tool.pytest]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"

[tool.harness.daemon]
command = ["{python}", "-m", "harness.refdaemon", "--port", "{port}"]
dialect = "exai"
token_from = "MY_TOKEN"
token_variable = "EXAI_WS_TOKEN"
"""

_TESTS = f"""
import os
import traceback
import unittest
from pathlib import Path
import pytest

TOKEN = "{_TOKEN}"


class TestOld(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def its_environment(self, harness_environment):
        self.env = harness_environment

    def test_old(self):
        self.assertEqual(self.env.seed, TOKEN)


def test_part(harness_environment):
    got = {{"headers": ["Content-Type: application/json", "X-Token: " + TOKEN]}}
    assert got == {{}}


@pytest.mark.xfail
def test_expected(harness_environment):
    assert TOKEN == "x"


class Mute(Exception):
    def __str__(self):
        raise OSError("nothing to say")


def test_mute(harness_environment):
    raise Mute


class Late(Exception):
    def __str__(self):
        if "telling.py" in "".join(traceback.format_stack()):
            pytest.fail("Timeout (>1.0s) from pytest-timeout.")
        return "late"


def test_late(harness_environment):
    raise Late


def test_y_changed(harness_environment):
    Path(__file__).write_text("")
    assert not "what was there"


def test_z_nowhere(harness_environment, tmp_path):
    here = tmp_path / "gone"
    here.mkdir()
    os.chdir(here)
    here.rmdir()
    assert not "where it was"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All of them fail, one of them as expected."""
    folder = tmp_path_factory.mktemp("strange")
    (folder / "pyproject.toml").write_text(_PROJECT)
    (folder / "test_a.py").write_text(_TESTS)
    variables = {"MY_TOKEN": _TOKEN, "GITHUB_ACTIONS": "true"}
    options = ("--xfail-tb", "--junitxml=report.xml", "-rA")
    return pytest_in(folder, *options, variables=variables)


def test_a_unittest_is_told_of_as_any_other(run: Outcome) -> None:
    """pytest learns of its error later than of others'."""
    assert rows(block(run, "TestOld.test_old"))["fault"] == ["none was injected"]
    assert "TestOld::test_old" in run.text.partition("::error")[2]


def test_what_pytest_left_of_a_token_is_hidden_too(run: Outcome) -> None:
    """In a value that was cut, in an expected failure, and in all that is kept."""
    whole = run.text + (run.folder / "report.xml").read_text()

    assert "6 failed, 1 xfailed" in run.text
    for size in (4, 8, len(_TOKEN)):
        assert _TOKEN[-size:] not in whole
    assert rows(block(run, "test_part"))["seen"] == ["{'headers': [***']} == {}"]


def test_the_line_of_the_summary_says_what_failed(run: Outcome) -> None:
    """Although the report of it had to be cleaned."""
    assert "FAILED test_a.py::test_part - AssertionError: assert {'headers'" in run.text


@pytest.mark.parametrize("test", ["test_mute", "test_late", "test_z_nowhere"])
def test_what_cannot_be_told_ends_no_session(run: Outcome, test: str) -> None:
    """The test failed, and pytest says so."""
    assert "cannot be told" in block(run, test)


_RINGING = """
import pytest
from harness.pytest_plugin import telling, tracebacks

def rung_once(work, rung):
    def first(*given, **more):
        if not rung:
            rung.append(True)
            print("rang in", work.__name__)
            pytest.fail("Timeout (>1.0s) from pytest-timeout.")
        return work(*given, **more)
    return first

for module, name in (
    (telling, "tell_properties"), (telling, "hide"), (tracebacks, "leave_out_ours")
):
    setattr(module, name, rung_once(getattr(module, name), []))
"""


def test_a_time_limit_that_rings_while_a_report_is_made_ends_no_session(tmp_path: Path) -> None:
    """And nothing of the report is lost."""
    (tmp_path / "pyproject.toml").write_text(_PROJECT)
    (tmp_path / "conftest.py").write_text(_RINGING)
    (tmp_path / "test_a.py").write_text(
        f"def test_it(harness_environment):\n    assert harness_environment.seed == '{_TOKEN}'\n"
    )
    options = ("--junitxml=report.xml", "-s")
    run = pytest_in(tmp_path, *options, variables={"MY_TOKEN": _TOKEN})

    assert set(re.findall("rang in (.*)", run.text)) == {
        "tell_properties",
        "hide",
        "leave_out_ours",
    }
    assert "1 failed" in run.text
    assert _TOKEN not in run.text
    assert "harness_abilities" in properties(run, "test_it")


@pytest.mark.parametrize(
    "test",
    [
        "def test_it(harness_seed): ...",
        "import pytest\n\n@pytest.mark.harness_runs(2)\ndef test_it(): ...",
    ],
)
def test_a_tests_time_is_not_spent_on_imports(tmp_path: Path, test: str) -> None:
    """Nor is a report made during one: a time limit that ends there would end the session."""
    files = {
        "conftest.py": """
            import sys

            def pytest_timeout_set_timer(item):
                print("loaded before:", "harness.pytest_plugin.telling" in sys.modules)
            """,
        "test_it.py": test,
    }

    outcome = carried_out(tmp_path, files, "-s", "--timeout=40")

    assert set(re.findall("loaded before: (.*)", outcome.text)) == {"True"}, outcome.text


def test_a_file_that_changed_meanwhile_has_no_statement(run: Outcome) -> None:
    """All else is told."""
    assert rows(block(run, "test_y_changed"))["fault"] == ["none was injected"]


def test_no_terminal_is_needed(tmp_path: Path) -> None:
    """Whoever leaves the reporter out gets the exit code."""
    files = {"test_it.py": "def test_it(harness_environment):\n    assert 0\n"}

    outcome = carried_out(tmp_path, files, "-p", "no:terminal")

    assert outcome.code == pytest.ExitCode.TESTS_FAILED, outcome.text


def test_runs_that_end_early_are_torn_down(tmp_path: Path) -> None:
    """What the next test does not share is not there any more."""
    files = {
        "test_1.py": """
    import pytest

    @pytest.fixture(scope="module")
    def shared():
        yield
        raise OSError("the module's tear-down")

    @pytest.mark.harness_runs(3)
    def test_skipped(shared):
        pytest.skip("not here")
    """,
        "test_2.py": "def test_next():\n    pass\n",
    }
    outcome = carried_out(tmp_path, files)

    assert outcome.ends() == {"test_skipped": ["skipped", "error"], "test_next": ["passed"]}
    assert "the module's tear-down" in outcome.complaint("test_skipped")


def test_a_fixtures_client_outlives_harness_run(tmp_path: Path) -> None:
    """It works on the same loop; only the test's own tasks are the test's."""
    files = {
        "test_it.py": """
    import pytest

    @pytest.fixture
    def held(harness_environment):
        client = harness_environment.client()
        harness_environment.run(client.__aenter__())
        yield client
        harness_environment.run(client.__aexit__(None, None, None))

    @pytest.fixture
    def used(harness_run, held):
        return lambda: harness_run(held.call("echo", {"text": "hi"}))

    @pytest.fixture
    def other_way_round(held, harness_run):
        return lambda: harness_run(held.call("echo", {"text": "hi"}))

    def test_1(used):
        assert used().text == "hi"

    def test_2(other_way_round):
        assert other_way_round().text == "hi"

    def test_3_after(harness_environment):
        harness_environment.run(harness_environment.control.proxies())
    """
    }
    outcome = carried_out(tmp_path, files)

    assert outcome.code == 0, outcome.text


def test_forks_have_nothing_of_ours(tmp_path: Path) -> None:
    """SIGTERM ends them as it would without us, and no fixture hangs in them."""
    files = {
        "test_it.py": """
    import os
    import signal
    import pytest
    from harness.errors import InvalidValue

    def end_of(child):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def test_terminated(harness_environment, tell):
        ready, says = os.pipe()
        if not (child := os.fork()):
            os.write(says, b"!")
            signal.pause()
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        tell(code=end_of(child))

    def test_uses_a_fixture(harness_environment, tell):
        async def story():
            pass

        if not (child := os.fork()):
            try:
                harness_environment.run(story())
            except InvalidValue:
                os._exit(3)
            os._exit(0)
        tell(code=end_of(child))
    """
    }
    outcome = carried_out(tmp_path, files, "-W", "ignore::DeprecationWarning")

    codes = {"test_terminated": -signal.SIGTERM, "test_uses_a_fixture": 3}
    assert outcome.told("code") == codes, outcome.text


def test_a_failure_that_was_repeated_is_not_annotated(tmp_path: Path) -> None:
    """As pytest-rerunfailures reports it: in a category of its own."""
    (tmp_path / "conftest.py").write_text(
        """
def pytest_report_teststatus(report):
    if report.when == "call" and report.failed:
        return "rerun", "R", "RERUN"
"""
    )
    (tmp_path / "test_it.py").write_text("def test_it(harness_seed):\n    assert 0\n")

    run = pytest_in(tmp_path, variables={"GITHUB_ACTIONS": "true"})

    assert "1 rerun" in run.text
    assert "::error" not in run.text


def test_a_plan_is_made_without_an_environment(tmp_path: Path) -> None:
    """Needs are not probed for it."""
    files = {
        "test_it.py": """
    import pytest

    @pytest.mark.harness_needs("rst")
    def test_it(harness_environment):
        pass
    """
    }
    outcome = carried_out(tmp_path, files, "--setup-plan")

    assert outcome.code == 0, outcome.text
