"""All that can be wrong with a configuration, told at once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InvalidValue
from harness.resilience.admission import AdmissionSettings
from harness.resilience.config import SECTIONS, Config, load
from harness.resilience.connections import ConnectionSettings

TOKEN = "right-4711"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a file may be, by a short name."""
    monkeypatch.chdir(tmp_path)
    return Path("daemon.toml")


def refused(file: Path | None = None, **sources: Any) -> tuple[tuple[str, str], ...]:
    with pytest.raises(InvalidValue) as caught:
        load(file, **sources)
    return caught.value.details


def test_a_secret_is_shown_nowhere(file: Path):
    """
    It stands in the configuration alone.
    """
    file.write_text(f'[server]\ntoken = "{TOKEN}"')
    loaded = load(environment={"EXAI_WS_TOKEN": TOKEN})

    assert loaded.config.server.token == TOKEN
    assert TOKEN not in f"{loaded!r} {loaded}"
    for source in ({"file": file}, {"arguments": {"server.token": TOKEN}}):
        [(key, why)] = refused(**source)
        assert key == "server.token"
        assert "a secret has no place here; set the variable EXAI_WS_TOKEN" in why
        assert TOKEN not in why


def test_ten_mistakes_of_a_file_come_at_once(file: Path):
    """
    Each with its key, what was expected, what was found, and the file.
    """
    file.write_text(
        """\
preset = "prodution"
breaker = 3

[server]
prot = 8080
port = 70000
host = 8
token = "right-4711"
drain_s = nan

[admision]

[alerts]
warn_error_rate = 1.5
warn_queue_fill = "most"
"""
    )

    with pytest.raises(InvalidValue) as caught:
        load(file)

    assert (
        str(caught.value)
        == """\
configuration: 10 problems
  breaker                 expected a table, found a whole number (file daemon.toml)
  server.prot             unknown key; server takes host, port, token, admin_token, \
max_message_bytes, max_call_bytes, hello_timeout_s, call_timeout_s, close_timeout_s, \
progress_interval_s, slow_reader_s, drain_s; \
did you mean "port"? (file daemon.toml)
  server.token            a secret has no place here; set the variable EXAI_WS_TOKEN \
(file daemon.toml)
  admision                unknown section; expected """
        + ", ".join(SECTIONS)
        + """; did you mean "admission"? (file daemon.toml)
  preset                  expected "development" or "production" or "testing", found \
"prodution"; did you mean "production"? (file daemon.toml)
  server.host             expected text, found 8 (file daemon.toml)
  server.port             expected a whole number, at least 0, at most 65535, found 70000 \
(file daemon.toml)
  server.drain_s          expected a number, at least 0, at most 86400, found nan \
(file daemon.toml)
  alerts.warn_error_rate  expected a number, above 0, at most 1, or "none", found 1.5 \
(file daemon.toml)
  alerts.warn_queue_fill  expected a number, above 0, at most 1, or "none", found "most" \
(file daemon.toml)"""
    )


def test_mistakes_of_all_sources_come_at_once(file: Path):
    """
    That of a file also where a variable has taken its place: the variable may go.
    """
    file.write_text("[server]\nport = -1")

    details = refused(
        file,
        environment={"EXAI_WS_PORT": "http", "EXAI_CONFIG_PRESET": "test"},
        arguments={"server.drain_s": "long", "serve.port": "1", "port": "1", "preset": 3},
    )

    expected = "expected a whole number, at least 0, at most 65535, found"
    presets = 'expected "development" or "production" or "testing", found'
    sections = f'unknown key; expected "section.key" of {", ".join(SECTIONS)}'
    assert dict.fromkeys(details) == dict.fromkeys(
        [
            ("serve.port", f'{sections}; did you mean "server.port"? (argument)'),
            ("port", f"{sections} (argument)"),
            (
                "preset",
                f'{presets} "test"; did you mean "testing"? (environment EXAI_CONFIG_PRESET)',
            ),
            ("preset", f"{presets} a whole number (argument)"),
            ("server.port", f"{expected} -1 (file daemon.toml)"),
            ("server.port", f'{expected} "http" (environment EXAI_WS_PORT)'),
            (
                "server.drain_s",
                'expected a number, at least 0, at most 86400, found "long" (argument)',
            ),
        ]
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file or directory; see that it is there, a file"),
        (b"[server]\nport = = 1", "is no TOML: Invalid value (at line 2, column 8); mend that"),
        (b"[server]\nhost = '\xff'", "is no TOML: byte 17 is not UTF-8; save it as UTF-8"),
        (b"port = " + b"1" * 5000, "is no TOML: Exceeds the limit"),
        (b"a = " + b"[" * 5000, "is no TOML: "),
    ],
    ids=["missing", "broken", "not utf-8", "digits", "nesting"],
)
def test_a_file_that_cannot_be_read_is_one_mistake_among_others(
    file: Path, content: bytes | None, why: str
):
    """
    What is wrong elsewhere is told beside it.
    """
    if content is not None:
        file.write_bytes(content)

    details = refused(file, environment={"EXAI_WS_PORT": "x"})

    assert [where for where, _ in details] == ["daemon.toml", "server.port"]
    assert details[0][1].startswith(why)


