"""What a failing test's report says: what was seen, which fault, where the record is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.inner import Outcome, carried_out
from tests.integration.plugin_runs import (
    FEW,
    again,
    block,
    chosen,
    copied,
    pytest_in,
    rows,
    sections,
    tells,
)

_SUITE = {
    "apart.py": """
        async def call_it(client):
            return await client.call("no_such_tool")
        """,
    "test_a.py": """
        import asyncio
        import apart
        import pytest
        from harness.errors import CallUnknown
        from harness.faults.down import Down
        from harness.faults.latency import Latency
        from harness.faults.timeout import Timeout

        async def test_passes(harness_environment):
            async with harness_environment.inject(Latency(latency_ms=1)):
                pass

        async def test_with_message(harness_environment, harness_seed):
            env = harness_environment
            async with env.inject(Down()):
                pass
            unused = env.inject(Timeout())
            async with env.client() as client, env.inject(Latency(latency_ms=30)):
                reply = await client.call("echo", {"text": str(harness_seed)})
                assert reply.elapsed_ms < 30, f"100% late, seed {reply.text}"

        async def test_without_message(harness_environment):
            async with harness_environment.inject(Latency(latency_ms=30)):
                assert 1 + 1 == 3

        def check(value):
            assert value == 5, "in a function of the module"

        async def test_function_of_the_module(harness_environment):
            check(4)

        async def test_unknown(harness_environment):
            env = harness_environment
            async with env.client(call_timeout_s=1) as client, env.inject(Timeout()):
                await client.call("echo")

        def test_plain(harness_environment):
            env = harness_environment

            async def story():
                async with env.client() as client:
                    await client.call("no_such_tool")

            env.run(story())

        async def test_elsewhere(harness_client):
            async with harness_client as client:
                await apart.call_it(client)

        async def test_group(harness_environment):
            env = harness_environment
            async with env.client(call_timeout_s=1) as client, env.inject(Timeout()):
                calls = [client.call("echo") for _ in range(3)]
                ends = await asyncio.gather(*calls, return_exceptions=True)
                raise ExceptionGroup("none was answered", ends)

        async def test_did_not_raise(harness_client):
            async with harness_client as client:
                with pytest.raises(CallUnknown):
                    await client.call("echo", {"text": "hi"})

        def test_without_environment(harness_toxiproxy):
            assert harness_toxiproxy.port == 1

        def test_nothing_of_ours():
            assert False
        """,
}


@pytest.fixture(scope="module")
def run(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The suite, once on each backend."""
    return carried_out(tmp_path_factory.mktemp("failures"), _SUITE, "--harness-seed=7")


def test_an_assertion_is_told_in_three_rows(run: Outcome):
    """
    What the test said, what it expected without that, and the values it met.
    """
    told = rows(block(run, "test_with_message"))

    assert told["failed"] == ["100% late, seed 7"]
    assert told["expected"] == ["reply.elapsed_ms < 30"]
    assert float(told["seen"][0].removesuffix(" < 30")) >= 30


def test_an_assertion_without_a_message_has_two(run: Outcome):
    """
    Nothing is made up.
    """
    told = rows(block(run, "test_without_message"))

    assert "failed" not in told
    assert (told["expected"], told["seen"]) == (["1 + 1 == 3"], ["(1 + 1) == 3"])


def test_each_fault_says_what_became_of_it(run: Outcome):
    """
    In place, lifted before, never put on; what was in place comes first.
    """
    first, second, third = rows(block(run, "test_with_message"))["fault"]

    assert first.startswith("in place: latency on replies, latency_ms 30 (")
    if tells(run, "test_with_message"):
        assert "(delayed 1 x, " in first
        assert first.endswith(" bytes; 1 call exposed)")
    else:
        assert first.endswith("(1 call exposed; this proxy does not tell what it touched)")
    assert second == "lifted before: down (0 calls exposed)"
    assert third.startswith("never put on: timeout on replies, timeout_ms 0 (write ")


def test_a_fault_that_touched_nothing_is_seen_to(run: Outcome):
    """
    The engineer who reads it need not wonder whether the fault did it.
    """
    known = tells(run, "test_without_message")
    seen = (
        "it touched nothing: no data met it"
        if known
        else "this proxy does not tell what it touched"
    )

    assert rows(block(run, "test_without_message"))["fault"] == [
        f"in place: latency on replies, latency_ms 30 (0 calls exposed; {seen})"
    ]


@pytest.mark.parametrize(
    ("name", "label", "line", "seen"),
    [
        ("test_function_of_the_module", "expected", "value == 5", "4 == 5"),
        (
            "test_unknown",
            "doing",
            'await client.call("echo")',
            "CallUnknown: call echo: no answer within 1 s (time_limit)",
        ),
        (
            "test_plain",
            "doing",
            'await client.call("no_such_tool")',
            "CallFailed: call no_such_tool: no tool of that name (TOOL_NOT_FOUND)",
        ),
        (
            "test_elsewhere",
            "doing",
            "await apart.call_it(client)",
            "CallFailed: call no_such_tool: no tool of that name (TOOL_NOT_FOUND)",
        ),
        (
            "test_group",
            "doing",
            'raise ExceptionGroup("none was answered", ends)',
            "ExceptionGroup: 3 x CallUnknown: call echo: no answer within 1 s (time_limit)",
        ),
        (
            "test_did_not_raise",
            "doing",
            "with pytest.raises(CallUnknown):",
            "DID NOT RAISE CallUnknown",
        ),
    ],
)
def test_the_line_of_the_project_that_failed_is_told(
    run: Outcome, name: str, label: str, line: str, seen: str
):
    """
    In the test or in a function of its module, and what it met.
    """
    told = rows(block(run, name))

    assert told[label] == [line]
    assert told["seen"] == [seen]


