"""Daemons and proxy servers that end in the middle of a test, or were never any good."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.proxy.ports import Reservation
from tests.integration.inner import Outcome, carried_out, traced

_CALM = ("-W", "default")


_SUITE = {
    "daemon.py": """
    import asyncio
    import os
    import sys
    from websockets.asyncio.server import serve

    ballast = []

    async def behave(connection):
        async for message in connection:
            if message == "grow":
                # The more it has, the longer its end takes.
                ballast.append(b"x" * (192 << 20))
            if message == "exit":
                print("the last word", file=sys.stderr, flush=True)
                over.set()
            else:
                await connection.send(message)

    async def main():
        global over
        over = asyncio.Event()
        async with serve(behave, sys.argv[1], int(sys.argv[2])):
            await over.wait()
            # At once: no orderly end.
            os._exit(3)

    asyncio.run(main())
    """,
    "conftest.py": """
    from pathlib import Path

    import pytest
    from harness.daemons.base import Container
    from harness.daemons.command import Command
    from harness.daemons.reference import IMAGE
    from harness.dialects.plain import Plain

    @pytest.fixture(scope="session")
    def harness_daemon():
        where = ("{host}", "{port}")
        inside = ("python3", "-c", Path("daemon.py").read_text(), *where)
        container = Container(image=IMAGE, port=9000, command=inside)
        command = ("{python}", "daemon.py", *where)
        return Command(template=command, container=container, dialect=Plain())

    @pytest.fixture(autouse=True)
    def which(monkeypatch, harness_environment, tell):
        # What a test patches stays so for its tear-down.
        stack = harness_environment.stack
        tell(daemon=stack.site.program.started_at, server=stack.server.program.started_at)
    """,
    "parts.py": """
    import asyncio
    import os
    import signal
    import pytest
    from harness.errors import CallUnknown

    async def end_of(part):
        async with asyncio.timeout(5):
            while part.trouble is None:
                await asyncio.sleep(0.01)

    async def tell_to_exit(env):
        async with env.client() as client:
            with pytest.raises(CallUnknown):
                await client.call("exit")

    async def make_it_exit(env):
        await tell_to_exit(env)
        await end_of(env.stack.site)

    async def answers(env):
        async with env.client() as client:
            assert (await client.call("hi")).text == "hi"

    def kill(program):
        # Of a container, its first process as this machine counts.
        pid = getattr(program, "pid", 0) or program.box.state().pid
        os.kill(pid, signal.SIGKILL)
    """,
}

_ENDS = """
    import pytest
    from parts import answers, end_of, kill, make_it_exit, tell_to_exit

    async def test_1_exits(harness_environment):
        await make_it_exit(harness_environment)

    async def test_1_after(harness_environment):
        await answers(harness_environment)

    @pytest.mark.harness_isolation("daemon")
    async def test_2_own_exits(harness_environment):
        await make_it_exit(harness_environment)

    async def test_2_after(harness_environment):
        await answers(harness_environment)

    async def test_3_exits_and_test_fails(harness_environment):
        # Nobody waits for its end: the report may meet it dying.
        await tell_to_exit(harness_environment)
        assert not "its own reason"

    async def test_3_after(harness_environment):
        await answers(harness_environment)

    async def test_4_proxy_killed(harness_environment):
        # The tear-down may meet it dying, too.
        kill(harness_environment.stack.server.program)

    async def test_4_after(harness_environment):
        await answers(harness_environment)

    @pytest.mark.harness_isolation("environment")
    async def test_5_own_proxy_killed(harness_environment):
        kill(harness_environment.stack.server.program)

    async def test_6_proxy_killed_and_test_fails(harness_environment):
        server = harness_environment.stack.server
        kill(server.program)
        await end_of(server)
        assert not "its own reason"

    async def test_6_after(harness_environment):
        await answers(harness_environment)

    @pytest.mark.parametrize("n", range(8))
    @pytest.mark.harness_isolation("daemon")
    async def test_9_just_exiting(harness_environment, n):
        # Its connection is closed before its process is gone.
        await tell_to_exit(harness_environment)

    @pytest.mark.harness_isolation("daemon")
    async def test_9_just_killed(harness_environment):
        # All of it is open still: it is in the middle of giving its memory back.
        async with harness_environment.client() as client:
            await client.call("grow")
        kill(harness_environment.stack.site.program)

    async def test_8_proxy_removed(harness_environment):
        # It harms nobody: everybody has a proxy of their own.
        await harness_environment.control.delete(harness_environment.name)
    """

_PROCESS_ENDS = """
    import os
    import signal
    from harness.errors import ProxyError
    from harness.proxy.control import Control

    def test_7_server_killed(harness_toxiproxy, harness_run):
        pid = harness_run(Control(f"http://{harness_toxiproxy}").about()).pid
        os.kill(pid, signal.SIGKILL)
        # It is left unreaped: for whoever started it.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    async def test_7_proxy_dying(harness_environment, monkeypatch):
        # It is killed when the tear-down asks it.
        pid = (await harness_environment.control.about()).pid

        async def no_answer(*_):
            os.kill(pid, signal.SIGKILL)
            raise ProxyError("GET /proxies: no answer")

        monkeypatch.setattr(Control, "proxies", no_answer)
    """


@pytest.fixture(scope="module")
def ended(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Tests whose daemon or proxy server ends meanwhile, each with one after it."""
    files = {**_SUITE, "test_it.py": _ENDS}
    return carried_out(tmp_path_factory.mktemp("ended"), files, *_CALM)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The same, where the proxy server is a process of ours that tells its number."""
    files = {**_SUITE, "test_it.py": _PROCESS_ENDS}
    return carried_out(tmp_path_factory.mktemp("killed"), files, *_CALM)


@pytest.mark.parametrize("n", range(8))
def test_a_daemon_that_is_just_exiting_is_told(ended: Outcome, n: int) -> None:
    """Its own test is over before its process is."""
    assert ended.ends()[f"test_9_just_exiting[{n}]"] == ["error"]
    assert "the daemon exited with 3" in ended.complaint(f"test_9_just_exiting[{n}]")


def test_a_daemon_that_was_just_killed_is_told(ended: Outcome) -> None:
    """Before its sockets are closed."""
    assert ended.ends()["test_9_just_killed"] == ["error"]
    assert "the daemon killed by SIGKILL" in ended.complaint("test_9_just_killed")


@pytest.mark.parametrize("test", ["test_1_exits", "test_2_own_exits"])
def test_a_daemon_that_exits_is_told(ended: Outcome, test: str) -> None:
    """The error says how it ended, once, and shows what it wrote last, without a traceback."""
    assert ended.ends()[test] == ["error"]
    results = json.loads((ended.run_directory(test) / "results.json").read_bytes())
    assert results["left_behind"] == [
        "daemon: exited with 3 in the middle of the test, unasked",
    ]
    told = ended.complaint(test)
    assert "the daemon exited with 3 in the middle of the test, unasked" in told
    assert not traced(told)
    assert "the last word" in (ended.run_directory(test) / "daemon.log").read_text()
    section = ended.text.split(f"ERROR at teardown of {test}")[1].split("ERROR at teardown")[0]
    assert "the last word" in section


def test_a_failing_test_tells_how_its_daemon_ended(ended: Outcome) -> None:
    """The end of the daemon stands in the one report there is."""
    test = "test_3_exits_and_test_fails"
    assert ended.ends()[test] == ["failed"]
    section = ended.text.split(f"_ {test} _")[1]
    assert re.search("^daemon +exited with 3 in the middle of the test", section, re.MULTILINE)


@pytest.mark.parametrize("test", ["test_4_proxy_killed", "test_5_own_proxy_killed"])
def test_a_proxy_server_that_was_killed_is_told(ended: Outcome, test: str) -> None:
    """One error, and none of the many that come of it."""
    one_error(ended, test)


@pytest.mark.parametrize("test", ["test_7_server_killed", "test_7_proxy_dying"])
def test_a_process_that_was_killed_is_told(killed: Outcome, test: str) -> None:
    """One of a test's own that nobody has reaped, and one that dies when it is asked."""
    one_error(killed, test)


