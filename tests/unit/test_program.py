"""What every program of ours does alike."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal

import pytest

from harness import program
from harness.errors import EXIT_USAGE, InvalidValue


def parser() -> program.Parser:
    made = program.Parser(prog="harness demo")
    made.add_argument("--port", type=program.port)
    made.add_argument("--within", type=program.positive(float))
    return made


def test_a_usage_error_ends_with_64_and_says_what_next(capsys: pytest.CaptureFixture[str]):
    """
    2, which argparse would give, is a verdict here.
    """
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["--nonsense"])

    assert caught.value.code == EXIT_USAGE
    assert "next  harness demo --help" in capsys.readouterr().err


def test_an_abbreviated_option_is_refused():
    """
    What is short for one option today is another's name tomorrow.
    """
    with pytest.raises(SystemExit):
        parser().parse_args(["--por", "80"])


def test_a_command_complains_of_unknown_arguments_under_its_own_name(
    capsys: pytest.CaptureFixture[str],
):
    """
    argparse would leave that to the program, and name only that.
    """
    whole = program.Parser(prog="harness")
    whole.add_subparsers().add_parser("demo")

    with pytest.raises(SystemExit):
        whole.parse_args(["demo", "--colour"])

    assert capsys.readouterr().err.startswith("harness demo: unrecognized arguments: --colour\n")


def test_what_ends_a_help_text_is_made_only_when_it_is_asked_for(
    capsys: pytest.CaptureFixture[str],
):
    """
    What it takes to make it need not be imported before.
    """
    made: list[str] = []
    late = program.Parser(prog="harness", late_epilog=lambda: made.append("x") or "the end")

    late.parse_args([])
    assert made == []
    with pytest.raises(SystemExit):
        late.parse_args(["--help"])

    assert capsys.readouterr().out.endswith("\nthe end\n")


@pytest.mark.parametrize("text", ["0", "80", "65535"])
def test_a_port_is_a_port(text: str):
    """
    0 asks the system to choose.
    """
    assert program.port(text) == int(text)


@pytest.mark.parametrize("text", ["", "-1", "65536", "http", "8O", "٣", "80.0"])
def test_what_is_no_port_is_refused(text: str):
    """
    The complaint says what is expected.
    """
    with pytest.raises(argparse.ArgumentTypeError, match="expected 0 to 65535"):
        program.port(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon", ""])
def test_what_is_not_above_zero_is_refused(text: str):
    """
    Also what is no number at all.
    """
    with pytest.raises(argparse.ArgumentTypeError, match="above 0"):
        program.positive(float)(text)


def test_a_positive_number_keeps_its_kind():
    """
    Seconds may be fractions, counts may not.
    """
    assert program.positive(float)("0.5") == 0.5
    assert program.positive(int)("3") == 3
    with pytest.raises(argparse.ArgumentTypeError):
        program.positive(int)("0.5")


def test_a_program_complains_with_the_errors_class_and_rows(capsys: pytest.CaptureFixture[str]):
    """
    One look tells which kind of error it is and what to do.
    """
    program.complain("harness demo", InvalidValue("no such mode", [("next", "harness list")]))

    assert capsys.readouterr().err == (
        "harness demo: InvalidValue: no such mode\n  next  harness list\n"
    )


def test_a_program_says_where_it_listens_in_one_json_line(capsys: pytest.CaptureFixture[str]):
    """
    Whoever started it reads the port from there.
    """
    program.announce("ws://127.0.0.1:8079")

    assert json.loads(capsys.readouterr().out) == {"listening": "ws://127.0.0.1:8079"}


async def test_a_signal_sets_the_stop_event():
    """
    SIGTERM asks a program to end; it does not kill it.
    """
    stop = program.stop_signal()

    signal.raise_signal(signal.SIGTERM)

    async with asyncio.timeout(5):
        await stop.wait()
    loop = asyncio.get_running_loop()
    loop.remove_signal_handler(signal.SIGTERM)
    loop.remove_signal_handler(signal.SIGINT)


def test_a_program_returns_its_exit_code():
    """
    Whichever loop there is.
    """

    async def main() -> int:
        return 3

    assert program.run(main()) == 3


@pytest.fixture
def _levels():
    names = ("websockets", "picows", "asyncio")
    before = [(name, logging.getLogger(name).level) for name in names]
    yield
    for name, level in before:
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("_levels")
def test_a_programs_log_never_shows_frames():
    """
    Even at DEBUG the libraries that would log frames, and so tokens, keep quiet.
    """
    program.log_to_stderr("DEBUG")

    for name in ("websockets.client", "websockets.server", "picows"):
        assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)
