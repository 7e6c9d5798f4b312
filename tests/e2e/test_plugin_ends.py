"""A session of pytest that ends at any moment, in any way: a second later nothing is left."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
from pathlib import Path

import pytest

from harness.clock import now
from harness.environment.backends import DOCKER, LOCAL, engine
from tests.integration.inner import Outcome, begun, carried_out, still_there, written

MOMENTS = 3
# A network takes an engine a while.
WITHIN_S = {LOCAL: 1.0, DOCKER: 2.0}
BOUND_S = 20

# They look at all that dead runs left in the engine, whosesoever.
pytestmark = pytest.mark.whole_machine

# Hypothesis' hook is of the old style: pluggy warns where Ctrl-C comes in the middle of a report.
_NO_NEWS = ("-W", "ignore::pluggy.PluggyTeardownRaisedWarning")

_LEVELS = {
    "conftest.py": """
    import os
    import sys

    def pytest_runtest_logreport(report):
        # To whoever waits outside: the first test is over, all is up.
        if report.when == "teardown":
            print("carried out", report.nodeid, file=sys.__stderr__, flush=True)
    """,
    "test_it.py": """
    import pytest
    from harness.faults.latency import Latency
    from harness.faults.pause import Pause

    async def use(env, fault):
        async with env.client() as client:
            async with env.inject(fault):
                pass
            await client.call("echo", {"text": "hi"})

    @pytest.fixture
    def harness_isolation(level):
        return level

    @pytest.mark.parametrize("n", range(60))
    @pytest.mark.parametrize("level", ["environment", "daemon", "proxy"])
    async def test_it(harness_environment, level, n):
        await use(harness_environment, Latency(latency_ms=5))
        if level != "proxy":
            await use(harness_environment, Pause())
    """,
}
# One level after the other, so that every moment may meet each.
_ORDER = """
    def pytest_collection_modifyitems(items):
        items.sort(key=lambda item: item.callspec.params["n"])
"""


def left(folder: Path, backend: str = LOCAL) -> list[str]:
    """What is still there after the time that is given for it."""
    deadline = now() + WITHIN_S[backend]
    while (there := remains(folder, backend)) and now() < deadline:
        os.sched_yield()
    return there


def remains(folder: Path, backend: str) -> list[str]:
    """What is there of a session that has ended."""
    there = still_there(folder)
    if backend == DOCKER:
        # By whom it was made: by one of its processes, which are dead.
        there += [f"containers of run {run_id}" for run_id in engine().left.runs(dead=True)]
    return there


def ended(
    folder: Path, moment_s: float, *signals: signal.Signals, options: tuple[str, ...] = ()
) -> tuple[int, str]:
    """Run the suite, send signals so long after it is at work: its exit code and its words."""
    written(folder, {**_LEVELS, "conftest.py": _LEVELS["conftest.py"] + _ORDER})
    with begun(folder, "-s", *_NO_NEWS, *options) as process:
        assert process.stdout is not None
        while "carried out" not in (line := process.stdout.readline()):
            assert line, "it ended before it began"
        for number in signals:
            try:
                # The wait is the moment.
                process.wait(moment_s)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
        text, _ = process.communicate(timeout=BOUND_S)
        return process.returncode, text


@pytest.fixture
def moment_s(request: pytest.FixtureRequest) -> float:
    """A random moment; a test that fails tells it."""
    return random.uniform(0, 1.0)


@pytest.mark.parametrize("n", range(MOMENTS))
def test_nothing_survives_sigkill(on_backend: str, tmp_path: Path, moment_s: float, n: int) -> None:
    """Killed without a word, among environments of all three levels."""
    code, _ = ended(tmp_path, moment_s, signal.SIGKILL)

    assert code == -signal.SIGKILL
    assert left(tmp_path, on_backend) == [], f"after {moment_s:.3f} s"


@pytest.mark.parametrize("n", range(MOMENTS))
def test_nothing_survives_ctrl_c(on_backend: str, tmp_path: Path, moment_s: float, n: int) -> None:
    """pytest says that it was interrupted, and has put everything away when it ends."""
    code, text = ended(tmp_path, moment_s, signal.SIGINT)

    assert remains(tmp_path, on_backend) == [], f"after {moment_s:.3f} s"
    assert code == pytest.ExitCode.INTERRUPTED, text
    assert "KeyboardInterrupt" in text, text


@pytest.mark.parametrize("n", range(MOMENTS))
def test_nothing_survives_sigterm(on_backend: str, tmp_path: Path, moment_s: float, n: int) -> None:
    """It is taken as Ctrl-C, and told so."""
    code, text = ended(tmp_path, moment_s, signal.SIGTERM)

    assert remains(tmp_path, on_backend) == [], f"after {moment_s:.3f} s"
    assert code == pytest.ExitCode.INTERRUPTED, text
    assert "harness: SIGTERM, taken as Ctrl-C" in text, text


@pytest.mark.parametrize("n", range(MOMENTS))
@pytest.mark.parametrize("method", ["signal", "thread"])
def test_nothing_survives_pytest_timeout(
    on_backend: str, tmp_path: Path, moment_s: float, method: str, n: int
) -> None:
    """Tests that are cut off while they come up, run, or are put away; or the whole session is."""
    written(tmp_path, {**_LEVELS, "conftest.py": _LEVELS["conftest.py"] + _ORDER})
    bound = ("--timeout", f"{moment_s + 0.01:.3f}", "--timeout-method", method, "--maxfail", "2")
    with begun(tmp_path, *bound, "-k", "-0") as process:
        text, _ = process.communicate(timeout=BOUND_S)

    assert left(tmp_path, on_backend) == [], f"after {moment_s:.3f} s"
    internal = "\n".join(re.findall("^INTERNALERROR>.*", text, re.MULTILINE))
    if internal:
        # Nobody catches it where it rings while pytest itself makes a report; and pytest (9.2)
        # cannot tell of where it rang between two lines. What we add to a report is not cut.
        assert "Failed: Timeout (>" in internal or "in from_item_and_call" in internal, text
        assert "telling.py" not in internal, text
        assert process.returncode == pytest.ExitCode.INTERNAL_ERROR, text
    else:
        assert process.returncode in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), text


def test_sigterm_ends_a_session_that_ignores_ctrl_c(tmp_path: Path, moment_s: float) -> None:
    """As all do that a script starts in its background: they inherit it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code, text = ended(tmp_path, moment_s, signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)

    assert still_there(tmp_path) == [], f"after {moment_s:.3f} s"
    assert code == pytest.ExitCode.INTERRUPTED, text


