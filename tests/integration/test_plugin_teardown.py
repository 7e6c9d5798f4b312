"""Tear-down goes through all its steps, whatever becomes of one."""

from __future__ import annotations

import json

import pytest

from tests.integration.inner import Outcome, carried_out

_BREAK = """
    import os

    import pytest
    from harness.environment.base import Environment
    from harness.environment.local import LocalProxy
    from harness.environment.tapped import Tapped
    from harness.errors import EnvironmentFailed
    from harness.proxy.control import Control
    from harness.pytest_plugin.house import House
    from harness.run.record import HistoryWriter
    from harness.run.store import RunDirectory

    SERVER = Tapped if os.environ.get("HARNESS_PROXY") == "toxiproxy" else LocalProxy
    STEPS = {
        "look": (Control, "proxies", True),
        "heal": (Environment, "heal", True),
        "collect": (Environment, "collect", True),
        "remove": (SERVER, "remove", True),
        "daemon": (House, "harmed", True),
        "logs": (RunDirectory, "write_text", False),
        "results": (RunDirectory, "write_json", False),
        "record": (HistoryWriter, "close", False),
    }

    @pytest.fixture
    def break_steps(monkeypatch):
        # Asked for before the environment, so put back after it.
        def break_steps(*names):
            for name in names:
                cls, method, awaited = STEPS[name]
                error = EnvironmentFailed(f"{name} is broken")
                async def fail_later(*_, error=error, **__):
                    raise error
                def fail(*_, error=error, **__):
                    raise error
                monkeypatch.setattr(cls, method, fail_later if awaited else fail)
        return break_steps

    @pytest.fixture
    def state(harness_environment, tell):
        env = harness_environment
        tell(proxies=sorted(env.run(env.control.proxies())), run=str(env.run_directory))
"""
_TESTS = """
    import pytest
    from harness.faults.latency import Latency

    STEPS = ["look", "heal", "collect", "remove", "daemon", "logs", "results", "record"]

    async def leave_a_toxic(env):
        await env.control.add_toxic(env.name, Latency(latency_ms=1), name="mine")

    @pytest.mark.parametrize("step", STEPS)
    def test_one(break_steps, harness_environment, step, tell):
        tell(run=str(harness_environment.run_directory))
        break_steps(step)

    @pytest.mark.parametrize("step", STEPS)
    def test_after(harness_environment, state, step):
        pass

    def test_two(break_steps, harness_environment):
        break_steps("heal", "results")

    async def test_two_and_a_toxic(break_steps, harness_environment):
        await leave_a_toxic(harness_environment)
        break_steps("collect", "results")

    async def test_fails_itself(break_steps, harness_environment):
        await leave_a_toxic(harness_environment)
        break_steps("heal")
        assert not "its own reason"

    def test_last(harness_environment, state):
        pass
"""
_STEPS = ["look", "heal", "collect", "remove", "daemon", "logs", "results", "record"]


@pytest.fixture(scope="module")
def broken(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A suite in which one step of the tear-down after the other fails."""
    files = {"conftest.py": _BREAK, "test_it.py": _TESTS}
    # One after the other: what a step leaves, the next test meets.
    order = """
    def pytest_collection_modifyitems(items):
        def place(item):
            return "step" not in item.fixturenames, item.name[item.name.find("["):]
        items.sort(key=place)
    """
    files["conftest.py"] += order
    return carried_out(tmp_path_factory.mktemp("broken"), files)


@pytest.mark.parametrize("step", _STEPS)
def test_a_step_that_fails_is_told(broken: Outcome, step: str) -> None:
    """The error is the step's own, without our lines, and no other comes of it."""
    name = f"test_one[{step}]"
    assert broken.ends()[name] == ["error"]
    told = broken.complaint(name)
    assert f"EnvironmentFailed: {step} is broken" in told
    assert "while putting away" not in told
    assert "Traceback" not in told


@pytest.mark.parametrize("step", _STEPS)
def test_whatever_failed_the_next_test_meets_nothing_of_it(broken: Outcome, step: str) -> None:
    """It passes, and its proxy is the only one on the server."""
    name = f"test_after[{step}]"
    assert broken.ends()[name] == ["passed"]
    assert broken.told("proxies")[name] == ["edge"]


@pytest.mark.parametrize("step", [step for step in _STEPS if step != "results"])
def test_the_steps_after_it_are_taken(broken: Outcome, step: str) -> None:
    """The last but one writes the results, with what went wrong before it."""
    directory = broken.folder / broken.told("run")[f"test_one[{step}]"]
    results = json.loads((directory / "results.json").read_bytes())

    assert results["trouble"] == (None if step == "record" else f"{step} is broken")


def test_the_first_error_is_told_first(broken: Outcome) -> None:
    """The second stands under it."""
    told = broken.complaint("test_two")

    first = told.index("EnvironmentFailed: heal is broken")
    assert first < told.index("while putting away: results is broken")


def test_what_the_test_left_is_told_beside_it(broken: Outcome) -> None:
    """What the test ought to mend comes before what went wrong at putting it away."""
    told = broken.complaint("test_two_and_a_toxic")

    left = told.index("mine was still on the wire")
    first = told.index("while putting away: EnvironmentFailed: collect is broken")
    assert left < first < told.index("while putting away: results is broken")


def test_a_tests_own_failure_stays_the_first(broken: Outcome) -> None:
    """It is a failure with its own reason, and the tear-down's trouble an error of its own."""
    assert broken.ends()["test_fails_itself"] == ["failed", "error"]
    told = broken.complaint("test_fails_itself")
    assert "EnvironmentFailed: heal is broken" in told
    assert "mine was still" not in told


def test_a_server_that_could_not_be_put_in_order_is_not_used_again(broken: Outcome) -> None:
    """Healing failed and the toxic may be there still: the last test has another server."""
    assert broken.ends()["test_last"] == ["passed"]
    assert broken.told("proxies")["test_last"] == ["edge"]