def test_a_fault_that_the_failure_left_is_in_place(run: Outcome):
    """
    It is lifted on the way out, before anybody reports; also where a group carries the error.
    """
    for name in ("test_unknown", "test_group"):
        [fault] = rows(block(run, name))["fault"]
        assert fault.startswith("in place: timeout on replies")
        assert ("dropped " in fault) == tells(run, name)


def test_errors_of_ours_show_no_lines_of_ours(run: Outcome):
    """
    The traceback ends with the project's line, the error says the rest; --full-trace has all.
    """
    for name in ("test_unknown", "test_plain", "test_elsewhere", "test_group"):
        assert "session.py" not in block(run, name)
    assert "apart.py:3: CallFailed" in block(run, "test_elsewhere")


def test_the_full_trace_is_there_for_the_asking(run: Outcome, tmp_path: Path):
    """
    Whoever suspects the harness wants its lines.
    """
    folder = copied(run, tmp_path / "full")

    full = pytest_in(folder, "--full-trace", "-k", "test_unknown")

    assert "session.py" in full.text


def test_the_timeline_is_drawn_with_what_happened(run: Outcome):
    """
    Calls, faults and effects, as `harness show` draws them; not where nothing happened.
    """
    timeline = sections(block(run, "test_with_message"))["harness timeline"]

    assert "timeline (ms after start)" in timeline.splitlines()[0]
    for part in (
        "call echo client-1-",
        "latency-3 in place",
        "executed client-1-",
        "down-1 lifted",
    ):
        assert part in timeline
    assert "harness timeline" not in sections(block(run, "test_function_of_the_module"))


def test_a_test_without_an_environment_says_how_to_repeat_it(run: Outcome):
    """
    Where it uses anything of ours: the seed matters.
    """
    told = rows(block(run, "test_without_environment"))

    assert told.keys() == {"expected", "seen", "again"}
    [command] = told["again"]
    where = "".join(f"{word} " for word in chosen())
    assert command == f"pytest test_a.py::test_without_environment --harness-seed 7 {where}-W error"


@pytest.mark.parametrize("spread", [(), ("-n", "1")])
def test_the_command_has_what_changes_a_test(tmp_path: Path, spread: tuple[str, ...]):
    """
    The ini file and the modes that were given; not what was chosen, shown or counted.
    """
    (tmp_path / "other.ini").write_text("[pytest]\nharness_isolation = daemon\n")
    (tmp_path / "test_a.py").write_text(
        "async def test_it(harness_isolation):\n    assert harness_isolation == 'proxy'\n"
    )
    mode = ("--asyncio-mode=auto", "-c", "other.ini", "-o", "asyncio_debug=false")

    run = pytest_in(tmp_path, *mode, "-x", "--tb=short", "-k", "test_it", *spread)
    arguments = again(block(run, "test_it"))
    repeated = pytest_in(tmp_path, *arguments)

    assert arguments[0] == "test_a.py::test_it"
    assert arguments[3:] == [*FEW, *mode]
    assert again(block(repeated, "test_it")) == arguments


def test_a_test_that_passes_or_is_none_of_ours_is_left_alone(run: Outcome):
    """
    Not a word of ours on either.
    """
    assert not sections(block(run, "test_nothing_of_ours"))
    assert "test_passes" not in run.text


def test_the_command_repeats_the_test_with_its_seed(run: Outcome, tmp_path: Path):
    """
    Carried out, it meets the same failure under the same fault.
    """
    folder = copied(run, tmp_path / "again")

    repeated = pytest_in(folder, *again(block(run, "test_with_message")))

    told = rows(block(repeated, "test_with_message"))
    assert repeated.text.count(" FAILURES ") == 1
    assert told["failed"] == ["100% late, seed 7"]
    assert told["fault"][0].startswith("in place: latency on replies, latency_ms 30 (")


def test_the_command_fits_the_folder_it_was_begun_in(tmp_path: Path):
    """
    Its path is relative to the shell's; what the shell gave is given again.
    """
    folder = tmp_path / "tests" / "deep"
    folder.mkdir(parents=True)
    (tmp_path / "pytest.ini").write_text("[pytest]\nharness_seed = 5\n")
    (tmp_path / "tests" / "test_a.py").write_text(
        "def test_it(harness_isolation, harness_environment):\n"
        "    assert harness_isolation == 'proxy'\n"
    )
    variables = {"HARNESS_ISOLATION": "daemon", "HARNESS_STRICT": "1"}

    run = pytest_in(folder, "..", "--harness-daemon=reference", variables=variables)
    arguments = again(block(run, "test_it"))
    repeated = pytest_in(folder, *arguments)

    assert arguments == [
        *("../test_a.py::test_it", "--harness-seed", "5", "--harness-daemon", "reference"),
        *("--harness-isolation", "daemon", "--harness-strict", *FEW),
    ]
    assert again(block(repeated, "test_it")) == arguments