@pytest.mark.parametrize("n", range(MOMENTS))
def test_nothing_survives_a_second_ctrl_c(tmp_path: Path, moment_s: float, n: int) -> None:
    """Who does not wait for the clean-up ends pytest; others clean up."""
    ended(tmp_path, moment_s / 4, signal.SIGINT, signal.SIGINT)

    assert left(tmp_path) == [], f"after {moment_s / 4:.3f} s, twice"


def test_sigterm_is_told_although_output_is_captured(tmp_path: Path) -> None:
    """Also where pytest keeps what tests print."""
    written(tmp_path, _TERMINATED)
    with begun(tmp_path) as process:
        text, _ = process.communicate(timeout=BOUND_S)

    assert process.returncode == pytest.ExitCode.INTERRUPTED, text
    assert "harness: SIGTERM, taken as Ctrl-C" in text, text
    assert left(tmp_path) == []


_TERMINATED = {
    "test_it.py": """
    import asyncio
    import os
    import signal

    async def test_it(harness_environment):
        print("something")
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)
    """
}

_INTERRUPTED = {
    "test_it.py": """
    import asyncio
    import os
    import signal
    import pytest
    from harness.faults.latency import Latency

    async def leave_a_fault(env):
        await env.inject(Latency(latency_ms=5)).__aenter__()
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)

    @pytest.fixture
    async def begun(harness_environment):
        await leave_a_fault(harness_environment)

    @pytest.fixture
    async def ended(harness_environment):
        yield
        await leave_a_fault(harness_environment)

    async def test_1(begun):
        pass

    async def test_2(harness_environment):
        await leave_a_fault(harness_environment)

    async def test_3(ended):
        pass
    """
}


@pytest.mark.parametrize("phase", ["1", "2", "3"])
@pytest.mark.parametrize("level", ["proxy", "daemon", "environment"])
def test_what_an_interrupted_test_left_is_no_news(tmp_path: Path, phase: str, level: str) -> None:
    """In its set-up, in the test, in its tear-down: pytest ends as it always does."""
    options = ("-k", f"test_{phase}", "--harness-isolation", level)
    outcome = carried_out(tmp_path, _INTERRUPTED, *options)

    assert outcome.code == pytest.ExitCode.INTERRUPTED, outcome.text
    assert "left something behind" not in outcome.text
    assert outcome.text.rstrip().splitlines()[-1].count("=") > 2, outcome.text
    assert left(tmp_path) == []


