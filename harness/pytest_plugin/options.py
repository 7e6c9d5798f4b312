"""
What can be set: on the command line, in the environment, in the ini file, in that order.

Rule: nothing heavy is imported here; pytest loads this file on every run.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pytest

__all__ = ["ISOLATIONS", "PATHS", "Settings", "add_options", "read_settings"]

ISOLATIONS: Final = ("proxy", "daemon", "environment")

# As `environment.paths` has them, which would import what is heavy.
PATHS: Final = ("bridge", "loopback", "published")

_IS_NOT: Final = {
    "string": "is no text",
    "int": "is no whole number",
    "bool": "is neither true nor false",
}
# How pytest says so; which of them hangs on its version.
_OF_ANOTHER_KIND: Final = (TypeError, ValueError, pytest.UsageError)


def _number(text: str) -> int:
    digits = text.removeprefix("-")
    # Longer ones go into no proxy's API.
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise ValueError("a whole number of at most 18 digits")
    return int(text)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 18 and int(text) > 0):
        raise ValueError("a whole number, 1 or more")
    return int(text)


def _isolation(text: str) -> str:
    if text not in ISOLATIONS:
        raise ValueError(" or ".join(ISOLATIONS))
    return text


def _switch(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError("true or false")
    return words[text.lower()]


def _text(text: str) -> str:
    if not text:
        raise ValueError("a text that is not empty")
    return text


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"{', '.join(words[:-1])} or {words[-1]}")
        return text

    return read


def _path(text: str) -> str | None:
    return None if _one_of("auto", *PATHS)(text) == "auto" else text


def _proxy(text: str) -> str:
    if text not in ("embedded", "toxiproxy"):
        from harness.address import address_of_url
        from harness.errors import InvalidValue

        try:
            address_of_url(text, schemes=("http",))
        except InvalidValue:
            raise ValueError("embedded, toxiproxy, or http://host:port") from None
    return text


@dataclass(frozen=True)
class _Option:
    """
    One knob. `name` is its ini key; the option is --NAME and the variable NAME in capitals,
    with "_" and "-" as each has it. `type` is what a TOML file has for it.
    """

    name: str
    read: Callable[[str], Any]
    help: str
    metavar: str | None = None
    type: Literal["string", "int", "bool"] = "string"

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return self.name.upper()


_OPTIONS: Final = (
    _Option(
        "harness_daemon",
        _text,
        "whom to test: reference, ws://host:port/path, or a TOML file with a [daemon] table "
        "(default: [tool.harness.daemon] of pyproject.toml, else reference)",
        "DAEMON",
    ),
    _Option(
        "harness_backend",
        _one_of("local", "docker", "auto"),
        "where a daemon runs that is started here: local (a process), docker (a container), or "
        "auto: docker if the engine answers and the images are there, else local (default: local)",
        "BACKEND",
    ),
    _Option(
        "harness_proxy",
        _proxy,
        "what stands before it: embedded (our own), toxiproxy (the real one, in a container), or "
        "http://host:port, the API of a Toxiproxy that runs already (default: embedded)",
        "PROXY",
    ),
    _Option(
        "harness_path",
        _path,
        "how a daemon in a container is reached: bridge (its own address), loopback or published "
        "(ports of this machine), or auto: as this machine can (default: auto)",
        "PATH",
    ),
    _Option(
        "harness_seed",
        _number,
        "root seed of all draws (default: a fresh one, printed)",
        "N",
        "int",
    ),
    _Option(
        "harness_isolation",
        _isolation,
        "what each test gets fresh where its marker does not say: proxy, daemon or environment "
        "(default: the cheapest that is sound)",
        "LEVEL",
    ),
    _Option(
        "harness_runs_dir",
        _text,
        "where run directories are kept (default: runs, below the root directory)",
        "DIR",
    ),
    _Option(
        "harness_only_run",
        _positive,
        "of tests marked harness_runs carry out only run N, as a report names it",
        "N",
        "int",
    ),
    _Option(
        "harness_strict",
        _switch,
        "a test whose harness_needs are not met fails instead of being skipped",
        type="bool",
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """
    Register options and ini keys.

    Raises:
        pytest.UsageError: If another plugin has one of them already.
    """
    group = parser.getgroup("harness", "harness: a WebSocket daemon behind a fault-injecting proxy")
    for option in _OPTIONS:
        told = f"{option.help} [ini: {option.name}, environment: {option.variable}]"
        shape: dict[str, Any] = {"metavar": option.metavar}
        if option.metavar is None:
            shape = {"action": "store_const", "const": "true"}
        try:
            group.addoption(option.flag, dest=option.name, default=None, help=told, **shape)
            parser.addini(option.name, option.help, type=option.type, default=None)
        except (ValueError, argparse.ArgumentError) as error:
            raise pytest.UsageError(
                f"harness: {option.flag} belongs to another plugin already ({error})\n"
                "  next  leave that plugin out, or this one: -p no:harness"
            ) from None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    What was set. None: nothing was, and the default holds.

    Attributes:
        daemon_from: Who names the daemon, in words; None where nobody does.
        fresh_seed: Whether the seed was drawn and not given.
        given: What came from the command line or the environment, by ini key: what whoever
            repeats a test must give again.
    """

    daemon: str | None
    daemon_from: str | None
    backend: str
    path: Any
    proxy: str
    seed: int
    fresh_seed: bool
    isolation: str | None
    runs_dir: Path
    only_run: int | None
    strict: bool
    given: Mapping[str, str]


