"""Tests of a daemon with a provider behind it: what they share, harm, and leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration import behind
from tests.integration.inner import Outcome, carried_out
from tests.integration.plugin_runs import block, properties, rows, sections

_DAEMON = f"""
    import os, runpy, signal
    import pytest

    @pytest.fixture(scope="session")
    def harness_daemon():
        return runpy.run_path({behind.__file__!r})["asking"](patience_s=2)

    @pytest.fixture
    def ask(harness_environment, harness_isolation, tell):
        env = harness_environment
        hop = env.stack.behind.hop
        tell(level=harness_isolation, proxy=hop.proxy, provider=hop.site.program.started_at)

        async def ask(text):
            async with env.client(call_timeout_s=5) as client:
                return (await client.call(text)).text

        return ask

    @pytest.fixture
    def kill(harness_environment):
        def kill():
            # Past the harness, as somebody else would.
            program = harness_environment.stack.behind.site.program
            if hasattr(program, "pid"):
                os.kill(program.pid, signal.SIGKILL)
            else:
                program.box.kill()

        return kill
    """

_TESTS = """
    import pytest
    from harness.errors import InvalidValue
    from harness.faults.down import Down
    from harness.faults.kill import Kill
    from harness.faults.latency import Latency

    LATE = Latency(latency_ms=1)

    async def test_1_shared(harness_environment, ask, tell):
        assert await ask("one") == "said one"
        tell(keys=[each.key for each in harness_environment.executions()])

    async def test_1_shared_too(harness_environment, ask, tell):
        assert await ask("two") == "said two"
        tell(keys=[each.key for each in harness_environment.executions()])

    async def test_2_refused(harness_environment, ask, tell):
        for fault in (LATE, Down(), Kill()):
            with pytest.raises(InvalidValue) as caught:
                harness_environment.inject(fault, hop="provider")
            tell(said=str(caught.value))

    @pytest.mark.harness_needs("provider", "executions")
    async def test_3_own(harness_environment, ask, tell):
        async with harness_environment.inject(Down(), hop="provider"):
            assert (await ask("lost")).startswith("failed: ")
        assert await ask("back") == "said back"

    @pytest.mark.harness_isolation("environment")
    def test_4_environment(harness_environment, harness_run, ask):
        with harness_environment.inject(Down(), hop="provider"):
            assert harness_run(ask("lost")).startswith("failed: ")

    async def test_5_toxic(harness_environment, ask):
        env, late = harness_environment, Latency(latency_ms=9000)
        await env.control.add_toxic(env.stack.behind.hop.proxy, late, name="mine")

    async def test_5_after(ask):
        assert await ask("in time") == "said in time"

    @pytest.mark.harness_isolation("daemon")
    async def test_6_fault(harness_environment, ask):
        await harness_environment.inject(LATE, hop="provider").__aenter__()

    @pytest.mark.harness_isolation("daemon")
    async def test_6_link(harness_environment, ask):
        env = harness_environment
        await env.control.update(env.stack.behind.hop.proxy, enabled=False)

    @pytest.mark.harness_isolation("daemon")
    async def test_7_fails(harness_environment, ask):
        async with harness_environment.inject(LATE, hop="provider"):
            assert await ask("hi") == "bye"

    @pytest.mark.harness_isolation("daemon")
    async def test_8_death(kill, ask):
        kill()

    async def test_9_death_of_a_shared_one(kill, ask):
        kill()

    async def test_9_after(ask):
        assert await ask("hi") == "said hi"
    """


@pytest.fixture(scope="module")
def run(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A suite of such tests, in their order."""
    files = {"conftest.py": _DAEMON, "test_it.py": _TESTS}
    return carried_out(tmp_path_factory.mktemp("provider"), files)


def test_tests_share_a_daemon_with_its_provider(run: Outcome) -> None:
    """Each sees its own executions alone; the proxy on that hop is the daemon's."""
    levels, proxies, providers = (run.told(key) for key in ("level", "proxy", "provider"))
    shared = ["test_1_shared", "test_1_shared_too"]

    assert [run.ends()[name] for name in shared] == [["passed"], ["passed"]]
    assert [levels[name] for name in shared] == ["proxy", "proxy"]
    assert len({proxies[name] for name in shared}) == 1
    assert len({providers[name] for name in shared}) == 1
    assert run.told("keys") == {"test_1_shared": ["one"], "test_1_shared_too": ["two"]}


def test_faults_on_the_hop_of_a_shared_daemon_are_refused(run: Outcome) -> None:
    """The error says why, and names the marker."""
    assert run.ends()["test_2_refused"] == ["passed"]
    said = run.told("said")["test_2_refused"]
    assert "kill cannot be done on the way to the provider" in said
    assert '@pytest.mark.harness_isolation("daemon")' in said


def test_a_test_that_needs_the_hop_has_a_daemon_of_its_own(run: Outcome) -> None:
    """Its proxy is always called the same, for draws hang on the name."""
    assert run.ends()["test_3_own"] == ["passed"]
    assert run.told("level")["test_3_own"] == "daemon"
    assert run.told("proxy")["test_3_own"] == "provider"
    assert run.told("proxy")["test_1_shared"] != "provider"
    assert {"provider", "executions"} <= set(
        properties(run, "test_3_own")["harness_abilities"].split()
    )


def test_a_plain_test_harms_the_hop_of_its_own_environment(run: Outcome) -> None:
    """By `with`, and nothing is shared."""
    assert run.ends()["test_4_environment"] == ["passed"]


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("test_5_toxic", "mine was still on the wire to the provider"),
        ("test_6_fault", "latency-1 was still in place"),
        ("test_6_link", "the proxy to the provider was still disabled"),
        ("test_8_death", "the provider killed by SIGKILL in the middle of the test, unasked"),
        ("test_9_death_of_a_shared_one", "the provider killed by SIGKILL in the middle"),
    ],
)
def test_what_is_left_there_is_named(run: Outcome, test: str, said: str) -> None:
    """At the tear-down of the test that left it."""
    assert run.ends()[test] == ["error"]
    assert said in run.complaint(test)


@pytest.mark.parametrize("test", ["test_5_after", "test_9_after"])
def test_nobody_after_it_meets_that(run: Outcome, test: str) -> None:
    """It was put away, or replaced."""
    assert run.ends()[test] == ["passed"]


def test_a_dead_provider_is_replaced_with_its_daemon(run: Outcome) -> None:
    """The next test has another process."""
    providers = run.told("provider")

    assert providers["test_9_after"] != providers["test_9_death_of_a_shared_one"]


def test_a_failure_tells_of_the_hop(run: Outcome) -> None:
    """The fault's line, the provider's log and the description have it."""
    report = block(run, "test_7_fails")

    assert "latency on replies (hop provider), latency_ms 1" in "\n".join(rows(report)["fault"])
    assert any(title.startswith("harness provider.log") for title in sections(report))
    assert "to provider: " in sections(report)["harness timeline"]
    folder = run.run_directory("test_7_fails")
    about = json.loads((folder / "environment.json").read_text())
    assert about["provider"]["proxy"] == "provider"
    assert (folder / "provider.log").exists()
    assert Path(folder / "executions.jsonl").exists()


def test_nothing_else_went_wrong(run: Outcome) -> None:
    """The session ends as it should, with nothing left of it."""
    ends = run.ends()

    assert sum(len(kinds) for kinds in ends.values()) == len(ends) == 13
    assert "this session left something behind" not in run.text
