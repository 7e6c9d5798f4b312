"""The same fixtures on every kind of loop, and on none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.inner import NO_ASYNCIO, Outcome, carried_out

_AWAITED = """
    import asyncio
    import pytest
    from harness.faults.latency import Latency

    {mark}

    LATE = Latency(latency_ms=20)

    async def late_echo(env):
        async with env.client() as client, env.inject(LATE):
            reply = await client.call("echo", {{"text": "hi"}})
        assert reply.elapsed_ms >= 20
        return reply.text

    async def test_awaited(harness_environment, tell):
        assert await late_echo(harness_environment) == "hi"
        loop = asyncio.get_running_loop()
        tell(loop=f"{{type(loop).__module__}}.{{id(loop)}}")

    async def test_awaited_again(harness_environment, tell):
        assert await late_echo(harness_environment) == "hi"
        loop = asyncio.get_running_loop()
        tell(loop=f"{{type(loop).__module__}}.{{id(loop)}}")

    async def test_client(harness_client):
        async with harness_client as client:
            assert (await client.call("echo", {{"text": "hi"}})).text == "hi"

    async def test_asked_for_while_the_loop_runs(request):
        env = request.getfixturevalue("harness_environment")
        assert await late_echo(env) == "hi"

    async def test_with_in_a_coroutine(harness_environment):
        with harness_environment.inject(LATE):
            async with harness_environment.client() as client:
                reply = await client.call("echo", {{"text": "hi"}})
        assert reply.elapsed_ms >= 20

    async def test_run_in_a_coroutine(harness_environment):
        assert harness_environment.run(late_echo(harness_environment)) == "hi"

    async def test_history_in_a_coroutine(harness_environment):
        await late_echo(harness_environment)
        assert "delayed" in [op.f for op in harness_environment.history().ops]

    async def test_own_client_fixture(own_client):
        assert (await own_client.call("echo", {{"text": "hi"}})).text == "hi"
"""
_OWN_FIXTURE = """
    @{fixture}
    async def own_client(harness_environment):
        async with harness_environment.client() as client:
            yield client
"""
_ANYIO = """
    import pytest

    @pytest.fixture(scope="session")
    def anyio_backend():
        return "asyncio"
"""
_PLAIN = """
    import unittest
    import pytest
    from harness.faults.latency import Latency

    LATE = Latency(latency_ms=20)

    def test_with(harness_environment):
        env = harness_environment

        async def story():
            async with env.client() as client:
                return await client.call("echo", {"text": "hi"})

        with env.inject(LATE):
            assert env.run(story()).elapsed_ms >= 20

    def test_harness_run(harness_environment, harness_run):
        async def story():
            async with harness_environment.client() as client, harness_environment.inject(LATE):
                return await client.call("echo", {"text": "hi"})

        assert harness_run(story()).elapsed_ms >= 20

    def test_harness_run_alone(harness_run):
        async def story():
            return 7

        assert harness_run(story()) == 7

    def test_asyncio_run(harness_environment):
        import asyncio

        async def story():
            async with harness_environment.client() as client, harness_environment.inject(LATE):
                return await client.call("echo", {"text": "hi"})

        assert asyncio.run(story()).elapsed_ms >= 20

    class TestUnit(unittest.TestCase):
        @pytest.fixture(autouse=True)
        def give(self, harness_environment):
            self.env = harness_environment

        def test_of_a_case(self):
            with self.env.inject(LATE):
                assert self.env.history().ops
