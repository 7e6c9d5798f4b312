"""
What can be set: on the command line, in the environment, in the ini file, in that order.

Rule: nothing heavy is imported here; pytest loads this file on every run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["ISOLATIONS", "Settings", "add_options", "read_settings"]

ISOLATIONS: Final = ("proxy", "daemon", "environment")


def _number(text: str) -> int:
    if not text.lstrip("-").isdecimal():
        raise ValueError("a whole number")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
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
        raise ValueError("something")
    return text


@dataclass(frozen=True)
class _Option:
    """
    One knob. `name` is its ini key; the option is --NAME and the variable NAME in capitals,
    with "_" and "-" as each has it.
    """

    name: str
    read: Callable[[str], Any]
    help: str
    metavar: str | None = None

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
        "harness_proxy",
        _text,
        "what stands before it: embedded (our own), or http://host:port, the API of a Toxiproxy "
        "that runs already (default: embedded)",
        "PROXY",
    ),
    _Option(
        "harness_seed",
        _number,
        "root seed of all draws (default: a fresh one, printed)",
        "N",
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
    ),
    _Option(
        "harness_strict",
        _switch,
        "a test whose harness_needs are not met fails instead of being skipped",
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
            parser.addini(option.name, option.help, default=None)
        except ValueError as error:
            raise pytest.UsageError(
                f"harness: {option.flag} belongs to another plugin already: {error}\n"
                "  next  leave that plugin out, or this one: -p no:harness"
            ) from None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    What was set. None: nothing was, and the default holds.

    Attributes:
        fresh_seed: Whether the seed was drawn and not given.
    """

    daemon: str | None
    proxy: str
    seed: int
    fresh_seed: bool
    isolation: str | None
    runs_dir: Path
    only_run: int | None
    strict: bool


def read_settings(config: pytest.Config) -> Settings:
    """
    Read them all.

    Raises:
        pytest.UsageError: If values cannot be used; all complaints at once.
    """
    complaints: list[str] = []
    found = {option.name: _found(config, option, complaints) for option in _OPTIONS}
    if complaints:
        raise pytest.UsageError("\n".join(complaints))
    seed = found["harness_seed"]
    if seed is None:
        # A worker of pytest-xdist is told the seed that the header of its controller shows.
        seed = getattr(config, "workerinput", {}).get("harness_seed")
    return Settings(
        daemon=found["harness_daemon"],
        proxy=found["harness_proxy"] or "embedded",
        seed=_drawn() if seed is None else seed,
        fresh_seed=seed is None,
        isolation=found["harness_isolation"],
        runs_dir=config.rootpath / (found["harness_runs_dir"] or "runs"),
        only_run=found["harness_only_run"],
        strict=bool(found["harness_strict"]),
    )


def _drawn() -> int:
    # As `clock.fresh_seed`, which would import what is heavy.
    return int.from_bytes(os.urandom(4)) % 1_000_000


def _found(config: pytest.Config, option: _Option, complaints: list[str]) -> Any:
    places = (
        (option.flag, config.getoption(option.name, None)),
        (f"the environment variable {option.variable}", os.environ.get(option.variable) or None),
        (f"{option.name} in {config.inipath or 'the ini file'}", config.getini(option.name)),
    )
    for where, text in places:
        if text is None or text == "":
            continue
        try:
            return option.read(str(text))
        except ValueError as error:
            complaints.append(f'harness: "{text}" is not allowed for {where}; expected {error}')
    return None