def one_error(outcome: Outcome, test: str) -> None:
    """Its tear-down failed, and says that a server was killed, and nothing else."""
    assert outcome.ends()[test] == ["error"]
    told = outcome.complaint(test)
    assert "killed by SIGKILL in the middle of the test, unasked" in told
    assert not traced(told)
    assert "while putting away" not in told


def test_a_failing_test_tells_how_its_proxy_ended(ended: Outcome) -> None:
    """The end of the proxy stands in the one report there is."""
    test = "test_6_proxy_killed_and_test_fails"
    assert ended.ends()[test] == ["failed"]
    section = ended.text.split(f"_ {test} _")[1]
    assert re.search("^proxy +killed by SIGKILL in the middle of the test", section, re.MULTILINE)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_next_test_has_another_daemon(ended: Outcome, number: int) -> None:
    """It passes, with a daemon that was started later."""
    ends, daemon = ended.ends(), ended.told("daemon")
    (dead,) = [name for name in ends if name.startswith(f"test_{number}_") and "exits" in name]

    assert ends[f"test_{number}_after"] == ["passed"]
    assert daemon[f"test_{number}_after"] != daemon[dead]


@pytest.mark.parametrize("number", [4, 6])
def test_the_next_test_has_another_proxy_server(ended: Outcome, number: int) -> None:
    """It passes, on a server that was started later."""
    ends, server = ended.ends(), ended.told("server")
    (killed,) = [name for name in ends if name.startswith(f"test_{number}_proxy")]

    assert ends[f"test_{number}_after"] == ["passed"]
    assert server[f"test_{number}_after"] != server[killed]


