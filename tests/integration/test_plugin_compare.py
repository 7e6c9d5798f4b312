"""Comparisons of our values in a failing test: with what the wire and the client saw."""

from __future__ import annotations

import pytest

from tests.integration.inner import Outcome, carried_out
from tests.integration.plugin_runs import block

_SUITE = {
    "test_a.py": """
        import pytest
        from dataclasses import dataclass
        from harness.client.endings import Ending
        from harness.errors import CallUnknown
        from harness.faults.base import Fault, fault
        from harness.faults.latency import Latency
        from harness.faults.timeout import Timeout

        async def test_in_place(harness_environment):
            env = harness_environment
            async with env.client(call_timeout_s=1) as client:
                async with env.inject(Timeout()):
                    with pytest.raises(CallUnknown):
                        await client.call("echo", {"text": "hi"})
                    assert client.ending == Ending(kind="reset")

        async def test_none(harness_environment):
            async with harness_environment.client() as client:
                assert client.ending == None

        async def test_effects(harness_environment):
            env = harness_environment
            async with env.client() as client:
                await client.call("echo", {"text": "hi"}, key="k1")
                assert env.effects() == []

        @fault
        class Mine(Latency):
            type = "mine"

        def test_without_environment():
            assert Mine(latency_ms=1) == Mine(latency_ms=2)
        """,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The suite, once."""
    return carried_out(tmp_path_factory.mktemp("compare"), _SUITE, "-vv")


def explained(run: Outcome, name: str) -> list[str]:
    """The lines that pytest marks as the explanation."""
    lines = [line[1:].strip() for line in block(run, name).splitlines() if line.startswith("E ")]
    assert lines, run.text
    return lines


def test_an_ending_is_compared_with_what_was_going_on(run: Outcome):
    """
    The fault that was in place and what it touched, and what the client did last.
    """
    _, found, expected, fault, opened, called = explained(run, "test_in_place")

    assert found == "found:    the connection is open"
    assert expected == "expected: the connection was reset (RST)"
    assert fault.startswith("fault in place: timeout on replies, timeout_ms 0 (dropped 1 x, ")
    assert opened.startswith("client-1 open ok after ")
    assert called.endswith(": no answer within 1 s")


def test_none_and_lists_are_compared_as_pytest_does(run: Outcome):
    """
    With all their fields where more is asked for.
    """
    assert explained(run, "test_none")[0].startswith("AssertionError: assert Ending(kind='open'")
    assert any("key='k1'" in line for line in explained(run, "test_effects"))


def test_a_fault_of_the_users_own_is_compared_too(run: Outcome):
    """
    Its class is theirs, its base is ours; no environment is needed.
    """
    assert explained(run, "test_without_environment")[1] == "latency_ms: found 1, expected 2"
