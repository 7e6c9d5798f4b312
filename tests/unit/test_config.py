"""Configurations from their sources, and where each value came from."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InvalidValue
from harness.resilience.admission import AdmissionSettings
from harness.resilience.config import KEYS, PRESETS, SECTIONS, Config, load
from harness.resilience.config.loading import Sources, joined
from harness.resilience.config.presets import ABOUT
from harness.resilience.config.sources import of_arguments, of_environment, of_table, of_text
from harness.resilience.settings import Key

VARIABLES = [rules.variable for rules in KEYS.values() if rules.variable]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a file may be, by a short name."""
    monkeypatch.chdir(tmp_path)
    return Path("daemon.toml")


def test_without_any_source_there_are_the_defaults():
    """
    Nobody has to configure anything.
    """
    loaded = load()

    assert loaded.config == Config()
    assert loaded.preset is None
    assert {loaded.origin(name) for name in KEYS} == {"default"}


def test_a_later_source_wins_key_by_key(file: Path):
    """
    A preset, a file, the environment, arguments; each value knows which of them gave it.
    """
    file.write_text(
        'preset = "testing"\n[server]\ndrain_s = 2\nport = 1\ncall_timeout_s = 7\nhost = "::1"\n'
    )

    loaded = load(
        file,
        environment={"EXAI_WS_PORT": "2", "EXAI_WS_CALL_TIMEOUT": "8.5"},
        arguments={"server.call_timeout_s": "9"},
    )

    server = loaded.config.server
    assert (server.hello_timeout_s, server.drain_s, server.port) == (2, 2, 2)
    assert (server.call_timeout_s, server.close_timeout_s) == (9, 1)
    assert [
        loaded.origin(f"server.{key}")
        for key in ("close_timeout_s", "hello_timeout_s", "drain_s", "port", "call_timeout_s")
    ] == [
        "default",
        'preset "testing"',
        "file daemon.toml",
        "environment EXAI_WS_PORT",
        "argument",
    ]


def test_nobody_asks_for_the_origin_of_a_key_that_is_not_there():
    """
    The error has the name that was meant.
    """
    with pytest.raises(InvalidValue, match=r'"server.prot" is no key; did you mean "server.port"'):
        load().origin("server.prot")


def test_a_later_source_chooses_the_preset(file: Path):
    """
    A file says one, the environment another, an argument a third.
    """
    file.write_text('preset = "testing"')
    environment = {"EXAI_CONFIG_PRESET": "development"}

    assert load(file).preset == "testing"
    assert load(file, environment=environment).preset == "development"
    assert load(environment=environment, arguments={"preset": "production"}).preset == "production"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_right_and_names_keys_that_there_are(preset: str):
    """
    It differs from the defaults in each key that it names.
    """
    config = load(arguments={"preset": preset}).config

    assert preset in ABOUT
    for name, value in PRESETS[preset].items():
        assert config.value(name) == value != KEYS[name].default, name


def test_production_admits_everybody_from_one_address():
    """
    Behind a proxy all 2000 clients have the proxy's, and together send 50 000 messages a second.
    """
    admission = load(arguments={"preset": "production"}).config.admission

    assert admission.max_connections_per_address >= 2000
    assert admission.max_connections >= 2000
    assert admission.max_sessions >= 2000
    for rate in ("", "_per_address", "_per_session"):
        assert getattr(admission, f"messages_per_s{rate}") >= 50_000


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("server.port", "0", 0),
        ("server.drain_s", "0.5", 0.5),
        ("server.host", "none", "none"),
        ("alerts.warn_p95_ms", "none", None),
        ("alerts.warn_p95_ms", "250", 250.0),
        ("admission.messages_per_s", "none", None),
        ("breaker.policy", "count_window", "count_window"),
    ],
)
def test_a_text_becomes_what_its_key_is(name: str, text: str, value: Any):
    """
    "none" is no value where the key may have none.
    """
    assert load(arguments={name: text}).config.value(name) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, True) for text in ("true", "True", "yes", "1")),
        *((text, False) for text in ("false", "FALSE", "no", "0")),
        *((text, text) for text in ("2", "none", "maybe")),
    ],
)
def test_a_text_is_true_or_false_by_its_word(text: str, value: Any):
    """
    One that is neither stays what it is, and is refused as that.
    """
    assert of_text(Key(about="a flag", type=bool), text) is value


