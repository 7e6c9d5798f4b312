"""The command as a person types it: what it prints, how it ends, what it says of mistakes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli
from harness.daemons.reference import Reference
from harness.daemons.running import Running
from harness.environment.reaper import carriers
from harness.run.record import HistoryWriter
from tests.integration.daemons import end_with_rst
from tests.integration.keeping import Keeper, keeping
from tests.integration.stacks import Place

BOUND_S = 30
NOWHERE = ("--url", "ws://127.0.0.1:1")


def harness(
    *arguments: str, cwd: Path, token: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "EXAI_WS_TOKEN"}
    # The width that is read off it must not be that of whoever runs the tests.
    environment["COLUMNS"] = "140"
    if token is not None:
        environment["EXAI_WS_TOKEN"] = token
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


def command(
    *arguments: str, cwd: Path, unbuffered: str = "", **streams: int
) -> subprocess.Popen[str]:
    """The command with streams of one's own; the rest are pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},  # type: ignore[call-overload]
    )


def unread(*arguments: str, cwd: Path, unbuffered: str = "") -> tuple[int, str]:
    """How the command ends, and what it complains of, where nobody reads its output."""
    nobody, output = os.pipe()
    os.close(nobody)
    with command(*arguments, cwd=cwd, unbuffered=unbuffered, stdout=output) as process:
        os.close(output)
        return process.wait(BOUND_S), process.stderr.read() if process.stderr else ""


def kept(runs: Path, name: str = "demo/20261122-191500") -> Path:
    """A run that was: one call."""
    path = runs / name
    path.mkdir(parents=True)
    with HistoryWriter(path / "history.jsonl") as history:
        history.record(process="client", type="invoke", f="call", key=name)
    return path


