"""`harness up` as a person uses it: what it prints works, and whatever ends it leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.environment.backends import engine
from harness.environment.local import PROXY_COMMAND
from harness.environment.reaper import carriers
from tests.backends import in_containers
from tests.integration.foreign import KINDS, Foreign, foreign_server
from tests.integration.ports import spare_ports
from tests.integration.proxy_process import BOUND_S, listening_line
from tests.integration.refdaemon_process import started
from tests.integration.up_process import Up

PLAIN = """
[tool.harness.daemon]
command = "{python} server.py {port}"
dialect = "plain"
"""

SERVER = """
import asyncio, sys
from websockets.asyncio.server import serve

async def shout(connection):
    async for message in connection:
        await connection.send(message.upper())

async def main(port):
    async with serve(shout, "127.0.0.1", port) as server:
        await server.serve_forever()

asyncio.run(main(int(sys.argv[1])))
"""


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts one; killed at the end if it still runs."""
    with ExitStack() as stack:

        def start(*arguments: str, **variables: str) -> Up:
            made = Up(tmp_path, *arguments, **variables)
            stack.callback(made.process.wait)
            stack.callback(made.process.kill)
            return made

        yield start


@pytest.fixture(params=KINDS)
def foreign(request: pytest.FixtureRequest) -> Iterator[Foreign]:
    """Somebody else's Toxiproxy, each kind."""
    with foreign_server(request.param) as server:
        yield server


BEHIND = """
[tool.harness.daemon]
command = "{python} server.py {port} {provider}"
dialect = "plain"

[tool.harness.daemon.provider]
command = "{python} -P -m harness.refdaemon.provider --port {port}"
"""


def test_what_stands_behind_a_daemon_is_told(up: Callable[..., Up], tmp_path: Path) -> None:
    """Its address, and the proxy before it, which is not the one that the commands harm."""
    (tmp_path / "pyproject.toml").write_text(BEHIND)
    (tmp_path / "server.py").write_text(SERVER)

    here = up().ready()

    [line] = [line for line in here.said.splitlines() if line.startswith("  its provider ")]
    assert line.endswith("started here; before it the proxy provider")
    url = line.split()[2]
    with urllib.request.urlopen(f"{url}/health", timeout=BOUND_S) as answer:
        assert answer.status == 200
    assert here.paste("late replies").startswith("edge ")


def test_the_commands_it_prints_work(up: Callable[..., Up]) -> None:
    """Pasted one after the other: a late call after each that makes calls late, none between."""
    here = up("--daemon", "reference", "--seed", "7").ready()

    assert here.said.startswith("harness up   seed 7   runs/up/")
    here.until(lambda: here.call_ms() < 200, "a call in time")
    assert "latency_downstream" in here.paste("late replies")
    assert here.call_ms() >= 200
    assert "latency_ms=200" in here.paste("what is on")
    assert here.paste("take it off").endswith("  no toxics\n")
    here.until(lambda: here.call_ms() < 200, "a call in time")
    assert "bandwidth" in here.paste("more")
    here.until(lambda: "delayed" in here.paste("what happened"), "the proxy's events")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_the_curl_command_it_prints_works(up: Callable[..., Up]) -> None:
    """Without any client of ours."""
    here = up().ready()

    here.paste("late by curl")

    assert here.call_ms() >= 200


def test_the_lines_of_python_it_prints_work(up: Callable[..., Up]) -> None:
    """With toxiproxy-python, which knows nothing of us."""
    here = up().ready()

    subprocess.run([sys.executable, "-c", here.row("by Python")], timeout=BOUND_S, check=True)

    assert here.call_ms() >= 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_asked_to_end_it_leaves_nothing(up: Callable[..., Up], number: signal.Signals) -> None:
    """Exit 0, a sentence, no process, port or temporary file; the record stays."""
    here = up().ready()
    assert len(here.left()) > 0

    code = here.end(number)

    assert (code, here.complaints) == (0, "")
    assert here.said.endswith("\nput away: nothing of ours is left\n")
    assert here.left() == []
    names = {path.name for path in (here.folder / "runs/latest/").iterdir()}
    assert {"environment.json", "history.jsonl", "daemon.log", "proxy.log"} <= names


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_asked_to_end_while_it_starts(
    up: Callable[..., Up], number: signal.Signals, tmp_path: Path
) -> None:
    """While a daemon takes its time: it is ended, and nothing is made on a foreign server."""
    slow = """[daemon]\ncommand = ["sh", "-c", "echo $$ > pid; exec sleep 600; {port}"]\n"""
    (tmp_path / "slow.toml").write_text(slow)
    pid = tmp_path / "pid"
    with foreign_server("ours") as foreign:
        before = foreign.state()
        here = up("--daemon", "slow.toml", "--proxy", foreign.url)
        here.until(lambda: pid.exists() and pid.read_text().endswith("\n"), "the daemon")

        code = here.end(number)

        assert (code, here.complaints) == (0, "")
        assert foreign.state() == before
    assert not Path("/proc", pid.read_text().strip()).exists()