"""
_AWAITED_TESTS = {
    "test_awaited",
    "test_awaited_again",
    "test_client",
    "test_asked_for_while_the_loop_runs",
    "test_with_in_a_coroutine",
    "test_run_in_a_coroutine",
    "test_history_in_a_coroutine",
    "test_own_client_fixture",
}
_PLAIN_TESTS = {
    "test_with",
    "test_harness_run",
    "test_harness_run_alone",
    "test_asyncio_run",
    "test_of_a_case",
}


def passed(outcome: Outcome) -> set[str]:
    """The tests that passed, without their parameters."""
    assert outcome.code == 0, outcome.text
    ends = outcome.ends()
    assert set(map(tuple, ends.values())) == {("passed",)}, outcome.text
    return {name.partition("[")[0] for name in ends}


def awaited(
    folder: Path, *options: str, mark: str = "", fixture: str = "pytest.fixture"
) -> Outcome:
    """Run the asynchronous suite."""
    text = _AWAITED.format(mark=mark) + _OWN_FIXTURE.format(fixture=fixture)
    return carried_out(folder, {"test_it.py": text}, *options)


def test_auto_mode(tmp_path: Path) -> None:
    """pytest-asyncio in auto mode; each test has a loop of its own."""
    outcome = awaited(tmp_path)

    assert passed(outcome) == _AWAITED_TESTS


def test_strict_mode(tmp_path: Path) -> None:
    """pytest-asyncio in strict mode: marked tests and marked fixtures."""
    mark = "import pytest_asyncio; pytestmark = pytest.mark.asyncio"
    outcome = awaited(
        tmp_path, "--asyncio-mode", "strict", mark=mark, fixture="pytest_asyncio.fixture"
    )

    assert passed(outcome) == _AWAITED_TESTS


@pytest.mark.parametrize("scope", ["module", "session"])
def test_a_loop_that_tests_share(tmp_path: Path, scope: str) -> None:
    """Tests on one loop after the other have environments of their own."""
    mark = f'pytestmark = pytest.mark.asyncio(loop_scope="{scope}"); import pytest_asyncio'
    fixture = f'pytest_asyncio.fixture(loop_scope="{scope}")'
    outcome = awaited(tmp_path, mark=mark, fixture=fixture)

    assert passed(outcome) == _AWAITED_TESTS
    loops = outcome.told("loop")
    assert loops["test_awaited"] == loops["test_awaited_again"]


def test_uvloop(tmp_path: Path) -> None:
    """The way pytest-asyncio documents: a hook that gives loop factories."""
    hook = """
    def pytest_asyncio_loop_factories(config, item):
        import uvloop
        return {"uvloop": uvloop.new_event_loop}
    """
    text = _AWAITED.format(mark="") + _OWN_FIXTURE.format(fixture="pytest.fixture")
    outcome = carried_out(tmp_path, {"test_it.py": text, "conftest.py": hook})

    assert passed(outcome) == _AWAITED_TESTS
    assert outcome.told("loop")["test_awaited"].startswith("uvloop.")


_STRICT = f"{NO_ASYNCIO}\nasyncio_default_fixture_loop_scope = function\n"


@pytest.mark.parametrize(
    ("own", "ini"), [(["-p", "no:asyncio"], NO_ASYNCIO), ([], _STRICT)], ids=["alone", "beside"]
)
def test_anyio(tmp_path: Path, own: list[str], ini: str) -> None:
    """anyio's plugin with its asyncio backend, alone and beside pytest-asyncio."""
    mark = "pytestmark = pytest.mark.anyio"
    text = _ANYIO + _AWAITED.format(mark=mark) + _OWN_FIXTURE.format(fixture="pytest.fixture")
    outcome = carried_out(tmp_path, {"test_it.py": text}, *own, ini=ini)

    assert passed(outcome) == _AWAITED_TESTS


def test_no_loop_at_all(tmp_path: Path) -> None:
    """Plain tests, where pytest-asyncio is not there."""
    files = {"test_it.py": _PLAIN}
    outcome = carried_out(tmp_path, files, "-p", "no:asyncio", ini=NO_ASYNCIO)

    assert passed(outcome) == _PLAIN_TESTS


def test_plain_tests_beside_asynchronous_ones(tmp_path: Path) -> None:
    """In one session, each way its own."""
    text = _AWAITED.format(mark="") + _OWN_FIXTURE.format(fixture="pytest.fixture")
    outcome = carried_out(tmp_path, {"test_a.py": text, "test_b.py": _PLAIN})

    assert passed(outcome) == _AWAITED_TESTS | _PLAIN_TESTS


@pytest.fixture(scope="module")
def odd(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What goes wrong on the loop in the thread."""
    text = """
    import asyncio
    import sys
    import time
    import pytest

    def test_1_waits_for_itself(harness_environment, harness_run):
        async def story():
            harness_environment.history()
        harness_run(story())

    def test_2_no_coroutine(harness_run):
        async def story():
            pass
        harness_run(story)

    def test_3_exits(harness_run):
        async def story():
            sys.exit(5)
        with pytest.raises(SystemExit):
            harness_run(story())

    def test_4_exits_in_a_task(harness_run):
        async def leave():
            sys.exit(5)
        async def story():
            await asyncio.gather(asyncio.create_task(leave()), return_exceptions=True)
        with pytest.raises(SystemExit):
            harness_run(story())

    def test_5_too_long(harness_run):
        async def story():
            await asyncio.Event().wait()
        harness_run(story(), within_s=0.05)

    def test_6_cancels_itself(harness_run):
        async def story():
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            harness_run(story())

    def test_7_fails_in_there(harness_run):
        async def story():
            assert not "its own reason"
        harness_run(story())

    def test_8_after_all(harness_environment, harness_run):
        async def story():
            async with harness_environment.client() as client:
                await client.call("echo", {"text": "hi"})
        harness_run(story())
    """
    return carried_out(tmp_path_factory.mktemp("odd"), {"test_it.py": text}, "-W", "default")


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("test_1_waits_for_itself", "cannot wait for another one there"),
        ("test_2_no_coroutine", "call the coroutine function: run(story()), not run(story)"),
        ("test_5_too_long", "story did not end within 0.05 s"),
        ("test_7_fails_in_there", "its own reason"),
    ],
)
def test_what_cannot_be_carried_out_is_told(odd: Outcome, test: str, said: str) -> None:
    """At once, and in words."""
    assert odd.ends()[test] == ["failed"]
    assert said in odd.complaint(test)


@pytest.mark.parametrize("test", ["test_3_exits", "test_6_cancels_itself", "test_8_after_all"])
def test_the_loop_outlives_what_it_carries_out(odd: Outcome, test: str) -> None:
    """Whatever a coroutine raises comes out of harness_run, and the next one is carried out."""
    assert odd.ends()[test] == ["passed"]
