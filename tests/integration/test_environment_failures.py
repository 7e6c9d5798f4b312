"""Daemons that do not come up: each a clear error, and nothing left."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from harness.daemons.base import Daemon
from harness.daemons.reference import Reference
from harness.environment.household import Household
from harness.environment.local import LocalStack
from harness.environment.reaper import carriers
from harness.errors import (
    ConnectFailed,
    EnvironmentFailed,
    HarnessError,
    ProgramExited,
    StartTimeout,
)
from tests.integration.stacks import FORKING, Place, Scripted


async def refused(daemon: Daemon, directory: Path, error: type[HarnessError]) -> str:
    """The text of the error that starting this daemon ends with."""
    stack = LocalStack(daemon, directory=directory)
    with pytest.raises(error) as caught:
        async with stack:
            pass
    assert carriers(stack.run_id) == []
    return str(caught.value)


async def test_a_daemon_that_exits_at_once(tmp_path: Path) -> None:
    """The error has how it ended, its command and the tail of its log."""
    text = await refused(Scripted(script="echo no such luck; exit 3"), tmp_path, ProgramExited)

    assert "the daemon exited with 3 before it was ready" in text
    assert "no such luck" in text
    assert f"{tmp_path}/daemon.log" in text


async def test_logs_that_cannot_be_read_keep_nothing_from_being_put_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For want of descriptors, for instance; the reason why it did not start stays the first."""

    def logs(_: Household) -> dict[str, str]:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(Household, "logs", logs)
    stack = LocalStack(Scripted(script="exit 3"))
    with pytest.raises(ProgramExited, match="exited with 3"):
        async with stack:
            pass

    assert carriers(stack.run_id) == []
    assert not stack.household.directory.exists()


async def test_a_daemon_that_never_answers_hello(tmp_path: Path) -> None:
    """A port that accepts is not ready; the error says what the last try met."""
    listen = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(99)"
    daemon = Scripted(script=f'{{python}} -c "{listen}"', start_timeout_s=0.6)

    text = await refused(daemon, tmp_path, StartTimeout)

    assert 'daemon "scripted" was not ready within 0.6 s' in text
    assert "last try" in text


ANSWERS = """
import asyncio, http, sys
from websockets.asyncio.server import serve

async def talk(connection):
    async for _ in connection:
        await connection.send('{"nice": "to meet you"}')

def look(connection, request):
    if request.path != sys.argv[2]:
        return connection.respond(http.HTTPStatus.NOT_FOUND, "no")

async def main():
    async with serve(talk, "127.0.0.1", int(sys.argv[1]), process_request=look):
        await asyncio.Future()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/", 'does it speak the dialect "exai"? "plain" is any WebSocket'),
        ("/ws", "check the path, the headers, the subprotocols and the token"),
    ],
)
async def test_a_daemon_that_means_something_else(tmp_path: Path, path: str, advice: str) -> None:
    """Another language, another path: what to look at is told before all else."""
    (tmp_path / "server.py").write_text(ANSWERS)
    script = f"{{python}} {tmp_path}/server.py {{port}} {path}"
    daemon = Scripted(script=script, start_timeout_s=5)

    text = await refused(daemon, tmp_path, StartTimeout)

    assert f"next      {advice}" in text


async def test_a_daemon_that_listens_nowhere(tmp_path: Path) -> None:
    """A program that runs and does not listen is told apart from one that ended."""
    daemon = Scripted(script="exec sleep 99", start_timeout_s=0.3)

    text = await refused(daemon, tmp_path, StartTimeout)

    assert "nobody listens there" in text
    assert "runs)" in text


async def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    """The command is named."""

    class Absent(Scripted):
        def command(self, *, host: str, port: int, effects: str) -> list[str]:
            return ["/nowhere/daemon"]

    text = await refused(Absent(script=""), tmp_path, EnvironmentFailed)

    assert "/nowhere/daemon" in text


async def test_a_wrong_token(tmp_path: Path) -> None:
    """A daemon that wants another token is not waited for, and no token is shown."""
    daemon = Scripted(
        script="EXAI_WS_TOKEN=right-4711 exec {reference}", token="wrong-0815", start_timeout_s=30
    )

    text = await refused(daemon, tmp_path, ConnectFailed)

    assert "refused the token" in text
    assert "right-4711" not in text.replace(daemon.script, "")
    assert "wrong-0815" not in text


async def test_a_token_of_the_callers_shell_is_not_the_daemons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that is given no token asks for none."""
    monkeypatch.setenv("EXAI_WS_TOKEN", "somebody-elses")

    async with Place(tmp_path) as here, here.client() as client:
        assert (await client.call("echo", {"text": "hi"})).text == "hi"


