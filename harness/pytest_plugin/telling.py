"""What a failing test's report gets from us: the sentence, the timeline, the logs, the repeat."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import pytest

from harness.errors import HarnessError
from harness.history import History
from harness.pytest_plugin.hiding import hide
from harness.pytest_plugin.interrupts import through_an_alarm
from harness.pytest_plugin.place import Place
from harness.pytest_plugin.state import AGAIN, ASKED, FAILED, PLACE, RUN, SETTINGS, own_id
from harness.pytest_plugin.tracebacks import behind, met_at
from harness.records import Effect, read_lines
from harness.report.failure import account, fault_lines, fault_said, in_words
from harness.report.timeline import timeline

__all__ = ["repeat_command", "tell", "tell_properties"]

_LOG_LINES: Final = 20
_LEAST_WIDTH: Final = 100
_PHASES: Final = {"setup": "set-up", "teardown": "tear-down"}
# Of pytest's own options those that may change what a test does.
_OF_PYTEST: Final = (
    *("-c", "--config-file", "--rootdir", "-o", "--override-ini", "-p", "-W"),
    *("--import-mode", "--confcutdir", "--asyncio-mode", "--timeout", "--timeout-method"),
)
# Of our own, beside what says how a test is carried out: which daemon, where, behind what.
_AGAIN: Final = (
    *("harness_seed", "harness_daemon", "harness_backend", "harness_proxy", "harness_path"),
    "harness_isolation",
)
# A record or a log that cannot be read is told of; the test's own error stands above it.
_UNREADABLE: Final = (HarnessError, OSError, msgspec.MsgspecError)

Row = tuple[str, str]


def tell(item: pytest.Item, report: pytest.TestReport, error: BaseException) -> None:
    """
    Add to a failing test's report what is known of its environment, and how to repeat it; of
    any report, take the daemon's token out.

    Args:
        item: The test; its environment is up, was put away, or never came up.
        report: Of the phase that failed.
        error: Why.
    """
    if report.failed:
        try:
            _add_sections(item, report, error)
        # An error of somebody's may fail when it is printed, and the test's time may end while
        # we tell; the session goes on.
        except (Exception, pytest.fail.Exception) as trouble:  # noqa: BLE001
            report.sections.append(("harness", f"cannot be told: {type(trouble).__name__}"))
    place = item.stash.get(PLACE, None)
    daemons = [item.config.stash[ASKED], None if place is None else place.wish.daemon]
    if secrets := {daemon.token for daemon in daemons if daemon is not None and daemon.token}:
        through_an_alarm(partial(hide, secrets, report))


def _add_sections(item: pytest.Item, report: pytest.TestReport, error: BaseException) -> None:
    place = item.stash.get(PLACE, None)
    file, line, statement = met_at(item, error)
    reason = list(_reason(report, error, statement=statement))
    rows: list[Row] = []
    logs: dict[str, str] = {}
    if place is not None:
        rows += _state(place, error)
        # Once: what is written meanwhile would be shown, of a log that is called empty.
        logs = _logs(place)
        rows.append(("run", f"{_relative(place.path)} ({_files(place, logs)})"))
    rows.append(("again", repeat_command(item)))
    report.sections.append(("harness", _table([*reason, *rows])))
    # After a failed call the tear-down has nothing new to show.
    if place is not None and not (report.when == "teardown" and item.stash.get(FAILED, False)):
        report.sections += _pictures(place, logs)
    # For annotations: there is nothing else beside them.
    full = [*reason[:-1], ("seen", _text(error))] if _is_told_whole(error) else reason
    told = _table([*full, *rows])
    report.harness_annotation = (file, line, told)  # type: ignore[attr-defined]


def _table(rows: Iterable[Row]) -> str:
    # A text of several lines stays under its own column.
    return "\n".join(f"{label:10}{text}".replace("\n", "\n" + " " * 10) for label, text in rows)


def _reason(report: pytest.TestReport, error: BaseException, *, statement: str) -> Iterator[Row]:
    phase = _PHASES.get(str(report.when), "doing")
    for label, text in account(error, statement=statement):
        if label == "seen" and isinstance(error, pytest.fail.Exception):
            # Its own name says nothing.
            yield label, _text(error).split("\n", 1)[0]
        else:
            yield (phase if label == "doing" else label), text


def _is_told_whole(error: BaseException) -> bool:
    """Whether an error's text was made for people: ours, and `pytest.fail`."""
    return isinstance(error, HarnessError | pytest.fail.Exception)


def _text(error: BaseException) -> str:
    if isinstance(error, HarnessError):
        return f"{type(error).__name__}: {error}"
    return str(error) or type(error).__name__


def _state(place: Place, error: BaseException) -> Iterator[Row]:
    yield from place.ended()
    for line in place.limits_hit():
        yield "limit", line
    if _was_up(place):
        try:
            yield from _faults(place, place.history(), error)
        except _UNREADABLE as trouble:
            yield "record", f"cannot be read: {in_words(trouble)}"