@pytest.mark.parametrize("who", ["daemon", "proxy"])
def test_what_dies_by_itself_ends_it(up: Callable[..., Up], who: str) -> None:
    """Exit 3, how it ended, what it wrote last, and the rest is put away."""
    here = up().ready()
    (pid,) = carriers(here.run_id, who)
    os.kill(pid, signal.SIGKILL)

    assert here.process.wait(BOUND_S) == 3
    assert f"harness up: ProgramExited: the {who} killed by SIGKILL, unasked" in here.complaints
    assert "listening" in here.complaints.partition("log tail")[2]
    assert here.left() == []


def test_a_daemon_that_does_not_come_up(up: Callable[..., Up], tmp_path: Path) -> None:
    """Exit 3 and its last words."""
    table = """[daemon]\ncommand = ["sh", "-c", "echo no luck; exit 4; {port}"]\n"""
    (tmp_path / "broken.toml").write_text(table)

    here = up("--daemon", "broken.toml")

    assert here.process.wait(BOUND_S) == 3
    assert "ProgramExited: the daemon exited with 4 before it was ready" in here.complaints
    assert "no luck" in here.complaints


@pytest.mark.parametrize("option", ["--port", "--api-port"])
def test_a_port_that_is_taken(up: Callable[..., Up], option: str, tmp_path: Path) -> None:
    """The error says which option it was; nothing was started, no run was made."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        here = up(option, port)

        assert here.process.wait(BOUND_S) == 3
    assert f"EnvironmentFailed: {option} {port} cannot be had: address already in use" in (
        here.complaints
    )
    assert not (tmp_path / "runs").exists()


def test_ports_of_ones_own(up: Callable[..., Up]) -> None:
    """Addresses that stay the same from one time to the next."""
    ports = spare_ports(2)

    here = up("--port", str(ports[0]), "--api-port", str(ports[1])).ready()

    assert here.url("your clients") == f"ws://127.0.0.1:{ports[0]}/"
    assert here.url("the proxy") == f"http://127.0.0.1:{ports[1]}"


async def test_a_daemon_that_runs_already(up: Callable[..., Up], tmp_path: Path) -> None:
    """It is called through our proxy, and runs on."""
    async with started(tmp_path, token=None) as daemon:
        here = up("--daemon", daemon.url).ready()

        assert "running, somebody else's, left as it is" in here.row("the daemon")
        here.paste("late replies")
        assert here.call_ms() >= 200
        assert here.end(signal.SIGINT) == 0
        assert here.left() == ["the daemon"]
        assert daemon.process.returncode is None


def test_before_a_toxiproxy_that_runs_already(up: Callable[..., Up], foreign: Foreign) -> None:
    """Its commands name our proxy there; others' are not touched, ours is gone at the end."""
    before = foreign.state()
    here = up("--proxy", foreign.url).ready()
    assert "somebody else's; ours there is edge-" in here.row("the proxy")
    assert ("what happened" in here.said) == foreign.tells

    here.paste("late replies")
    assert here.call_ms() >= 200
    assert "latency_downstream" in here.paste("what is on")
    here.paste("take it off")
    here.until(lambda: here.call_ms() < 200, "a call in time")

    assert (here.end(signal.SIGINT), here.complaints) == (0, "")
    assert here.left() == ["the proxy"]
    assert foreign.state() == before


def test_what_a_real_toxiproxy_lacks_is_told(up: Callable[..., Up]) -> None:
    """Before anybody wonders why nothing is seen."""
    with foreign_server("real") as foreign:
        said = up("--proxy", foreign.url).ready().said

    assert "without         events: a real Toxiproxy tells nothing of its connections" in said
    assert "without         seed: a real Toxiproxy cannot be seeded" in said
    assert "without         live_rst: a reset of a live connection arrived as FIN" in said


def test_a_foreign_server_that_ends_meanwhile(up: Callable[..., Up]) -> None:
    """Nobody can say that our proxy is gone: exit 3, and the daemon is put away."""
    server = subprocess.Popen([*PROXY_COMMAND, "--port", "0"], stdout=subprocess.PIPE, text=True)
    with server:
        url = listening_line(server)
        here = up("--proxy", url).ready()
        server.kill()

    assert here.process.wait(BOUND_S) == 3
    assert url in here.complaints
    assert here.left() == []