_SLOW = {
    "conftest.py": """
    import pytest
    from harness.daemons.command import Command
    from harness.daemons.reference import Reference
    from harness.dialects.plain import Plain

    MUTE = Command(template=("sh", "-c", "exec sleep 60", "{port}"), dialect=Plain(),
                   start_timeout_s=60)

    @pytest.fixture
    def harness_daemon(request):
        return MUTE if "mute" in request.node.name else Reference()
    """,
    "test_it.py": """
    import asyncio
    import pytest

    levels = pytest.mark.parametrize("harness_isolation", ["proxy", "daemon", "environment"])

    def test_1_up(harness_environment):
        pass

    @pytest.mark.timeout(0.5, method="{method}", func_only=True)
    @levels
    async def test_2_hangs(harness_environment, harness_isolation):
        async with harness_environment.client():
            await asyncio.Event().wait()

    @pytest.mark.timeout(0.5, method="{method}", func_only=True)
    @levels
    def test_3_hangs_on_our_loop(harness_environment, harness_isolation):
        harness_environment.run(asyncio.Event().wait())

    @pytest.mark.timeout(0.5, method="{method}")
    @levels
    def test_4_mute(harness_environment, harness_isolation):
        pass

    @levels
    async def test_5_after(harness_environment, harness_isolation):
        async with harness_environment.client() as client:
            assert (await client.call("echo", {{"text": "hi"}})).text == "hi"
    """,
}


def timed_out(folder: Path, method: str, *options: str) -> Outcome:
    """Run tests that take too long."""
    files = {**_SLOW, "test_it.py": _SLOW["test_it.py"].format(method=method)}
    # A client that was cut off by the limit is told of by a warning, too.
    return carried_out(folder, files, "-W", "default", *options)


def test_a_time_limit_by_signal_ends_one_test(tmp_path: Path) -> None:
    """In the test, on our loop and in the set-up, on each level; those after it pass."""
    outcome = timed_out(tmp_path, "signal")

    ends = outcome.ends()
    hung = {name: end for name, end in ends.items() if name[5] in "234"}
    assert len(hung) == 9
    for name, end in hung.items():
        assert end == (["error"] if "mute" in name else ["failed"]), outcome.text
        assert "Timeout (>0.5s)" in outcome.complaint(name)
    assert {name for name, end in ends.items() if end == ["passed"]} == {
        "test_1_up",
        *(f"test_5_after[{level}]" for level in ("proxy", "daemon", "environment")),
    }
    assert left(tmp_path) == []


@pytest.mark.parametrize("level", ["proxy", "daemon", "environment"])
@pytest.mark.parametrize("test", ["test_2", "test_4"])
def test_a_time_limit_by_thread_leaves_nothing(tmp_path: Path, test: str, level: str) -> None:
    """It ends pytest on the spot; others clean up."""
    outcome = timed_out(tmp_path, "thread", "-k", f"test_1 or ({test} and {level})")

    assert "Timeout" in outcome.text
    assert "passed" not in outcome.text.splitlines()[-1]
    assert left(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_go_with_their_controller(
    tmp_path: Path, moment_s: float, number: signal.Signals
) -> None:
    """Each has its own daemons and proxies; the controller has nothing to put away itself."""
    code, text = ended(tmp_path, moment_s, number, options=("-n", "2"))

    assert code == -number, text
    assert left(tmp_path) == [], f"after {moment_s:.3f} s"


def test_a_worker_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """A test kills its own process; xdist goes on with another one."""
    files = {
        "test_it.py": """
    import os
    import signal
    import pytest

    @pytest.mark.parametrize("level", ["proxy", "daemon", "environment"])
    async def test_dies(harness_environment, level):
        os.kill(os.getpid(), signal.SIGKILL)

    @pytest.mark.parametrize("level", ["proxy", "daemon", "environment"])
    @pytest.mark.parametrize("n", range(3))
    async def test_lives(harness_environment, level, n):
        pass

    @pytest.fixture
    def harness_isolation(level):
        return level
    """
    }
    outcome = carried_out(tmp_path, files, "-n", "2", "--max-worker-restart", "3")

    assert left(tmp_path) == []
    ends = outcome.ends()
    lived = [end for name, end in ends.items() if name.startswith("test_lives")]
    assert lived == [["passed"]] * 9, outcome.text
    assert outcome.text.count("crashed while running") >= 3
