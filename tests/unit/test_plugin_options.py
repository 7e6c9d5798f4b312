"""Options: what each takes, and which of three places is believed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.pytest_plugin.options import Settings, read_settings

ROOT = Path("/project")
NAMES = ("daemon", "proxy", "seed", "isolation", "runs_dir", "only_run", "strict")


class Config:
    """What pytest knows of options and ini keys."""

    def __init__(self, *, flags: dict[str, str], ini: dict[str, Any]) -> None:
        self._flags = flags
        self._ini = ini
        self.rootpath = ROOT
        self.inipath = ROOT / "pytest.ini"
        self.invocation_params = SimpleNamespace(dir=ROOT / "tests")

    def getoption(self, name: str, default: object = None) -> object:
        return self._flags.get(name.removeprefix("harness_"), default)

    def getini(self, name: str) -> object:
        value = self._ini.get(name.removeprefix("harness_"))
        if isinstance(value, Exception):
            raise value
        return value


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"HARNESS_{name.upper()}", raising=False)


def settings(ini: dict[str, Any] | None = None, **flags: str) -> Settings:
    config: Any = Config(flags=flags, ini=ini or {})
    return read_settings(config)


def refused(ini: dict[str, Any] | None = None, **flags: str) -> list[str]:
    with pytest.raises(pytest.UsageError) as caught:
        settings(ini, **flags)
    return str(caught.value).splitlines()


def test_without_anything_the_defaults_hold():
    """
    The seed is drawn, and it is known that it was.
    """
    found = settings()

    assert (found.daemon, found.proxy, found.isolation) == (None, "embedded", None)
    assert (found.only_run, found.strict, found.runs_dir) == (None, False, ROOT / "runs")
    assert found.fresh_seed
    assert 0 <= found.seed < 1_000_000
    assert found.given == {}


@pytest.mark.parametrize(
    ("name", "first", "second", "third", "read"),
    [
        ("daemon", "ws://a:1", "ws://b:2", "ws://c:3", str),
        ("proxy", "http://a:1", "http://b:2", "http://c:3", str),
        ("seed", "1", "2", 3, int),
        ("isolation", "proxy", "daemon", "environment", str),
        ("only_run", "1", "2", 3, int),
        ("strict", "false", "1", True, lambda value: value in ("1", True)),
    ],
)
def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    monkeypatch: pytest.MonkeyPatch, name: str, first: str, second: str, third: Any, read: Any
):
    """
    With all three, with the last two, and with the last.
    """
    file = {name: third}

    assert getattr(settings(file), name) == read(third)
    monkeypatch.setenv(f"HARNESS_{name.upper()}", second)
    assert getattr(settings(file), name) == read(second)
    assert getattr(settings(file, **{name: first}), name) == read(first)


def test_what_is_further_down_is_not_even_looked_at(monkeypatch: pytest.MonkeyPatch):
    """
    A wrong value that nobody uses harms nobody.
    """
    monkeypatch.setenv("HARNESS_SEED", "junk")

    assert settings({"seed": ValueError("junk")}, seed="7").seed == 7


def test_a_folder_is_relative_to_where_it_was_said(monkeypatch: pytest.MonkeyPatch):
    """
    The shell's is relative to its own folder, the file's to the root directory.
    """
    assert settings({"runs_dir": "out"}).runs_dir == ROOT / "out"
    assert settings(runs_dir="out").runs_dir == ROOT / "tests" / "out"
    monkeypatch.setenv("HARNESS_RUNS_DIR", "/else/where")
    assert settings().runs_dir == Path("/else/where")


def test_so_is_the_file_of_a_daemon():
    """
    Names and addresses are no paths.
    """
    assert settings(daemon="mine.toml").daemon == str(ROOT / "tests" / "mine.toml")
    assert settings({"daemon": "mine.toml"}).daemon == "mine.toml"
    assert settings(daemon="reference").daemon == "reference"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("daemon", "", "a text that is not empty"),
        ("proxy", "localhost:8474", "embedded, toxiproxy, or http://host:port"),
        ("proxy", "ws://localhost:8474", "embedded, toxiproxy, or http://host:port"),
        ("proxy", "", "embedded, toxiproxy, or http://host:port"),
        ("seed", "seven", "a whole number"),
        ("seed", "--5", "a whole number"),
        ("seed", "1.5", "a whole number"),
        ("seed", "\N{SUPERSCRIPT TWO}", "a whole number"),
        ("seed", "9" * 19, "at most 18 digits"),
        ("isolation", "Proxy", "proxy or daemon or environment"),
        ("runs_dir", "", "a text that is not empty"),
        ("only_run", "0", "1 or more"),
        ("only_run", "-1", "1 or more"),
        ("only_run", "first", "1 or more"),
    ],
)
def test_a_wrong_value_is_refused_and_told_with_its_place(name: str, text: str, expected: str):
    """
    What was found, where it stood, what is allowed.
    """
    [complaint] = refused(**{name: text})

    flag = "--harness-" + name.replace("_", "-")
    assert complaint.startswith(f'harness: "{text}" is not allowed for {flag}; expected ')
    assert expected in complaint


def test_a_seed_may_be_negative():
    """
    Any number that fits into the proxy's API is one.
    """
    assert settings(seed="-999999999999999999").seed == -(10**18 - 1)


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("TRUE", True), ("on", True), ("0", False), ("No", False)]
)
def test_a_switch_in_the_environment_is_a_word(
    monkeypatch: pytest.MonkeyPatch, text: str, value: bool
):
    """
    In either case.
    """
    monkeypatch.setenv("HARNESS_STRICT", text)

    assert settings().strict is value


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch):
    """
    CI systems cannot unset one.
    """
    monkeypatch.setenv("HARNESS_SEED", "")
    monkeypatch.setenv("HARNESS_STRICT", "")

    assert settings({"seed": 3, "strict": True}).seed == 3
    assert settings({"strict": True}).strict


def test_all_wrong_values_of_all_places_are_told_at_once(monkeypatch: pytest.MonkeyPatch):
    """
    Each with its place; also those that another wrong one stands before.
    """
    monkeypatch.setenv("HARNESS_SEED", "b")
    monkeypatch.setenv("HARNESS_STRICT", "perhaps")

    told = refused({"seed": "c", "isolation": "none"}, seed="a", only_run="x")

    assert told == [
        'harness: "a" is not allowed for --harness-seed; '
        "expected a whole number of at most 18 digits",
        'harness: "b" is not allowed for the environment variable HARNESS_SEED; '
        "expected a whole number of at most 18 digits",
        f'harness: "c" is not allowed for harness_seed in {ROOT}/pytest.ini; '
        "expected a whole number of at most 18 digits",
        f'harness: "none" is not allowed for harness_isolation in {ROOT}/pytest.ini; '
        "expected proxy or daemon or environment",
        'harness: "x" is not allowed for --harness-only-run; expected a whole number, 1 or more',
        'harness: "perhaps" is not allowed for the environment variable HARNESS_STRICT; '
        "expected true or false",
    ]


def test_what_pytest_refuses_in_the_file_is_told_too():
    """
    Its own words may leave out the key; then the key is added.
    """
    told = refused(
        {
            "seed": ValueError("invalid literal for int() with base 10: 'x'"),
            "strict": TypeError("pyproject.toml: config option 'harness_strict' expects a bool"),
        }
    )

    assert told == [
        f"harness: harness_seed in {ROOT}/pytest.ini is no whole number: "
        "invalid literal for int() with base 10: 'x'",
        "harness: pyproject.toml: config option 'harness_strict' expects a bool",
    ]


def test_what_must_be_given_again_is_remembered(monkeypatch: pytest.MonkeyPatch):
    """
    The shell's values, from the command line or its environment; the file's stay in the file.
    """
    monkeypatch.setenv("HARNESS_PROXY", "http://localhost:8474")

    found = settings({"isolation": "daemon"}, daemon="reference")

    assert found.given == {"harness_daemon": "reference", "harness_proxy": "http://localhost:8474"}


def test_it_is_known_who_named_the_daemon(monkeypatch: pytest.MonkeyPatch):
    """
    A mistake in it is told with its place.
    """
    assert settings().daemon_from is None
    assert settings({"daemon": "x"}).daemon_from == f"harness_daemon in {ROOT}/pytest.ini"
    monkeypatch.setenv("HARNESS_DAEMON", "x")
    assert settings().daemon_from == "the environment variable HARNESS_DAEMON"
    assert settings(daemon="x").daemon_from == "--harness-daemon"