async def called(here: Place, *arguments: str, token: str | None = None):
    """`harness call` beside a running environment."""
    return await asyncio.to_thread(harness, "call", *arguments, cwd=here.directory, token=token)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--colour"], "required: COMMAND"),
        (["demo", "--colour"], "harness demo: unrecognized arguments: --colour"),
        (["demo", "--runs", ""], '"" is not allowed; expected the path of a folder'),
        (["show", "--runs", ""], '"" is not allowed; expected the path of a folder'),
        (["show"], "harness show: InvalidValue: runs/latest: no run there"),
        (["show", "demo"], "`harness demo` makes one"),
        (["toxic"], "required: ACTION"),
        (["toxic", "add", "latncy"], 'harness toxic: InvalidValue: "latncy" cannot be put on'),
        (["toxic", "list", "--api", "http://192.0.2.1:1"], "not a loopback address"),
        (["proxy", "--port", "99999"], '"99999" is not a port; expected 0 to 65535'),
        (["proxy", "--seed", "x"], "invalid int value: 'x'"),
        (["fly"], "invalid choice: 'fly'"),
        (
            ["call", "ws://127.0.0.1:1", "echo", "{}"],
            "is an address; expected --url ws://127.0.0.1:1",
        ),
        (
            ["call", *NOWHERE, "echo", "--call-timeout", "0"],
            "expected a number above 0",
        ),
        (
            ["call", "--url", "http://127.0.0.1:1", "echo"],
            "expected ws://host:port or wss://host:port",
        ),
        (["call", "--url", "ws://127.0.0.1:99999", "echo"], "not an address"),
        (
            ["call", *NOWHERE, "echo", "[1]"],
            "harness call: InvalidValue: the tool's arg",
        ),
        (["call", "--url", "ws://192.0.2.1:8079", "echo"], "not a loopback address"),
        (["proxy", "--host", "192.0.2.1"], "not a loopback address"),
    ],
)
def test_a_usage_error_ends_with_64(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    """What was found, what was expected, and never argparse's 2."""
    done = harness(*arguments, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (64, "")
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_remote_target_names_the_way_out(tmp_path: Path) -> None:
    """The refusal says which option lifts it."""
    assert (
        "--allow-remote"
        in harness("call", "--url", "ws://192.0.2.1:1", "echo", cwd=tmp_path).stderr
    )


def test_calling_where_nobody_listens(tmp_path: Path) -> None:
    """A wrong port: the call certainly did not happen, exit 1."""
    done = harness("call", "--url", "ws://127.0.0.1:9", "echo", cwd=tmp_path)

    assert done.returncode == 1
    assert "nobody listens there" in done.stderr
    assert "ws://127.0.0.1:9" in done.stderr


async def test_a_call_by_hand(tmp_path: Path) -> None:
    """The tool's text on stdout, how long it took on stderr."""
    async with Place(tmp_path) as here:
        done = await called(here, "--url", here.url, "echo", '{"text": "hi"}')

    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert "answered after" in done.stderr


async def test_many_calls_by_hand_end_with_figures(tmp_path: Path) -> None:
    """Each call is in them; single replies are not printed."""
    async with Place(tmp_path) as here:
        done = await called(here, "echo", '{"text": "hi"}', "--url", here.url, "--count", "20")

    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert (rows["calls"], rows["ok"], rows["failed"], rows["unknown"]) == (
        ["20"],
        ["20"],
        ["0"],
        ["0"],
    )
    names = ["mean", "median", "min", "max", "stdev", "p50", "p95", "p99"]
    assert all(float(rows[name][0]) > 0 and rows[name][1] == "ms" for name in names)
    assert float(rows["cv"][0]) > 0
    assert len(here.effects()) == 20


async def test_many_calls_where_some_may_have_happened(tmp_path: Path) -> None:
    """The worst end is the exit code."""
    async with Place(tmp_path) as here:
        slow = ("sleep", '{"ms": 5000}', "--call-timeout", "50", "--count", "2")
        done = await called(here, "--url", here.url, *slow)

    assert done.returncode == 2
    assert "unknown                2" in done.stdout


def test_many_calls_to_nobody_are_told_of_once(tmp_path: Path) -> None:
    """One error in full, the number of those like it, and the figures of all."""
    done = harness("call", *NOWHERE, "echo", "--count", "5", "--attempts", "1", cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr.count("nobody listens there") == 1
    assert "harness call: 4 more ended so: connection_refused" in done.stderr
    assert "failed                 5" in done.stdout


async def test_many_calls_that_are_interrupted_end_with_figures(tmp_path: Path) -> None:
    """Ctrl-C: those so far."""
    async with Place(tmp_path) as here:
        hi = ("echo", '{"text": "hi"}', "--url", here.url, "--count", "1000000")
        with command("call", *hi, cwd=tmp_path) as process:
            assert process.stderr is not None
            line = await asyncio.to_thread(process.stderr.readline)
            process.send_signal(signal.SIGINT)
            output, _ = await asyncio.to_thread(process.communicate, timeout=BOUND_S)

    assert "of 1000000 calls" in line
    assert process.returncode == 130
    assert int(output.split("ok")[1].split()[0].replace(",", "")) > 0


async def test_a_call_that_may_run_twice(tmp_path: Path) -> None:
    """
    It is tried as often as it was said, under one key, though nobody knows how it went and the
    daemon promised nothing.
    """
    keeper = Keeper()
    keeper.before_answer = end_with_rst
    async with keeping(keeper) as url, Place(tmp_path, Running.at(url)) as here:
        once = ("echo", '{"text": "hi"}', "--key", "nap")
        done = await called(here, "--url", here.url, *once, "--may-run-twice", "--attempts", "2")

    assert done.returncode == 2
    assert [key for _, key in keeper.ran.elements()] == ["nap", "nap"]


async def test_a_call_that_the_daemon_runs_once(tmp_path: Path) -> None:
    """It promised to: the second attempt gets what the first one came to."""
    async with Place(tmp_path) as here:
        slow = ("sleep", '{"ms": 600}', "--call-timeout", "400", "--key", "nap")
        done = await called(here, "--url", here.url, *slow, "--attempts", "3")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "slept 600 ms\n"
    assert [effect.key for effect in here.effects()] == ["nap"]


async def test_a_call_that_is_refused(tmp_path: Path) -> None:
    """An unknown tool did not run: exit 1 and the daemon's words."""
    async with Place(tmp_path) as here:
        done = await called(here, "--url", here.url, "fly")

    assert done.returncode == 1
    assert "fly" in done.stderr


async def test_a_call_that_may_have_happened(tmp_path: Path) -> None:
    """A time limit proves nothing: exit 2."""
    async with Place(tmp_path) as here:
        done = await called(
            here, "--url", here.url, "sleep", '{"ms": 5000}', "--call-timeout", "50"
        )

    assert done.returncode == 2
    assert "CallUnknown" in done.stderr


async def test_a_wrong_token_by_hand(tmp_path: Path) -> None:
    """The token is not shown, the variable is named."""
    async with Place(tmp_path, Reference(token="right-4711")) as here:
        done = await called(here, "--url", here.url, "echo", '{"text": "hi"}', token="wrong-0815")
        good = await called(here, "--url", here.url, "echo", '{"text": "hi"}', token="right-4711")

    assert done.returncode == 1
    assert "EXAI_WS_TOKEN" in done.stderr
    assert "wrong-0815" not in done.stderr
    assert good.returncode == 0


def test_show_finds_a_run_by_its_name(tmp_path: Path) -> None:
    """The newest of that name in ./runs, or in the folder that was given."""
    kept(tmp_path / "runs")
    kept(tmp_path / "mine", "demo/20261122-191501")

    assert "key=demo/20261122-191500" in harness("show", "demo", cwd=tmp_path).stdout
    assert "key=demo/20261122-191501" in harness("show", "--runs=mine", "demo", cwd=tmp_path).stdout


def test_show_without_that_run_names_those_there_are(tmp_path: Path) -> None:
    """A slip of the pen: exit 64, and what to choose from."""
    kept(tmp_path / "runs")

    done = harness("show", "demon", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (64, "")
    assert "newest  demo/20261122-191500" in done.stderr


def test_show_of_a_damaged_run_is_no_usage_error(tmp_path: Path) -> None:
    """The run is there; that it cannot be read is the machine's fault, exit 3."""
    (kept(tmp_path) / "history.jsonl").write_text("junk\n")

    done = harness("show", "demo/20261122-191500", cwd=tmp_path)

    assert done.returncode == 3
    assert "harness show: HistoryDamaged" in done.stderr


def test_a_folder_that_cannot_hold_runs_is_named(tmp_path: Path) -> None:
    """The path on which it failed, and what to do."""
    (tmp_path / "file").touch()

    done = harness("demo", "--runs", "file", cwd=tmp_path)

    assert done.returncode == 3
    assert "harness demo: EnvironmentFailed: no run directory could be made" in done.stderr
    assert "path  file/demo" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [
        (["demo"], ""),
        (["demo"], "1"),
        (["show", "demo"], ""),
        (["show", "demo"], "1"),
        # Unbuffered, argparse passes over it and ends with 0.
        (["--help"], ""),
        (["toxic", "add", "--help"], ""),
    ],
)
def test_output_that_nobody_reads_ends_the_command_quietly(
    arguments: list[str], unbuffered: str, tmp_path: Path
) -> None:
    """As a shell tells of SIGPIPE: 141. Python's own 1 would be a verdict."""
    kept(tmp_path / "runs")

    assert unread(*arguments, cwd=tmp_path, unbuffered=unbuffered) == (141, "")


async def test_a_reply_that_nobody_reads_ends_the_call_quietly(tmp_path: Path) -> None:
    """The call was made; nobody wants to know."""
    async with Place(tmp_path) as here:
        code, said = await asyncio.to_thread(
            unread, "call", "--url", here.url, "echo", '{"text": "hi"}', cwd=tmp_path
        )

    assert code == 141
    assert "Error" not in said


def test_complaints_that_nobody_reads_end_the_command_quietly(tmp_path: Path) -> None:
    """`harness show nothing 2>&1 | head -0`."""
    nobody, output = os.pipe()
    os.close(nobody)
    with command("show", "nothing", cwd=tmp_path, stdout=output, stderr=output) as process:
        os.close(output)

        assert process.wait(BOUND_S) == 141


def test_a_demo_whose_reader_leaves_puts_everything_away(tmp_path: Path) -> None:
    """`harness demo | head`: in the middle of the story, and nothing is left."""
    with command("demo", cwd=tmp_path) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        while "1 baseline" not in demo.stdout.readline():
            assert demo.poll() is None
        demo.stdout.close()
        code, said = demo.wait(BOUND_S), demo.stderr.read()

    assert (code, said) == (141, "")
    environment = json.loads((tmp_path / "runs/latest/environment.json").read_text())
    assert carriers(environment["run_id"]) == []


def test_without_an_output_a_command_ends_as_ever(tmp_path: Path) -> None:
    """`harness show >&-`: there is nothing to flush."""
    kept(tmp_path / "runs")
    line = 'exec "$0" -m harness show demo >&-'

    done = subprocess.run(
        ["sh", "-c", line, sys.executable],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        timeout=BOUND_S,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_finds_no_room_is_the_machines_fault(tmp_path: Path) -> None:
    """A full disk: exit 3, said once and not by the interpreter at its end."""
    kept(tmp_path / "runs")
    with (
        Path("/dev/full").open("w") as full,
        command("show", "demo", cwd=tmp_path, stdout=full.fileno()) as process,
    ):
        code, said = process.wait(BOUND_S), process.stderr.read() if process.stderr else ""

    assert code == 3
    assert said.count("No space left on device") == 1
    assert "ignored" not in said


def test_a_mistake_of_ours_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An exception that nobody foresaw ends with 3, and its traceback is shown."""

    def broken(*args: object, **options: object) -> str:
        raise KeyError("unforeseen")

    monkeypatch.setattr("harness.report.timeline.timeline", broken)
    monkeypatch.setattr("sys.argv", ["harness", "show", str(kept(tmp_path))])

    with pytest.raises(SystemExit) as caught:
        cli.main()

    assert caught.value.code == 3
    assert "KeyError: 'unforeseen'" in capsys.readouterr().err