def _was_up(place: Place) -> bool:
    return place.environment is not None or (place.path / "environment.json").exists()


def _faults(place: Place, history: History, error: BaseException) -> Iterator[Row]:
    causes = set(map(id, behind(error)))
    on = [
        injection.name
        for injection in place.injections
        if injection.in_place or id(injection.left_by) in causes
    ]
    told = fault_lines(history, in_place=on, proxy_tells=place.proxy_tells)
    for injection in place.injections:
        if not injection.entered:
            said = fault_said(injection.fault.type, injection.settings())
            told.append(f"never put on: {said} (write `async with env.inject(...):`)")
    for line in told or ["none was injected"]:
        yield "fault", line


def _files(place: Place, logs: Mapping[str, str]) -> str:
    names = ["history.jsonl"]
    if _was_up(place):
        names.append("environment.json")
    names += [name for name, text in logs.items() if text]
    empty = [name for name, text in logs.items() if not text]
    nothing = f"; {' and '.join(empty)} empty" if empty else ""
    return ", ".join(names) + nothing


def _logs(place: Place) -> dict[str, str]:
    try:
        return place.logs()
    except _UNREADABLE as trouble:
        return {"logs": f"(cannot be read: {in_words(trouble)})"}


def _pictures(place: Place, logs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Sections: the timeline, and the end of each log that says anything."""
    width = max(_LEAST_WIDTH, shutil.get_terminal_size((_LEAST_WIDTH, 24)).columns)
    try:
        history = place.history()
        effects = _effects(place)
    except _UNREADABLE as trouble:
        yield "harness timeline", f"(cannot be drawn: {in_words(trouble)})"
    else:
        # That a proxy was made is no story.
        if any(op.f not in ("enabled", "started", "log") for op in history.ops):
            yield "harness timeline", timeline(history, effects=effects, width=width)
    for name, text in logs.items():
        lines = text.splitlines()
        part = f", last {_LOG_LINES} of {len(lines)} lines" if len(lines) > _LOG_LINES else ""
        if lines:
            yield f"harness {name}{part}", "\n".join(lines[-_LOG_LINES:])


def _effects(place: Place) -> list[Effect]:
    environment = place.environment
    if environment is not None and environment.abilities.get("effects") is None:
        return environment.effects()
    file = place.path / "effects.jsonl"
    return read_lines(file.read_bytes(), Effect)[0] if file.exists() else []


def _relative(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def repeat_command(item: pytest.Item) -> str:
    """
    What carries this test out again, from where pytest was started: with its seed, and what
    else the command line and the environment gave.
    """
    settings = item.config.stash[SETTINGS]
    given = {**settings.given, "harness_seed": str(settings.seed)}
    run = item.stash.get(RUN, None)
    if run is not None:
        given["harness_only_run"] = str(run.number)
    file, colons, names = own_id(item).partition("::")
    there = os.path.relpath(item.config.rootpath / file, item.config.invocation_params.dir)
    command = ["pytest", f"{there}{colons}{names}"]
    for name in _AGAIN:
        if name in given:
            command += [_flag(name), given[name]]
    if settings.strict and "harness_strict" in given:
        command.append(_flag("harness_strict"))
    if "harness_only_run" in given:
        command += [_flag("harness_only_run"), given["harness_only_run"]]
    return shlex.join([*command, *_of_pytest(item.config)])


def _of_pytest(config: pytest.Config) -> Iterator[str]:
    """What else was given that may change a test: another ini file, plugins, their modes."""
    # A worker of pytest-xdist is told the arguments of its controller.
    given = getattr(config, "workerinput", {}).get("mainargv", config.invocation_params.args)
    told: dict[tuple[str, ...], None] = {}
    for n, arg in enumerate(given):
        # With its value in the next word, after "=", or, where it has one letter, at once.
        if arg in _OF_PYTEST:
            told[tuple(given[n : n + 2])] = None
        elif arg.partition("=")[0] in _OF_PYTEST or arg[:2] in ("-c", "-o", "-p", "-W"):
            told[arg,] = None
    for words in told:
        yield from words


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def tell_properties(item: pytest.Item) -> None:
    """Tell JUnit and other reports of a test's environment, or of the one it did not get."""
    place = item.stash[PLACE]
    told = {
        "harness_seed": str(place.wish.seed),
        "harness_run": str(place.path),
        "harness_isolation": place.wish.isolation,
    }
    if place.environment is not None:
        there = [name for name, why in place.environment.abilities.items() if why is None]
        told["harness_abilities"] = " ".join(there)
        if again := place.house.set_up_again:
            told[AGAIN] = "\n".join(again)
        if (resets := place.environment.stack.resets) is not None:
            told["harness_path"] = str(resets)
    others = [(name, value) for name, value in item.user_properties if name not in told]
    item.user_properties[:] = [*others, *told.items()]