def test_an_argument_may_be_the_value_itself(file: Path):
    """
    A program that starts a daemon has no texts to make.
    """
    file.write_text('[alerts]\nwarn_p95_ms = "none"')

    assert load(file).config.alerts.warn_p95_ms is None
    assert load(file, arguments={"alerts.warn_p95_ms": 7}).config.alerts.warn_p95_ms == 7
    assert load(arguments={"alerts.warn_p95_ms": None}).config.alerts.warn_p95_ms is None


def test_an_empty_variable_is_one_that_nobody_set():
    """
    Compose hands on empty ones for those that are not there.
    """
    loaded = load(environment=dict.fromkeys([*VARIABLES, "EXAI_CONFIG_PRESET"], ""))

    assert loaded.config == Config()
    assert loaded.origin("server.port") == "default"


def test_no_two_keys_are_read_from_one_variable():
    """
    Nor is a key's variable the preset's.
    """
    assert {n for n in Counter([*VARIABLES, "EXAI_CONFIG_PRESET"]).values() if n > 1} == set()


def test_secrets_have_a_variable():
    """
    It is the only way that they are let in by.
    """
    assert all(rules.variable for rules in KEYS.values() if rules.secret)


def test_a_program_makes_a_configuration_without_any_source():
    """
    Sections check themselves.
    """
    config = replace(Config(), admission=AdmissionSettings(max_sessions=1))

    assert config.value("admission.max_sessions") == 1
    with pytest.raises(InvalidValue, match=r"AdmissionSettings: 1 problem"):
        AdmissionSettings(max_sessions=0)
    with pytest.raises(InvalidValue, match=r"Config: 1 problem"):
        Config(admission=AdmissionSettings(max_sessions=9_999))


_TEXTS = st.sampled_from(
    ["", "none", "true", "1", "-1", "0.5", "1e999", "nan", "1_0", "\0", "\u0661", "testing", "x"]
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | _TEXTS
    # Beyond floats, and beyond what Python writes out.
    | st.sampled_from([400, 5000]).map(lambda digits: -(10**digits)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXTS, inner, max_size=2),
    max_leaves=3,
)
_NAMES = st.sampled_from([*KEYS, "preset", "server", "server.", ".port", "", "server.prot", "a.b"])
_TABLES = st.dictionaries(
    st.sampled_from([*SECTIONS, "preset", "serve", ""]),
    _VALUES
    | st.dictionaries(
        st.sampled_from(sorted({name.partition(".")[2] for name in KEYS} | {"", "x"})),
        _VALUES,
        max_size=4,
    ),
    max_size=3,
)


@given(
    table=_TABLES,
    variables=st.dictionaries(st.sampled_from(VARIABLES), _TEXTS, max_size=3),
    arguments=st.dictionaries(_NAMES, _VALUES, max_size=3),
)
def test_whatever_is_given_is_loaded_or_refused(
    table: dict[str, Any], variables: dict[str, str], arguments: dict[str, Any]
):
    """
    And nothing else; what is loaded has all that arguments said.
    """
    layers = [of_table(table, origin="table"), of_environment(variables), of_arguments(arguments)]
    try:
        loaded = joined(layers, sources=Sources())
    except InvalidValue:
        return
    assert {loaded.origin(name) for name in arguments if name != "preset"} <= {"argument"}


@settings(max_examples=30)
@given(
    st.dictionaries(st.sampled_from([*KEYS]), st.integers(0, 100) | st.just("none"), max_size=4),
    st.dictionaries(st.sampled_from([*KEYS]), st.integers(0, 100) | st.just("none"), max_size=4),
)
def test_two_layers_of_different_keys_may_change_places(one: dict[str, Any], two: dict[str, Any]):
    """
    Order matters where both say something of one key, and nowhere else.
    """
    two = {name: value for name, value in two.items() if name not in one}

    assert values(one, two) == values(two, one) == values(operator.or_(one, two))


def values(*layers: dict[str, Any]) -> Config | None:
    try:
        return joined([of_arguments(each) for each in layers], sources=Sources()).config
    except InvalidValue:
        return None
