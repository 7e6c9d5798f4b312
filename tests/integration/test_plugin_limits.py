"""Limits in the reports of tests: who may tighten them, and what is said of one that was hit."""

from __future__ import annotations

import json
import sys

import pytest

from tests.integration.inner import Outcome, carried_out
from tests.integration.plugin_runs import block, rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's")

_SUITE = {
    "test_it.py": """
        import asyncio
        from contextlib import AsyncExitStack
        import pytest
        from harness.faults.descriptor_limit import DescriptorLimit
        from harness.faults.disconnect import Disconnect

        @pytest.mark.harness_needs("descriptor_limit")
        async def test_hits_it(harness_environment, harness_isolation, tell):
            tell(level=harness_isolation)
            env = harness_environment
            async with env.inject(DescriptorLimit(descriptors=24)), AsyncExitStack() as clients:
                for _ in range(24):
                    async with asyncio.timeout(1):
                        await clients.enter_async_context(env.client())

        async def test_of_others(harness_environment):
            async with harness_environment.inject(DescriptorLimit(descriptors=24)):
                pass

        async def test_of_nobody(harness_environment):
            async with harness_environment.inject(Disconnect()):
                pass

        async def test_fails_of_itself(harness_environment):
            assert False
        """
}


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A suite on daemons that have few descriptors at times."""
    return carried_out(tmp_path_factory.mktemp("limited"), _SUITE)


def test_the_report_names_the_limit_that_was_hit(limited: Outcome) -> None:
    """Beside the sentence; the record of the run has it, too."""
    assert limited.ends()["test_hits_it"] == ["failed"]
    [said] = rows(block(limited, "test_hits_it"))["limit"]
    assert said.startswith("descriptors: ")
    assert 'its log says "Too many open files"' in said

    results = json.loads((limited.run_directory("test_hits_it") / "results.json").read_text())
    assert results["limits_hit"] == [said]


def test_a_test_that_hit_none_is_told_of_none(limited: Outcome) -> None:
    """No row, and an empty list."""
    assert limited.ends()["test_fails_of_itself"] == ["failed"]
    assert "limit" not in rows(block(limited, "test_fails_of_itself"))
    run = limited.run_directory("test_fails_of_itself")
    assert json.loads((run / "results.json").read_text())["limits_hit"] == []


def test_a_shared_daemon_is_not_limited(limited: Outcome) -> None:
    """A test that needs to limit its daemon has one of its own; another is told how."""
    assert limited.told("level") == {"test_hits_it": "daemon"}
    assert limited.ends()["test_of_others"] == ["failed"]
    told = limited.complaint("test_of_others")
    assert "descriptor_limit  other tests use its daemon too" in told
    assert '@pytest.mark.harness_isolation("daemon")' in told


def test_what_no_daemon_here_can_be_done_is_no_matter_of_sharing(limited: Outcome) -> None:
    """A daemon of one's own would not help; the reason is another."""
    told = limited.complaint("test_of_nobody")
    assert "network  the daemon is a process of this machine" in told
    assert "other tests use" not in told


_TALKATIVE = """
import asyncio, sys
from websockets.asyncio.server import serve

async def echo(connection):
    async for message in connection:
        print(message, flush=True)
        await connection.send(message)

async def main():
    async with serve(echo, "127.0.0.1", int(sys.argv[1])):
        await asyncio.Future()

asyncio.run(main())
"""

_ONE_AFTER_THE_OTHER = {
    "talkative.py": _TALKATIVE,
    "conftest.py": """
        import pytest
        from harness.daemons.command import Command
        from harness.dialects.plain import Plain

        @pytest.fixture(scope="session")
        def harness_daemon():
            return Command(template=("{python}", "talkative.py", "{port}"), dialect=Plain())
        """,
    "test_it.py": """
        async def test_before(harness_environment, harness_isolation):
            assert harness_isolation == "proxy"
            async with harness_environment.client() as client:
                await client.call("Too many open files")

        async def test_after(harness_environment):
            assert False
        """,
}


def test_what_the_log_said_before_a_test_is_not_its(tmp_path_factory: pytest.TempPathFactory):
    """A daemon that is shared has one log for all."""
    outcome = carried_out(tmp_path_factory.mktemp("after"), _ONE_AFTER_THE_OTHER)

    assert outcome.ends() == {"test_before": ["passed"], "test_after": ["failed"]}
    before = json.loads((outcome.run_directory("test_before") / "results.json").read_text())
    assert before["limits_hit"] == ['descriptors: its log says "Too many open files"']
    assert "limit" not in rows(block(outcome, "test_after"))
