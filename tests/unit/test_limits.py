"""What a daemon may use: the values, the table, and what is seen to be hit."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from typing import Any

import pytest

from harness.daemons.base import Limits
from harness.environment.cgroup import Use
from harness.environment.limits import (
    NOT_HERE,
    describe_local,
    exhausted,
    put_on,
    used_up,
    with_words,
    words_of,
)
from harness.errors import InvalidValue
from harness.project.limits import read_limits


def test_all_that_is_wrong_is_said_at_once():
    """Each with its name and what it must be."""
    with pytest.raises(InvalidValue) as caught:
        Limits(memory_bytes=0, cpus="2", processes=1.5, descriptors=-1)  # type: ignore[arg-type]

    assert [name for name, _ in caught.value.details] == [
        "memory_bytes",
        "cpus",
        "processes",
        "descriptors",
    ]


@pytest.mark.parametrize(
    ("text", "size"),
    [(1000, 1000), ("1000", 1000), ("512 MiB", 512 << 20), ("2GiB", 2 << 30), ("none", None)],
)
def test_memory_is_a_number_or_a_size(text: object, size: int | None):
    """With a unit, or bytes; "none" lifts the limit, and the others keep their defaults."""
    limits, complaints = read_limits({"memory": text})

    assert complaints == []
    assert limits == Limits(memory_bytes=size)


@pytest.mark.parametrize(
    ("table", "where", "words"),
    [
        ({"memory": "2 GB"}, "daemon.limits.memory", 'expected a number, "512 MiB" or "none"'),
        ({"cpus": True}, "daemon.limits.cpus", "found true or false"),
        ({"cpus": 0}, "daemon.limits.cpus", "0 is not allowed"),
        ({"memory": 0.5}, "daemon.limits.memory", "0.5 is not allowed"),
        ({"descriptor": 9}, "daemon.limits.descriptor", 'did you mean "descriptors"?'),
    ],
)
def test_what_is_wrong_in_the_table_is_told_with_its_key(
    table: dict[str, Any], where: str, words: str
):
    """And there are no limits then."""
    limits, [(key, text)] = read_limits(table)

    assert limits is None
    assert key == where
    assert words in text


def test_what_a_container_used_up_is_told():
    """Processes, memory, CPU time; nothing of what nobody counted."""
    use = Use(processes=20, processes_refused=1, memory_refused=3, periods=9, held_back=2)

    assert used_up(use, Limits(processes=20)) == [
        "processes: 20 of 20",
        "memory: at its limit 3 times",
        "cpus: held back in 2 of 9 periods",
    ]
    assert used_up(Use(processes=1, processes_refused=4), Limits(processes=20)) == [
        "processes: refused one more 4 times"
    ]
    assert used_up(Use(processes=19), Limits(processes=20)) == []
    assert used_up(Use(), Limits()) == []


def test_what_an_engine_tells_is_read():
    """As far as it tells anything."""
    told = {
        "pids_stats": {"current": 20},
        "memory_stats": {"failcnt": 3},
        "cpu_stats": {"throttling_data": {"throttled_periods": 2, "periods": 9}},
    }

    assert Use.of_engine(told) == Use(processes=20, memory_refused=3, periods=9, held_back=2)
    assert Use.of_engine({}) == Use()


def test_only_what_came_after_a_mark_counts():
    """And all of it, where the container was started again meanwhile."""
    before = Use(processes=5, memory_refused=3, periods=9, held_back=2)
    after = Use(processes=6, memory_refused=3, periods=12, held_back=4)

    assert after.since(before) == Use(processes=6, periods=3, held_back=2)
    assert before.since(after) == before


@pytest.mark.parametrize(
    ("log", "limit"),
    [
        ("OSError: [Errno 24] Too many open files", "descriptors"),
        ("Error: EMFILE, open 'x'", "descriptors"),
        ("MemoryError", "memory"),
        ("java.lang.OutOfMemoryError: Java heap space", "memory"),
        ("memory allocation of 4096 bytes failed", "memory"),
        ("RuntimeError: can't start new thread", "processes"),
    ],
)
def test_a_daemons_own_words_are_understood(log: str, limit: str):
    """Whatever language it is written in."""
    [line] = words_of(f"begun\n{log}\nended")

    assert line.startswith(f"{limit}: its log says ")


def test_a_daemon_that_is_well_says_nothing_of_it():
    """Words like those that mean no limit."""
    assert words_of("memory: 20 MB, EMFILES, nothing open") == []


def test_where_no_running_process_can_be_limited_that_is_said(monkeypatch: pytest.MonkeyPatch):
    """As on macOS: nothing is limited, nothing is seen, and nothing fails."""
    monkeypatch.delattr("resource.prlimit")

    lacking = put_on([os.getpid()], Limits())
    described = describe_local(Limits(), lacking)

    assert lacking == {"memory_bytes": NOT_HERE, "descriptors": NOT_HERE}
    assert described["not_limited"].keys() == {"memory_bytes", "cpus", "processes", "descriptors"}
    assert not any(value for name, value in described.items() if name != "not_limited")
    assert exhausted([os.getpid()], Limits()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's")
def test_a_limit_that_a_process_gave_itself_is_none_of_ours():
    """A sandbox has none left from the start; that is how it wants to be."""
    with subprocess.Popen(["sleep", "1000"]) as alone:
        try:
            _, hard = resource.prlimit(alone.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(alone.pid, resource.RLIMIT_NOFILE, (0, hard))

            assert exhausted([alone.pid], Limits(descriptors=64)) == []
        finally:
            alone.kill()


def test_what_was_seen_and_what_the_log_says_are_told_together():
    """Of one limit in one sentence; what only one of them tells stands for itself."""
    log = "OSError: Too many open files\nMemoryError"

    assert with_words(["descriptors: 8 of 8 open", "cpus: held back"], log) == [
        'descriptors: 8 of 8 open; its log says "Too many open files"',
        "cpus: held back",
        'memory: its log says "MemoryError"',
    ]
