"""The reference daemon's effect log: before the answer, whole, and there after a kill."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.clock import clock_id
from harness.records import Effect, read_lines
from tests.integration.refdaemon_process import (
    TEXT,
    Serve,
    masked,
    on_both_transports,
    ran,
    started,
)

pytestmark = on_both_transports


def _call(n: int) -> bytes:
    call = {"op": "call_tool", "request_id": str(n), "name": "counter", "arguments": {"name": "n"}}
    return masked(TEXT, json.dumps(call).encode())


async def test_effect_says_who_did_what(tmp_path: Path, transport: str) -> None:
    """
    An effect names call, session, process and clock; its key is the caller's, if it gave one.
    """
    async with (
        started(tmp_path, transport=transport) as daemon,
        daemon.peer(session_id="who") as peer,
    ):
        first = await peer.call("1", "counter", name="n", by=3)
        await peer.ask(
            op="call_tool",
            request_id="2",
            key="intent",
            name="counter",
            arguments={"name": "n", "by": 3},
        )
        one, two = daemon.effects()

    assert first["received_ns"] <= one.time_ns <= first["answered_ns"]
    assert one == Effect(
        sequence=1,
        time_ns=one.time_ns,
        clock=clock_id(),
        tool="counter",
        key="1",
        request_id="1",
        session="who",
        pid=daemon.process.pid,
        digest=one.digest,
        value=3,
    )
    assert (two.sequence, two.key, two.request_id, two.value) == (2, "intent", "2", 6)
    assert two.digest == one.digest


async def test_effect_is_on_file_before_its_answer(serve: Serve) -> None:
    """
    Whenever an answer arrives, the file already holds its effect.
    """
    async with serve() as daemon, daemon.peer() as peer:
        for n in range(50):
            await peer.call(str(n), "sleep" if n % 10 == 0 else "counter", **_arguments(n))
            assert daemon.effects()[-1].request_id == str(n)


def _arguments(n: int) -> dict[str, object]:
    return {"ms": 1} if n % 10 == 0 else {"name": "n"}


async def test_sleep_has_no_effect_before_its_end(serve: Serve) -> None:
    """
    While a sleep runs, nothing of it is on file, nor after it was cancelled.
    """
    async with serve() as daemon, daemon.peer() as peer:
        first = await peer.call("1", "sleep", ms=100_000, steps=1000)
        between = daemon.effects()
        await peer.send(op="cancel", request_id="1")
        while (await peer.receive())["op"] != "cancelled":
            pass
        cancelled = daemon.effects()
        await peer.call("2", "sleep", ms=1)
        after = daemon.effects()

    assert first["op"] == "progress"
    assert (between, cancelled) == ([], [])
    assert [effect.request_id for effect in after] == ["2"]


async def test_effects_survive_sigkill(tmp_path: Path, transport: str) -> None:
    """
    Killed in the middle of a stream of calls, the daemon leaves whole lines, one for every
    answer that was received.
    """
    async with started(tmp_path, transport=transport) as daemon, daemon.raw() as peer:
        peer.writer.write(b"".join(_call(n) for n in range(5000)))
        answered = [json.loads((await peer.receive())[1])["request_id"] for _ in range(300)]
        daemon.process.kill()
        await daemon.ended()
        effects = daemon.effects()

    assert {effect.request_id for effect in effects} >= set(answered)
    assert [effect.sequence for effect in effects] == list(range(1, len(effects) + 1))


async def test_log_is_appended_to_by_the_next_daemon(tmp_path: Path, transport: str) -> None:
    """
    A daemon that is started again on the same file keeps what is there.
    """
    for _ in range(2):
        async with started(tmp_path, transport=transport) as daemon, daemon.peer() as peer:
            await peer.call("1", "echo", text="x")

    first, second = daemon.effects()
    assert (first.sequence, second.sequence) == (1, 1)
    assert first.pid != second.pid


async def test_work_of_a_lost_connection_is_finished(serve: Serve) -> None:
    """
    A call whose caller is gone runs to its end: its effect is on file, and nothing is left over.
    """
    async with serve() as daemon, daemon.peer() as other:
        async with daemon.raw() as peer:
            call = {"op": "call_tool", "request_id": "1", "name": "sleep"}
            peer.send(TEXT, json.dumps({**call, "arguments": {"ms": 1000, "steps": 5}}).encode())
            await other.health_when("running_calls", 1)
            peer.reset()
            lost = await other.health_when("connections", 1)
            await other.health_when("running_calls", 0)
        (effect,) = daemon.effects()
        log = daemon.log.read_text()

    assert lost["running_calls"] == 1
    assert effect.request_id == "1"
    assert "Traceback" not in log


async def test_effect_that_cannot_be_written(serve: Serve) -> None:
    """
    On a full disk a call gets INTERNAL_ERROR, and the daemon goes on.
    """
    async with serve("--effects", "/dev/full") as daemon, daemon.peer() as peer:
        reply = await peer.call("1", "echo", text="x")
        counters = (await peer.health())["counters"]

    assert (reply["ok"], reply["error"]["code"]) == (False, "INTERNAL_ERROR")
    assert (counters["calls_failed"], counters["calls_executed"]) == (1, 0)


async def test_torn_line_is_taken_back(tmp_path: Path, transport: str) -> None:
    """
    Where the disk ends in the middle of a line, that call fails and no piece of the line stays.
    """
    # The shell's unit is 512 or 1024 bytes; a line here has about 250.
    limited = ("sh", "-c", 'ulimit -f 2; exec "$@"', "sh")
    async with (
        started(tmp_path, transport=transport, before=limited) as daemon,
        daemon.peer() as peer,
    ):
        replies = [await peer.call(str(n), "counter", name="n") for n in range(12)]
        effects = daemon.effects()

    done = [reply["request_id"] for reply in replies if reply["ok"]]
    assert 0 < len(done) < 12
    assert [effect.request_id for effect in effects] == done
    assert {reply["error"]["code"] for reply in replies if not reply["ok"]} == {"INTERNAL_ERROR"}


async def test_log_that_cannot_be_opened(tmp_path: Path, transport: str) -> None:
    """
    The daemon does not start without the log it was asked to keep, and says what to do.
    """
    path = tmp_path / "absent" / "effects.jsonl"

    code, said = await ran("--transport", transport, "--port", "0", "--effects", str(path))

    assert code == 3
    assert str(path) in said
    assert "No such file" in said
    assert "next" in said


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
async def test_one_line_is_one_write(tmp_path: Path, transport: str) -> None:
    """
    Two daemons that share a file do not cut into each other's lines.
    """
    async with (
        started(tmp_path, transport=transport) as one,
        started(tmp_path, transport=transport) as two,
        one.raw() as left,
        two.raw() as right,
    ):
        for peer in (left, right):
            peer.writer.write(b"".join(_call(n) for n in range(1000)))
        for peer in (left, right):
            for _ in range(1000):
                await peer.receive()
        effects, tail = read_lines(one.effects_file.read_bytes(), Effect)

    assert tail == b""
    assert len(effects) == 2000