async def test_a_token_stands_nowhere(tmp_path: Path) -> None:
    """Not in a file of the run, not on a command line of any process."""
    token = "sesame-26112022"
    async with Place(tmp_path, Reference(token=token)) as here:
        async with here.client() as client:
            await client.call("echo", {"text": token})
        pids = carriers(here.stack.run_id)
        shown = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]

    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(b"echo" in data for data in files.values())
    assert [path for path, data in files.items() if token.encode() in data] == []
    assert len(shown) == 2
    assert all(token.encode() not in line for line in shown)


async def test_a_chatty_daemon_does_not_betray_its_token(tmp_path: Path) -> None:
    """What a daemon itself prints of its token is struck out of the log that is kept."""
    daemon = Scripted(script="echo token is $EXAI_WS_TOKEN; exec {reference}", token="sesame-99")

    async with Place(tmp_path, daemon):
        pass

    assert "token is ***" in (tmp_path / "daemon.log").read_text()


async def test_a_proxy_that_does_not_come_up(tmp_path: Path) -> None:
    """The proxy's own words are in the error."""
    stack = LocalStack(
        Reference(), directory=tmp_path, proxy_command=("sh", "-c", "echo no proxy today; exit 9")
    )
    with pytest.raises(ProgramExited, match="the proxy exited with 9") as caught:
        async with stack:
            pass

    assert "no proxy today" in str(caught.value)
    assert carriers(stack.run_id) == []


async def test_a_daemon_that_cannot_share_a_kept_port_gets_another(tmp_path: Path) -> None:
    """A listener without SO_REUSEADDR is started again on a port that is not kept."""
    # Binds without the option first; where that fails it says so as daemons do, and ends.
    bind = "import socket; s = socket.socket(); s.bind(('127.0.0.1', {port})); s.close()"
    daemon = Scripted(script=f'{{python}} -c "{bind}" && exec {{reference}}')

    async with Place(tmp_path, daemon) as here, here.client() as client:
        assert (await client.call("echo", {"text": "hi"})).text == "hi"

    assert "Address already in use" in (tmp_path / "daemon.log").read_text()


async def test_a_forking_daemon_is_ended_whole(tmp_path: Path) -> None:
    """A grandchild in a session of its own ends with the environment."""
    async with Place(tmp_path, Scripted(script=FORKING)) as here:
        run_id = here.stack.run_id
        commands = [Path(f"/proc/{p}/cmdline").read_bytes() for p in carriers(run_id, "daemon")]
        assert any(b"sleep" in command for command in commands)

    assert carriers(run_id) == []


async def test_a_daemon_that_goes_into_the_background(tmp_path: Path) -> None:
    """Its first process ends, a child of it serves: that is a daemon that runs."""
    async with Place(tmp_path, Scripted(script="{reference} &")) as here:
        async with here.client() as client:
            assert (await client.call("echo", {"text": "hi"})).text == "hi"
        run_id = here.stack.run_id

    assert carriers(run_id) == []


async def test_a_daemon_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """Closing is bounded."""
    daemon = Scripted(script="trap '' TERM; {reference} & while true; do wait; sleep 1; done")

    async with Place(tmp_path, daemon) as here:
        run_id = here.stack.run_id

    assert carriers(run_id) == []


async def test_nothing_is_left_without_a_directory() -> None:
    """An environment that keeps nothing leaves no port, process or folder."""
    async with LocalStack(Reference()) as stack:
        directory, port = stack.household.directory, stack.site.address.port
        assert directory.is_dir()

    assert not directory.exists()
    assert carriers(stack.run_id) == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