def read_settings(config: pytest.Config) -> Settings:
    """
    Read them all.

    Raises:
        pytest.UsageError: If values cannot be used; all complaints at once.
    """
    complaints: list[str] = []
    given: dict[str, str] = {}
    told = {option.name: _found(config, option, complaints, given) for option in _OPTIONS}
    found = {name: value for name, (value, _) in told.items()}
    if complaints:
        raise pytest.UsageError("\n".join(complaints))
    seed = found["harness_seed"]
    if seed is None:
        # A worker of pytest-xdist is told the seed that the header of its controller shows.
        seed = getattr(config, "workerinput", {}).get("harness_seed")
    # A shell's paths are relative to where it is, those of the ini file to the root directory.
    here = config.invocation_params.dir
    runs_base = here if "harness_runs_dir" in given else config.rootpath
    daemon = found["harness_daemon"]
    if "harness_daemon" in given and daemon.endswith(".toml"):
        daemon = str(here / daemon)
    return Settings(
        daemon=daemon,
        daemon_from=told["harness_daemon"][1],
        backend=found["harness_backend"] or "local",
        path=found["harness_path"],
        proxy=found["harness_proxy"] or "embedded",
        seed=_drawn() if seed is None else seed,
        fresh_seed=seed is None,
        isolation=found["harness_isolation"],
        runs_dir=runs_base / (found["harness_runs_dir"] or "runs"),
        only_run=found["harness_only_run"],
        strict=bool(found["harness_strict"]),
        given=given,
    )


def _drawn() -> int:
    # As `clock.fresh_seed`, which would import what is heavy.
    return int.from_bytes(os.urandom(4)) % 1_000_000


def _found(
    config: pytest.Config, option: _Option, complaints: list[str], given: dict[str, str]
) -> tuple[Any, str | None]:
    """
    The value from the first place that has one, and that place; on with the next where it
    cannot be used.
    """
    # A variable that is empty counts as not set; CI systems have no other way to unset one.
    variable = os.environ.get(option.variable) or None
    places = (
        (option.flag, config.getoption(option.name, None)),
        (f"the environment variable {option.variable}", variable),
    )
    for where, text in places:
        try:
            if text is not None:
                value = option.read(text)
                given[option.name] = text
                return value, where
        except ValueError as error:
            complaints.append(f'harness: "{text}" is not allowed for {where}; expected {error}')
    return _in_the_file(config, option, complaints)


def _in_the_file(
    config: pytest.Config, option: _Option, complaints: list[str]
) -> tuple[Any, str | None]:
    where = f"{option.name} in {config.inipath or 'the ini file'}"
    try:
        value = config.getini(option.name)
    except _OF_ANOTHER_KIND as error:
        # For some kinds pytest names key and file itself.
        said = (
            str(error) if option.name in str(error) else f"{where} {_IS_NOT[option.type]}: {error}"
        )
        complaints.append(f"harness: {said}")
        return None, None
    if value is None:
        return None, None
    try:
        return option.read(str(value)), where
    except ValueError as error:
        complaints.append(f'harness: "{value}" is not allowed for {where}; expected {error}')
    return None, None