def test_a_test_may_remove_its_proxy(ended: Outcome) -> None:
    """Nothing is left by that."""
    assert ended.ends()["test_8_proxy_removed"] == ["passed"]


_BAD = """
    import socket
    import pytest
    from harness.daemons.command import Command
    from harness.daemons.reference import Reference
    from harness.daemons.running import Running
    from harness.dialects.plain import Plain

    def command(*template, start_timeout_s=0.3):
        return Command(
            template=(*template, "{port}"), dialect=Plain(), start_timeout_s=start_timeout_s
        )

    MOST = 20
    DAEMONS = {
        "absent": command("no-such-program"),
        "exits": command("{python}", "-c", "import sys; print('no token'); sys.exit(4)",
                         start_timeout_s=MOST),
        "mute": command("sh", "-c", "exec sleep 60", "{port}"),
        "refuses": Running.at("ws://127.0.0.1:1"),
        "taken_first": command("{python}", "picky.py", start_timeout_s=MOST),
        "good": Reference(),
        "no_daemon": "ws://127.0.0.1:1",
    }
"""


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One suite with every kind of daemon that is no good, and a good one between them."""
    files = {
        "picky.py": """
    # The first port that it is given is somebody else's.
    import pathlib, runpy, sys
    if not pathlib.Path("tried").exists():
        pathlib.Path("tried").touch()
        sys.exit("OSError: [Errno 98] Address already in use")
    runpy.run_path("echo.py", run_name="__main__")
    """,
        "echo.py": """
    import asyncio, sys
    from websockets.asyncio.server import serve
    async def echo(connection):
        async for message in connection:
            await connection.send(message)
    async def main():
        async with serve(echo, "127.0.0.1", int(sys.argv[1])):
            await asyncio.Future()
    asyncio.run(main())
    """,
        "conftest.py": _BAD
        + """
    @pytest.fixture
    def harness_daemon(request):
        return DAEMONS[request.param]
    """,
        "test_it.py": """
    import pytest

    def of(kind):
        return pytest.mark.parametrize("harness_daemon", [kind], indirect=True, ids=[kind])

    def a_test(kind, level):
        @of(kind)
        @pytest.mark.harness_isolation(level)
        def test(harness_environment):
            pass
        return test

    for level in ("proxy", "daemon", "environment"):
        for kind in ("absent", "exits", "mute", "taken_first"):
            name = f"test_{kind}_{level}"
            globals()[name] = a_test(kind, level)
            globals()[name].__name__ = name
            globals()[f"test_good_after_{kind}_{level}"] = a_test("good", "proxy")
            if kind == "taken_first":
                globals()[f"test_again_{level}"] = a_test("taken_first", level)
    test_refuses = a_test("refuses", "proxy")
    test_no_daemon = a_test("no_daemon", "proxy")

    @of("no_daemon")
    def test_no_daemon_unmarked(harness_environment):
        pass
    """,
    }
    return carried_out(tmp_path_factory.mktemp("bad"), files)


@pytest.mark.parametrize("level", ["proxy", "daemon", "environment"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("absent", "the daemon's command cannot be started: No such file or directory"),
        ("exits", "the daemon exited with 4 before it was ready"),
        ("mute", 'daemon "command" was not ready within 0.3 s'),
    ],
)
def test_a_bad_daemon_is_told_of_shortly(bad: Outcome, level: str, kind: str, said: str) -> None:
    """What was expected and found, what to do next, and no line of our files."""
    name = f"test_{kind}_{level}[{kind}]"
    assert bad.ends()[name] == ["error"]
    told = bad.complaint(name)
    assert said in told
    assert "next" in told
    assert not traced(told)
    assert len(told.splitlines()) < 40


def test_the_last_words_of_a_daemon_that_exits_are_told(bad: Outcome) -> None:
    """Its log's tail stands in the error."""
    assert "no token" in bad.complaint("test_exits_proxy[exits]")


