"""The command as a person types it: what it prints, how it ends, what it says of mistakes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.daemons.reference import Reference
from tests.integration.stacks import Place

BOUND_S = 30


def harness(
    *arguments: str, cwd: Path, token: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "EXAI_WS_TOKEN"}
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


async def called(here: Place, *arguments: str, token: str | None = None):
    """`harness call` beside a running environment."""
    return await asyncio.to_thread(harness, "call", *arguments, cwd=here.directory, token=token)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--colour"], "required: COMMAND"),
        (["demo", "--colour"], "unrecognized arguments: --colour"),
        (["proxy", "--port", "99999"], '"99999" is not a port; expected 0 to 65535'),
        (["proxy", "--seed", "x"], "invalid int value: 'x'"),
        (["fly"], "invalid choice: 'fly'"),
        (["call", "ws://127.0.0.1:1", "echo", "--call-timeout", "0"], "expected a number above 0"),
        (["call", "http://127.0.0.1:1", "echo"], "expected ws://host:port or wss://host:port"),
        (["call", "ws://127.0.0.1:99999", "echo"], "not an address"),
        (["call", "ws://127.0.0.1:1", "echo", "[1]"], "arguments are no JSON object"),
        (["call", "ws://192.0.2.1:8079", "echo"], "not a loopback address"),
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
    assert "--allow-remote" in harness("call", "ws://192.0.2.1:1", "echo", cwd=tmp_path).stderr


def test_calling_where_nobody_listens(tmp_path: Path) -> None:
    """A wrong port: the call certainly did not happen, exit 1."""
    done = harness("call", "ws://127.0.0.1:9", "echo", cwd=tmp_path)

    assert done.returncode == 1
    assert "nobody listens there" in done.stderr
    assert "ws://127.0.0.1:9" in done.stderr


async def test_a_call_by_hand(tmp_path: Path) -> None:
    """The tool's text on stdout, how long it took on stderr."""
    async with Place(tmp_path) as here:
        done = await called(here, here.url, "echo", '{"text": "hi"}')

    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert "answered after" in done.stderr


async def test_a_call_that_is_refused(tmp_path: Path) -> None:
    """An unknown tool did not run: exit 1 and the daemon's words."""
    async with Place(tmp_path) as here:
        done = await called(here, here.url, "fly")

    assert done.returncode == 1
    assert "fly" in done.stderr


async def test_a_call_that_may_have_happened(tmp_path: Path) -> None:
    """A time limit proves nothing: exit 2."""
    async with Place(tmp_path) as here:
        done = await called(here, here.url, "sleep", '{"ms": 5000}', "--call-timeout", "50")

    assert done.returncode == 2
    assert "CallUnknown" in done.stderr


async def test_a_wrong_token_by_hand(tmp_path: Path) -> None:
    """The token is not shown, the variable is named."""
    async with Place(tmp_path, Reference(token="right-4711")) as here:
        done = await called(here, here.url, "echo", '{"text": "hi"}', token="wrong-0815")
        good = await called(here, here.url, "echo", '{"text": "hi"}', token="right-4711")

    assert done.returncode == 1
    assert "EXAI_WS_TOKEN" in done.stderr
    assert "wrong-0815" not in done.stderr
    assert good.returncode == 0


def test_show_without_a_run(tmp_path: Path) -> None:
    """No run directory: a sentence, not a traceback."""
    done = harness("show", cwd=tmp_path)

    assert done.returncode == 3
    assert "runs/latest" in done.stderr
    assert "Traceback" not in done.stderr
