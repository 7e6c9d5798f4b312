"""A daemon that others use too must look as it did before, and is replaced where it does not."""

from __future__ import annotations

import pytest

from tests.integration.inner import ECHO, Outcome, carried_out, traced

_PID = """
    import pytest

    async def pid_of(env):
        async with env.client(direct=True) as client:
            await client.health()
        # When it was started tells it apart, a process or a container.
        return env.stack.site.program.started_at
"""

# What the tests do to the connections of a client is told of by a warning, too.
_CALM = ("-W", "default")


@pytest.fixture(scope="module")
def changed(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Tests that leave something in the daemon, each with one after it that leaves nothing."""
    files = {
        "conftest.py": _PID
        + """
    @pytest.fixture
    def keep():
        return []

    @pytest.fixture(autouse=True)
    async def pid(harness_environment, tell):
        tell(pid=await pid_of(harness_environment))
    """,
        "test_it.py": """
    import asyncio
    from websockets.asyncio.client import connect

    async def nothing(env):
        async with env.client() as client:
            await client.call("echo", {"text": "hi"})

    async def test_1_state(harness_environment):
        async with harness_environment.client() as client:
            await client.call("counter", {"name": "n"})

    async def test_1_after(harness_environment):
        await nothing(harness_environment)

    async def test_2_running_call(harness_environment):
        async with harness_environment.client() as client:
            call = asyncio.create_task(client.call("sleep", {"ms": 60_000}))
            async with harness_environment.client() as other:
                while not (await other.health())["running_calls"]:
                    pass
            call.cancel()
            await asyncio.wait([call])

    async def test_2_after(harness_environment):
        await nothing(harness_environment)

    async def test_3_session(harness_environment, keep):
        # A client of the test's own, past the proxy, that nobody closes.
        keep.append(await connect(harness_environment.daemon_url, ping_interval=None))
        await keep[0].send('{"op": "hello", "session_id": "mine"}')
        await keep[0].recv()

    async def test_3_after(harness_environment):
        await nothing(harness_environment)

    async def test_4_death(harness_environment):
        import os, signal
        program = harness_environment.stack.site.program
        if hasattr(program, "pid"):
            os.kill(program.pid, signal.SIGKILL)
        else:
            # Past the harness, as somebody else would.
            program.box.kill()

    from conftest import pid_of as pid

    async def test_4_after(harness_environment):
        await nothing(harness_environment)
    """,
    }
    return carried_out(tmp_path_factory.mktemp("changed"), files, *_CALM)


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (
            "test_1_state",
            "tool_state {'counter': {'names': 0, 'sum': 0}} before,"
            " {'counter': {'names': 1, 'sum': 1}} after",
        ),
        ("test_2_running_call", "running_calls 0 before, 1 after"),
        ("test_3_session", "sessions 1 before, 2 after"),
    ],
)
def test_what_a_test_changed_is_named(changed: Outcome, test: str, said: str) -> None:
    """It fails at its tear-down with what was before, what is now, and the marker."""
    assert changed.ends()[test] == ["error"]
    told = changed.complaint(test)
    assert said in told
    assert '@pytest.mark.harness_isolation("daemon")' in told
    assert not traced(told)


@pytest.mark.parametrize("test", ["test_1", "test_2", "test_3", "test_4"])
def test_a_changed_daemon_is_replaced(changed: Outcome, test: str) -> None:
    """The next test passes, with another process."""
    (name,) = [name for name in changed.ends() if name.startswith(test) and "after" not in name]
    pids = changed.told("pid")

    assert changed.ends()[f"{test}_after"] == ["passed"]
    assert pids[f"{test}_after"] != pids[name]


def test_an_unchanged_daemon_is_not(changed: Outcome) -> None:
    """Only those that were changed were replaced."""
    pids = changed.told("pid")

    assert pids["test_1_after"] == pids["test_2_running_call"]


@pytest.fixture(scope="module")
def calm(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """200 tests that leave nothing, after all that goes away only slowly."""
    files = {
        "conftest.py": _PID,
        "test_it.py": """
    import asyncio
    import pytest
    from conftest import pid_of
    from harness.errors import CallUnknown, ConnectFailed
    from harness.faults.down import Down
    from harness.faults.latency import Latency
    from harness.faults.limit_data import LimitData
    from harness.faults.reset_peer import ResetPeer
    from harness.faults.timeout import Timeout

    async def slow(env):
        async with env.client() as client:
            await client.call("sleep", {"ms": 5})

    async def abandoned(env):
        # The call goes on for a moment after its client is gone.
        async with env.client() as client:
            with pytest.raises(CallUnknown):
                await client.call("sleep", {"ms": 20}, timeout_s=0.005)

    async def many(env):
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(slow(env))

    def under(fault):
        async def story(env):
            async with env.client() as client, env.inject(fault):
                with pytest.raises(CallUnknown):
                    await client.call("echo", {"text": "hi"}, timeout_s=0.02)
        return story

    async def down(env):
        async with env.inject(Down()):
            with pytest.raises(ConnectFailed):
                async with env.client():
                    pass

    async def late(env):
        async with env.client() as client, env.inject(Latency(latency_ms=5)):
            await client.call("echo", {"text": "hi"})

    stories = [
        slow, abandoned, many, down, late, under(ResetPeer()), under(ResetPeer(stream="upstream")),
        under(Timeout()), under(Timeout(stream="upstream")), under(LimitData(limit_bytes=1)),
    ]

    @pytest.mark.parametrize("n", range(20))
    @pytest.mark.parametrize("which", range(10))
    async def test_it(harness_environment, which, n, tell):
        await stories[which](harness_environment)
        tell(pid=await pid_of(harness_environment))
    """,
    }
    return carried_out(tmp_path_factory.mktemp("calm"), files, *_CALM)


def test_nobody_is_blamed_for_nothing(calm: Outcome) -> None:
    """After resets, black holes, refusals and slow calls the daemon is soon as it was."""
    assert calm.code == 0, calm.text
    assert len(calm.ends()) == 200
    assert len(set(calm.told("pid").values())) == 1


_PLAIN = """
    from pathlib import Path

    import pytest
    from harness.daemons.base import Container
    from harness.daemons.command import Command
    from harness.daemons.reference import IMAGE
    from harness.dialects.plain import Plain

    @pytest.fixture(scope="session")
    def harness_daemon():
        text = Path("echo.py").read_text().replace("127.0.0.1", "0.0.0.0")
        container = Container(image=IMAGE, port=9000, command=("python3", "-c", text, "{port}"))
        command = ("{python}", "echo.py", "{port}")
        return Command(template=command, container=container, dialect=Plain())

    @pytest.fixture
    def keep():
        return []
    """


@pytest.fixture(scope="module")
def plain(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A daemon that tells nothing of itself, and tests of which one keeps a connection."""
    files = {
        "echo.py": ECHO,
        "conftest.py": _PLAIN,
        "test_it.py": """
    from websockets.asyncio.client import connect

    async def test_1_closes(harness_environment, tell):
        async with connect(harness_environment.daemon_url) as client:
            await client.send("hi")
            assert await client.recv() == "hi"
        tell(daemon=harness_environment.stack.site.program.started_at)

    async def test_2_keeps(harness_environment, keep, tell):
        keep.append(await connect(harness_environment.daemon_url, ping_interval=None))
        tell(daemon=harness_environment.stack.site.program.started_at)

    async def test_3_after(harness_environment, tell):
        async with harness_environment.client() as client:
            assert (await client.call("hi")).text == "hi"
        tell(daemon=harness_environment.stack.site.program.started_at)
    """,
    }
    return carried_out(tmp_path_factory.mktemp("plain"), files, *_CALM)


def test_the_kernel_tells_of_a_daemon_that_does_not(plain: Outcome) -> None:
    """A connection that stays open is counted in the kernel's table."""
    ends = plain.ends()

    assert ends["test_1_closes"] == ["passed"]
    assert ends["test_2_keeps"] == ["error"]
    assert "tcp_connections 0 before, 1 after" in plain.complaint("test_2_keeps")


def test_a_plain_daemon_is_replaced(plain: Outcome) -> None:
    """The next test passes on another daemon."""
    daemon = plain.told("daemon")

    assert plain.ends()["test_3_after"] == ["passed"]
    assert daemon["test_3_after"] != daemon["test_2_keeps"] == daemon["test_1_closes"]