def test_a_daemon_whose_port_was_taken_gets_another(bad: Outcome) -> None:
    """It is no failure."""
    assert bad.ends()["test_taken_first_proxy[taken_first]"] == ["passed"]


def test_an_attached_address_that_refuses(bad: Outcome) -> None:
    """It is told, as shortly."""
    told = bad.complaint("test_refuses[refuses]")
    assert "no session: nobody listens there" in told
    assert "ws://127.0.0.1:1/" in told
    assert not traced(told)


@pytest.mark.parametrize("test", ["test_no_daemon", "test_no_daemon_unmarked"])
def test_a_fixture_that_gives_no_daemon(bad: Outcome, test: str) -> None:
    """The error names the fixture and what it gave."""
    told = bad.complaint(f"{test}[no_daemon]")
    assert "the fixture harness_daemon gives 'ws://127.0.0.1:1'" in told
    assert not traced(told)


def test_the_session_goes_on(bad: Outcome) -> None:
    """After each of them the next test has a good daemon."""
    good = {name: end for name, end in bad.ends().items() if name.startswith("test_good")}

    assert len(good) == 12
    assert set(map(tuple, good.values())) == {("passed",)}


def test_a_proxy_server_that_does_not_come_up_is_not_used_again(tmp_path: Path) -> None:
    """Its test is told how it ended; the next one gets a new one."""
    files = {
        "test_it.py": """
    import sys
    import pytest
    from harness.environment import local

    @pytest.fixture
    def broken(monkeypatch):
        exits = [sys.executable, "-c", "import sys; sys.exit('no room')"]
        monkeypatch.setattr(local, "PROXY_COMMAND", exits)

    @pytest.mark.parametrize("level", ["proxy", "daemon"])
    class TestIt:
        @pytest.fixture
        def harness_isolation(self, level):
            return level

        def test_1(self, broken, harness_environment):
            pass

        def test_2(self, harness_environment):
            pass
    """
    }
    outcome = carried_out(tmp_path, files)

    ends = outcome.ends()
    assert ends["test_1[proxy]"] == ["error"]
    assert ends["test_2[proxy]"] == ends["test_2[daemon]"] == ["passed"]
    told = outcome.complaint("test_1[proxy]")
    assert "the proxy exited with 1 before it was ready" in told
    assert "no room" in told
    assert not traced(told)


def test_a_daemon_that_dies_between_tests_is_replaced(tmp_path: Path) -> None:
    """Nobody is blamed for it."""
    files = {
        "conftest.py": """
    import os
    import signal
    import pytest

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(item):
        result = yield
        if (pid := getattr(item, "daemon", None)) is not None:
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return result
    """,
        "test_it.py": """
    async def test_1(harness_environment, request):
        request.node.daemon = harness_environment.stack.site.program.pid

    async def test_2(harness_environment, tell):
        async with harness_environment.client() as client:
            await client.call("echo", {"text": "hi"})
    """,
    }
    outcome = carried_out(tmp_path, files)

    assert outcome.ends() == {"test_1": ["passed"], "test_2": ["passed"]}


def test_no_traceback_where_there_is_no_room_for_runs(tmp_path: Path) -> None:
    """A folder that cannot be made is an error like any other."""
    files = {"test_it.py": "def test_it(harness_environment): pass"}
    outcome = carried_out(tmp_path, files, "--harness-runs-dir", "pytest.ini/runs")

    told = outcome.complaint("test_it")
    assert "no run directory could be made" in told
    assert not traced(told)
    assert "INTERNALERROR" not in outcome.text


def test_an_attached_proxy_server_that_refuses(tmp_path: Path) -> None:
    """It is told by its address; each test tries anew."""
    files = {"test_it.py": "def test_a(harness_environment): pass\ntest_b = test_a"}
    free = Reservation("127.0.0.1")
    try:
        url = f"http://{free.address}"
        outcome = carried_out(tmp_path, files, "--harness-proxy", url)
    finally:
        free.close()

    for name in ("test_a", "test_b"):
        told = outcome.complaint(name)
        assert f"no Toxiproxy answers at {url}" in told
        assert not traced(told)