def test_the_daemon_of_the_folder_is_taken(up: Callable[..., Up], tmp_path: Path) -> None:
    """[tool.harness.daemon] of its pyproject.toml, in the language it says."""
    (tmp_path / "pyproject.toml").write_text(PLAIN)
    (tmp_path / "server.py").write_text(SERVER)

    here = up().ready()

    assert here.row("the daemon").endswith("command, started here")
    assert here.paste("call it").startswith("HI\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--daemon", "referense"], 'did you mean "reference"?'),
        (["--daemon", "ws://192.0.2.1:8079"], "--allow-remote"),
        (["--proxy", "embeded"], '"embeded" is not an address; expected http://host:port'),
        (["--proxy", "http://192.0.2.1:8474"], "proxy server 192.0.2.1:8474 is not a loopback"),
        (["--proxy", "http://127.0.0.1:1", "--api-port", "1"], "leave one of --proxy and --api-"),
        (["--port", "x"], '"x" is not a port'),
    ],
)
def test_a_mistake_in_the_command_line(
    up: Callable[..., Up], arguments: list[str], complaint: str, tmp_path: Path
) -> None:
    """Exit 64, what was found and what to do; no run is made."""
    here = up(*arguments)

    assert here.process.wait(BOUND_S) == 64
    assert complaint in here.complaints
    assert here.said == ""
    assert not (tmp_path / "runs").exists()


def test_a_mistake_in_the_folders_table(up: Callable[..., Up], tmp_path: Path) -> None:
    """Exit 64, the file and the key; no run is made."""
    (tmp_path / "pyproject.toml").write_text('[tool.harness.daemon]\ncomand = "x {port}"\n')

    here = up()

    assert here.process.wait(BOUND_S) == 64
    assert "pyproject.toml" in here.complaints
    assert 'did you mean "command"?' in here.complaints
    assert not (tmp_path / "runs").exists()


async def test_a_daemon_elsewhere_wants_leave(up: Callable[..., Up], tmp_path: Path) -> None:
    """The refusal names the option, and the option is there."""
    async with started(tmp_path, token=None) as daemon:
        # Leads here on Linux, and is no loopback address.
        elsewhere = f"ws://0.0.0.0:{daemon.port}"
        refused = up("--daemon", elsewhere)
        assert refused.process.wait(BOUND_S) == 64
        assert "--allow-remote" in refused.complaints
        refused.temporary.rmdir()

        here = up("--daemon", elsewhere, "--allow-remote").ready()

        assert here.call_ms() > 0


def test_a_token_is_shown_nowhere(up: Callable[..., Up], tmp_path: Path) -> None:
    """Not on the terminal, in a file, or in the list of processes."""
    token = "sesame-26112022"
    (tmp_path / "secret.toml").write_text(
        "[daemon]\n"
        'command = "{python} -m harness.refdaemon --port {port} --effects {effects}"\n'
        'token_from = "MY_TOKEN"\ntoken_variable = "EXAI_WS_TOKEN"\n'
    )
    here = up("--daemon", "secret.toml", MY_TOKEN=token).ready()
    pids = [here.process.pid, *carriers(here.run_id)]
    shown = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]

    assert here.end(signal.SIGINT) == 0
    assert here.row("call it").endswith("(the daemon's token in EXAI_WS_TOKEN)")
    assert len(shown) == 3
    assert all(token.encode() not in line for line in shown)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if token.encode() in path.read_bytes()] == []


def test_a_reader_that_leaves_ends_it(tmp_path: Path) -> None:
    """`harness up | head -1`: 141 as of any command, and nothing is left."""
    with subprocess.Popen(
        [sys.executable, "-m", "harness", "up"], cwd=tmp_path, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        code = process.wait(BOUND_S)

    run_id = json.loads((tmp_path / "runs/latest/environment.json").read_text())["run_id"]
    assert code == 141
    assert carriers(run_id) == []


@in_containers
@pytest.mark.parametrize("proxy", ["embedded", "toxiproxy"])
def test_a_stack_in_containers(up: Callable[..., Up], proxy: str) -> None:
    """The same words, the same commands; nothing of it is left when it is asked to end."""
    here = up("--backend", "docker", "--proxy", proxy, "--seed", "7").ready()

    assert f"{proxy}, started here" in here.row("the proxy")
    here.until(lambda: here.call_ms() < 200, "a call in time")
    assert "latency_downstream" in here.paste("late replies")
    assert here.call_ms() >= 200
    here.until(lambda: "closed" in here.paste("what happened"), "its record")
    run_id = here.run_id
    assert engine().left.remains(run_id) != []
    assert here.end(signal.SIGINT) == 0
    assert engine().left.remains(run_id) == []
    assert list(here.temporary.iterdir()) == []
