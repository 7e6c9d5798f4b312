"""What a running daemon does not take up changes nothing, and all that is wrong is said at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.changing import by_put, by_signal
from tests.integration.proxy_process import eventually
from tests.integration.refdaemon_process import TOKEN
from tests.integration.standing import ADMIN, Stand, Standing, on_each_backend

pytestmark = on_each_backend

GOOD = "[retry]\nattempts = 4\n"
MANY = """
preset = "productoin"
[retry]
attempts = 0
atempts = 3
[brakers]
failures = 3
[breaker]
failures = "three"
open_s = -1
[server]
admin_token = "in-a-file-0816"
[alerts]
interval_s = []
"""
ALL_OF_MANY = (
    "preset",
    "retry.attempts",
    "retry.atempts",
    "brakers",
    "breaker.failures",
    "breaker.open_s",
    "server.admin_token",
    "alerts.interval_s",
)


def _write(data: bytes) -> Callable[[Path], None]:
    def put(file: Path) -> None:
        file.write_bytes(data)

    return put


def _into_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


BROKEN: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "all sorts": (_write(MANY.encode()), ALL_OF_MANY),
    "half a line": (_write(b"[retry]\nattempts = 5\n[breaker"), ("is no TOML",)),
    "not UTF-8": (_write(b'[server]\nhost = "\xff"\n'), ("is not UTF-8",)),
    "a number of too many digits": (_write(b"[retry]\nattempts = " + b"9" * 5000), ("digits",)),
    "brackets without an end": (_write(b"a = " + b"[" * 5000), ("is no TOML",)),
    "no file": (Path.unlink, ("cannot be read",)),
    "a folder": (_into_a_folder, ("cannot be read",)),
    "a contradiction": (
        _write(b"[retry]\nattempts = 5\n[admission]\nmax_sessions = 9000\n"),
        ("admission.max_sessions", "connections.max_sessions"),
    ),
}
"""How a file is broken, and words that must be said of it, all of them."""


async def state(daemon: Standing) -> tuple[Any, ...]:
    """What a refused change must leave as it was."""
    status = await daemon.status()
    return status["config"], status["configuration"], status["pending"]


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_file_changes_nothing_and_all_is_told(stand: Stand, how: str) -> None:
    """
    In the log and as an event on SIGHUP, in the answer where the monitor is asked; then a good
    file is taken up as if nothing had been.
    """
    harm, words = BROKEN[how]
    async with stand(config=GOOD) as daemon, daemon.peer() as peer:
        before = await state(daemon)
        harm(daemon.config_file)
        await daemon.hang_up()
        (event,) = await daemon.events("configuration refused")
        # It has several lines, and of a container they come one after the other.
        in_log = ("configuration: nothing changed", *words)
        said = await eventually(
            lambda: written(daemon), lambda log: all(word in log for word in in_log)
        )
        answer = await daemon.ask("POST", "/reload", token=ADMIN)
        after = await state(daemon)
        assert (await peer.call("1", "echo", text="still here"))["ok"]
        if daemon.config_file.is_dir():
            daemon.config_file.rmdir()
        await by_signal(daemon, {"retry.attempts": 6})
        value, _ = await daemon.value("retry.attempts")

    complaints = json.loads(answer.body)["complaints"]
    for told in (event["why"], said, json.dumps(complaints)):
        assert [word for word in words if word not in told] == []
        assert "0816" not in told
    assert answer.status == 400
    assert len(complaints) >= len([word for word in words if "." in word]) / 2
    assert after == before
    assert value == 6


async def written(daemon: Standing) -> str:
    """The daemon's log."""
    return daemon.said


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN, f"{ADMIN}x", ADMIN[:-1]])
async def test_only_who_has_the_token_changes_anything(stand: Stand, token: str | None) -> None:
    """
    Not with that of the hello; neither by the op nor by the monitor.
    """
    async with stand() as daemon, daemon.peer() as peer:
        before = await state(daemon)
        given = {} if token is None else {"token": token}
        answer = await peer.ask(
            op="reconfigure", request_id="c", values={"retry.attempts": 9}, **given
        )
        put = await daemon.ask("PUT", "/config", {"retry.attempts": 9}, token=token)
        post = await daemon.ask("POST", "/reload", token=token)
        after = await state(daemon)

    assert (answer["ok"], answer["request_id"]) == (False, "c")
    assert answer["error"]["code"] == "UNAUTHORIZED"
    assert (put.status, post.status) == (401, 401)
    assert after == before


async def test_without_a_token_of_its_own_a_daemon_is_changed_by_its_file_alone(
    stand: Stand,
) -> None:
    """
    No token is right, an empty one neither.
    """
    async with stand(admin="") as daemon, daemon.peer() as peer:
        for token in (None, "", TOKEN):
            given = {} if token is None else {"token": token}
            answer = await peer.ask(op="reconfigure", request_id="c", values={}, **given)
            assert answer["error"]["code"] == "UNAUTHORIZED"
        put = await daemon.ask("PUT", "/config", {"retry.attempts": 9}, token="")
        await by_signal(daemon, {"retry.attempts": 5})
        value, _ = await daemon.value("retry.attempts")

    assert (put.status, value) == (403, 5)


WRONG: dict[str, tuple[dict[str, Any], set[str]]] = {
    "good and bad": ({"retry.attempts": 9, "breaker.failures": 0}, {"breaker.failures"}),
    "all bad": (
        {"retry.attempts": "x", "breaker.open_s": None, "no.such": 1, "server.token": "s"},
        {"retry.attempts", "breaker.open_s", "no.such", "server.token"},
    ),
    "against what stays": ({"admission.max_sessions": 9000}, {"admission.max_sessions"}),
    "against each other": (
        {"admission.max_inflight": 5, "admission.max_inflight_per_session": 6},
        {"admission.max_inflight_per_session"},
    ),
    "what the daemon cannot do": (
        {"connections.keep": "until_acknowledged"},
        {"connections.keep"},
    ),
}
"""Requests, and the keys that must be complained of."""


@pytest.mark.parametrize("which", WRONG)
async def test_a_wrong_request_changes_nothing_and_all_is_told(stand: Stand, which: str) -> None:
    """
    By the op and by the monitor alike, key by key; and told to whoever follows the events.
    """
    values, keys = WRONG[which]
    async with stand() as daemon, daemon.peer() as peer:
        before = await state(daemon)
        answer = await peer.ask(op="reconfigure", request_id="c", token=ADMIN, values=values)
        put = await daemon.ask("PUT", "/config", values, token=ADMIN)
        events = await daemon.events("configuration refused")
        after = await state(daemon)
        await by_put(daemon, {"retry.attempts": 6})

    assert (answer["ok"], answer["error"]["code"]) == (False, "VALIDATION_ERROR")
    problems = answer["error"]["details"]["problems"]
    complaints = json.loads(put.body)["complaints"]
    assert put.status == 400
    assert problems.keys() - {"next"} >= keys
    assert {each["where"] for each in complaints} >= keys
    assert [all(key in event["why"] for key in keys) for event in events] == [True, True]
    assert after == before