@pytest.mark.parametrize(
    "value",
    [2**1024, -(10**400), 10**5000, math.inf, math.nan],
    ids=["large", "small", "many digits", "infinite", "nan"],
)
@pytest.mark.parametrize("name", ["server.port", "server.drain_s", "admission.max_sessions"])
def test_a_number_beyond_all_bounds_is_refused(name: str, value: float):
    """
    One that nobody would read is told by its length.
    """
    [(where, why)] = refused(arguments={name: value})

    assert where == name
    told = (
        str(value) if isinstance(value, float) else f"a whole number of {value.bit_length()} bits"
    )
    assert why.endswith(f"found {told} (argument)")


def test_a_list_is_no_value_whatever_is_in_it(file: Path):
    """
    Not even a number that Python does not write out.
    """
    file.write_text(f"[server]\nport = [0x{'f' * 5000}]\nhost = {{}}\ndrain_s = 1979-05-27")

    assert [why.partition("found ")[2] for _, why in refused(file)] == [
        "a list (file daemon.toml)",
        "a table (file daemon.toml)",
        "a date or time (file daemon.toml)",
    ]


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        ("admission.max_connections_per_address", "admission.max_connections"),
        ("admission.max_inflight_per_session", "admission.max_inflight"),
        ("admission.messages_per_s_per_address", "admission.messages_per_s"),
        ("admission.messages_per_s_per_session", "admission.messages_per_s"),
        ("admission.burst_messages_per_address", "admission.burst_messages"),
        ("admission.burst_messages_per_session", "admission.burst_messages"),
        ("admission.max_sessions", "connections.max_sessions"),
        ("server.max_call_bytes", "server.max_message_bytes"),
        ("alerts.warn_p95_ms", "alerts.critical_p95_ms"),
        ("alerts.warn_open_breakers", "alerts.critical_open_breakers"),
    ],
)
def test_a_part_may_be_as_much_as_the_whole_and_no_more(part: str, whole: str):
    """
    One less and as much are right; one more is told of the part, and names the other.
    """
    most = 2000
    for each in (most - 1, most):
        load(arguments={whole: most, part: each})

    [(where, why)] = refused(arguments={whole: most, part: most + 1})

    assert where == part
    assert whole.partition(".")[2] in why


def test_a_contradiction_with_a_default_says_that_it_is_one():
    """
    Else a reader looks for a value that nobody wrote.
    """
    [complaint] = refused(environment={"MAX_CONNECTIONS": "5"})

    assert complaint == (
        "admission.max_connections_per_address",
        "10 is more than max_connections, 5; it would never hold (default)",
    )


def test_a_wrong_preset_makes_nothing_else_look_wrong():
    """
    What a preset that nobody knows would have said may be what makes the rest right.
    """
    details = refused(arguments={"preset": "prod", "admission.max_connections_per_address": "2000"})

    assert [where for where, _ in details] == ["preset"]


def test_sections_contradict_one_another_only_where_both_are_right():
    """
    What follows from a mistake is not told beside it.
    """
    details = refused(arguments={"connections.max_sessions": 5, "admission.max_inflight": 0})

    assert [where for where, _ in details] == ["admission.max_inflight"]


def test_a_host_is_not_empty(file: Path):
    """
    It would mean every address of the machine.
    """
    file.write_text('[server]\nhost = ""')

    assert refused(file) == (
        ("server.host", 'is empty; expected an address, such as "127.0.0.1" (file daemon.toml)'),
    )


def test_sections_that_contradict_one_another_are_told_by_both_ways_to_make_them():
    """
    Loaded, and put together by hand: the key to complain of first, with both values. Not beside a
    preset that nobody knows.
    """
    text = (
        "101 is more than connections.max_sessions, 100; sessions that are let in have to be"
        " remembered"
    )
    given = {"admission.max_sessions": 101, "connections.max_sessions": 100}

    assert refused(arguments=given) == (("admission.max_sessions", f"{text} (argument)"),)
    with pytest.raises(InvalidValue, match="Config: 1 problem") as caught:
        Config(
            admission=AdmissionSettings(max_sessions=101),
            connections=ConnectionSettings(max_sessions=100),
        )
    assert caught.value.details == (("admission.max_sessions", text),)
    assert [where for where, _ in refused(arguments=given | {"preset": "prod"})] == ["preset"]


def test_a_call_is_no_larger_than_a_message():
    """
    Both are said; where one is wrong by itself, that alone.
    """
    given = {"server.max_message_bytes": 50_000_000, "server.max_call_bytes": 50_000_001}

    assert refused(arguments=given) == (
        (
            "server.max_call_bytes",
            "50000001 is more than max_message_bytes, 50000000; no call can be larger than a"
            " message (argument)",
        ),
    )
    for name in given:
        assert [where for where, _ in refused(arguments=given | {name: 0})] == [name]


def test_a_section_with_a_mistake_contradicts_no_other():
    """
    The one with the mistake may be either of the two.
    """
    details = refused(arguments={"admission.max_sessions": 2000, "connections.queue_messages": 0})

    assert [where for where, _ in details] == ["connections.queue_messages"]
