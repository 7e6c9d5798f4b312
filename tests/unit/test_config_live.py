"""A configuration that changes while a daemon runs: what is taken up, what waits, who is told."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InvalidValue
from harness.resilience.config import (
    KEYS,
    Config,
    Differences,
    Live,
    Loaded,
    differences,
    load,
)

TOKENS = ("right-4711", "right-4712")


def loaded(**arguments: Any) -> Loaded:
    """With arguments as section__key."""
    return load(arguments={name.replace("__", "."): value for name, value in arguments.items()})


def refuse(config: Config) -> None:
    raise InvalidValue("not with me")


def test_a_difference_is_live_or_waits_for_a_restart():
    """
    Each with its key, both values, and where the new one came from.
    """
    old = loaded(server__port=1)
    new = load(
        environment={"EXAI_WS_PORT": "2"},
        arguments={"alerts.warn_p95_ms": "none", "server.drain_s": 7},
    )

    found = differences(old, new)

    assert [str(each) for each in found.live] == [
        "server.drain_s: 5.0 to 7 (argument)",
        "alerts.warn_p95_ms: 100.0 to none (argument)",
    ]
    assert [str(each) for each in found.restart] == [
        "server.port: 1 to 2 (environment EXAI_WS_PORT)"
    ]


def test_the_same_value_from_elsewhere_is_no_difference():
    """
    A file that says what the default says changes nothing.
    """
    assert differences(loaded(), loaded(server__port=8079, server__drain_s=5)) == Differences()


def test_a_secret_that_differs_is_not_shown():
    """
    That it differs is.
    """
    old, new = (load(environment={"EXAI_WS_TOKEN": token}) for token in TOKENS)

    [change] = differences(old, new).restart

    assert (change.name, change.old, change.new) == ("server.token", "(secret)", "(secret)")


def test_a_change_takes_up_what_is_live_and_keeps_the_rest_pending():
    """
    Each value says where the one that holds came from.
    """
    live = Live(loaded(server__port=1))

    found = live.apply(load(environment={"EXAI_WS_PORT": "2"}, arguments={"server.drain_s": 7}))

    assert (live.config.server.port, live.config.server.drain_s) == (1, 7)
    assert live.pending == found.restart != ()
    assert live.loaded.origin("server.port") == "argument"
    assert live.loaded.origin("server.drain_s") == "argument"
    assert live.loaded.origin("server.host") == "default"


def test_what_is_pending_stays_so_until_it_is_taken_back():
    """
    The next change is held against what holds, not against what was asked for.
    """
    live = Live(loaded())

    for _ in range(2):
        live.apply(loaded(server__port=1))
        assert [change.name for change in live.pending] == ["server.port"]
    live.apply(loaded())

    assert live.pending == ()


def test_observers_are_told_of_what_holds():
    """
    Once for each change of a live value, until they have enough of it.
    """
    live, told = Live(loaded()), []
    forget = live.watch(told.append)

    live.apply(loaded(server__drain_s=7, server__port=1))
    live.apply(loaded(server__drain_s=7, server__port=2))
    forget()
    live.apply(loaded(server__drain_s=8))

    assert [(config.server.drain_s, config.server.port) for config in told] == [(7, 8079)]


def test_an_observer_that_refuses_keeps_all_as_it_was():
    """
    Nobody is told of a configuration that somebody cannot take.
    """
    live, told = Live(loaded()), []
    before = live.loaded
    live.watch(told.append)
    live.watch(told.append, check=refuse)

    with pytest.raises(InvalidValue, match="not with me"):
        live.apply(loaded(server__drain_s=7, server__port=1))

    assert live.loaded is before
    assert (told, live.pending) == ([], ())


def test_an_observer_that_fails_keeps_no_other_from_being_told():
    """
    The new configuration holds, and the failure comes out.
    """
    live, told = Live(loaded()), []

    def fail(config: Config) -> None:
        told.append("failed")
        raise LookupError("a bug")

    live.watch(fail)
    live.watch(lambda config: told.append(config.server.drain_s))

    with pytest.raises(LookupError, match="a bug"):
        live.apply(loaded(server__drain_s=7))

    assert told == ["failed", 7]
    assert live.config.server.drain_s == 7


def test_live_values_that_contradict_those_that_stay_are_refused():
    """
    The new file is right as a whole, and not before a restart.
    """
    live = Live(loaded())
    before = live.loaded

    with pytest.raises(InvalidValue, match="max_message_bytes, 33554432"):
        live.apply(loaded(server__max_message_bytes=50_000_000, server__max_call_bytes=40_000_000))

    assert live.loaded is before


def test_a_reload_reads_the_same_sources_again(tmp_path: Path):
    """
    File and variables as they are now; arguments stay.
    """
    file, variables = tmp_path / "daemon.toml", {"EXAI_WS_CALL_TIMEOUT": "1"}
    file.write_text("[server]\ndrain_s = 1")
    live = Live(load(file, environment=variables, arguments={"admission.max_sessions": 3}))

    file.write_text('preset = "testing"\n[server]\ndrain_s = 2')
    variables["EXAI_WS_CALL_TIMEOUT"] = "2"
    live.reload()

    config = live.config
    assert (config.server.drain_s, config.server.call_timeout_s) == (2, 2)
    assert config.admission.max_sessions == 3
    assert live.loaded.preset == "testing"


def test_a_reload_of_what_is_wrong_changes_nothing(tmp_path: Path):
    """
    It says what is wrong, and a later one that is right is taken up.
    """
    file = tmp_path / "daemon.toml"
    file.write_text("[server]\ndrain_s = 1")
    live = Live(load(file))
    before = live.loaded

    file.write_text("[server]\ndrain_s = -1\ncall_timeout_s = 9")
    with pytest.raises(InvalidValue, match=r"server\.drain_s"):
        live.reload()
    assert live.loaded is before

    file.write_text("[server]\ndrain_s = 3")
    live.reload()
    assert live.config.server.drain_s == 3


def test_an_observer_may_apply_a_change_itself():
    """
    It is told of that one too, and nothing waits for itself.
    """
    live, told = Live(loaded()), []

    def once_more(config: Config) -> None:
        told.append(config.server.drain_s)
        if config.server.drain_s == 7:
            live.apply(loaded(server__drain_s=8))

    live.watch(once_more)
    live.apply(loaded(server__drain_s=7))

    assert (told, live.config.server.drain_s) == ([7, 8], 8)


def test_a_reader_in_another_thread_never_sees_half_a_change():
    """
    Two values that always change together are never read apart.
    """
    pairs = [loaded(server__drain_s=n, server__call_timeout_s=n) for n in (1, 2)]
    live, seen = Live(pairs[0]), set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            server = live.config.server
            seen.add((server.drain_s, server.call_timeout_s))

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(20):
        live.apply(pairs[n % 2])
    done.set()
    reader.join(timeout=10)

    assert not reader.is_alive()
    assert seen <= {(1, 1), (2, 2)}


_CHANGES = st.dictionaries(
    st.sampled_from(list(KEYS)), st.integers(1, 100) | st.just("none"), max_size=5
)


@settings(max_examples=50)
@given(old=_CHANGES, new=_CHANGES)
def test_a_change_leaves_the_new_live_values_and_the_old_others(
    old: dict[str, Any], new: dict[str, Any]
):
    """
    Exactly these; and taking it up again changes nothing.
    """
    try:
        before = load(arguments=fit(old))
        after = load(arguments=fit(new))
        live = Live(before)
        live.apply(after)
    except InvalidValue:
        return

    for name, rules in KEYS.items():
        expected = after if rules.live else before
        assert live.config.value(name) == expected.config.value(name), name
        if before.config.value(name) != after.config.value(name):
            assert live.loaded.origin(name) == expected.origin(name), name
    assert live.apply(after).live == ()


def fit(values: dict[str, Any]) -> dict[str, Any]:
    """Without those that their keys refuse by themselves, so that most draws are loaded."""
    return {
        name: value
        for name, value in values.items()
        if not KEYS[name].secret and KEYS[name].holds(None if value == "none" else value)
    }


def test_a_check_sees_what_is_to_hold_and_a_reader_what_holds():
    """
    The new live values with those that stay; only afterwards are they read.
    """
    live = Live(loaded(breaker__failures=5, server__port=1))
    seen: list[tuple[int, int, int]] = []

    def check(config: Config) -> None:
        seen.append((config.breaker.failures, config.server.port, live.config.breaker.failures))

    live.watch(lambda config: None, check=check)
    live.apply(loaded(breaker__failures=6, server__port=2))

    assert seen == [(6, 1, 5)]
