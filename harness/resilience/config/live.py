"""
A configuration that changes while the daemon runs.

Rule: a change is taken up as a whole or not at all; a reader sees the old one or the new one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final

from harness.resilience.config.loading import Loaded
from harness.resilience.config.sections import KEYS, SECTIONS, Config

__all__ = ["HIDDEN", "Change", "Differences", "Live", "differences"]

HIDDEN: Final = "(secret)"
"""What stands in the place of a secret."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """
    One value that is another now.

    Attributes:
        name: "section.key".
        old: What it was; `HIDDEN` where it is a secret.
        new: What it is to be; `HIDDEN` where it is a secret.
        origin: Where the new one came from.
    """

    name: str
    old: Any
    new: Any
    origin: str

    def __str__(self) -> str:
        return f"{self.name}: {_shown(self.old)} to {_shown(self.new)} ({self.origin})"


@dataclass(frozen=True, kw_only=True)
class Differences:
    """
    What is another in a new configuration.

    Attributes:
        live: What a running daemon takes up.
        restart: What waits for its next start.
    """

    live: tuple[Change, ...] = ()
    restart: tuple[Change, ...] = ()


def differences(old: Loaded, new: Loaded) -> Differences:
    """The values that differ, in the order of the keys. Where they came from does not count."""
    changes = [
        Change(
            name=name,
            old=HIDDEN if rules.secret else old.config.value(name),
            new=HIDDEN if rules.secret else new.config.value(name),
            origin=new.origin(name),
        )
        for name, rules in KEYS.items()
        if old.config.value(name) != new.config.value(name)
    ]
    return Differences(
        live=tuple(each for each in changes if KEYS[each.name].live),
        restart=tuple(each for each in changes if not KEYS[each.name].live),
    )


@dataclass(frozen=True, eq=False)
class _Observer:
    adopt: Callable[[Config], None]
    check: Callable[[Config], None]


class Live:
    """
    The configuration that a daemon goes by now.

    Reading takes no lock: each property reads one attribute. Changes come one after another.

    Args:
        loaded: What it begins with.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._pending: tuple[Change, ...] = ()
        self._observers: tuple[_Observer, ...] = ()
        # One that is held already lets the same thread in: an observer may apply a change.
        self._changing = threading.RLock()

    @property
    def config(self) -> Config:
        """The values that hold now."""
        return self._loaded.config

    @property
    def loaded(self) -> Loaded:
        """The same, with where each came from."""
        return self._loaded

    @property
    def pending(self) -> tuple[Change, ...]:
        """What the last change wanted and a restart must bring."""
        return self._pending

    def watch(
        self,
        adopt: Callable[[Config], None],
        *,
        check: Callable[[Config], None] | None = None,
    ) -> Callable[[], None]:
        """
        Be told of changes.

        Args:
            adopt: Called with the configuration that holds, after each change of a live value.
                It should not raise. Where it does, the others are told all the same, the new
                configuration holds, and what it raised comes out of `apply`.
            check: Called before with the configuration that is to hold. It refuses it by raising
                InvalidValue; then nobody is told and the old one stays.

        Returns:
            What ends it.
        """
        observer = _Observer(adopt, check or _any)
        with self._changing:
            self._observers = (*self._observers, observer)
        return lambda: self._forget(observer)

    def _forget(self, observer: _Observer) -> None:
        with self._changing:
            self._observers = tuple(each for each in self._observers if each is not observer)

    def apply(self, new: Loaded) -> Differences:
        """
        Take up what is live of a new configuration; the rest stays as it was, and is pending.

        Returns:
            What changed, and what is pending.

        Raises:
            InvalidValue: If an observer refuses it, or if its live values contradict those that
                stay; then the old one stays as it was.
        """
        with self._changing:
            old = self._loaded
            found = differences(old, new)
            mixed = _mixed(old, new, found)
            observers = self._observers if found.live else ()
            for observer in observers:
                observer.check(mixed.config)
            self._loaded, self._pending = mixed, found.restart
            # A stack calls all of them, also where one raises.
            with ExitStack() as told:
                for observer in reversed(observers):
                    told.callback(observer.adopt, mixed.config)
            return found

    def reload(self) -> Differences:
        """
        Read the sources of what was applied last again, and apply what they say now.

        Raises:
            InvalidValue: As `apply`, or with all that is wrong in the sources; then the old
                configuration stays as it was.
        """
        with self._changing:
            return self.apply(self.loaded.sources.load())


def _mixed(old: Loaded, new: Loaded, found: Differences) -> Loaded:
    """The new one with the old values where only a restart may change them."""
    kept = {change.name for change in found.restart}
    if not kept:
        return new
    sections = {}
    for section in SECTIONS:
        values = {
            name.partition(".")[2]: old.config.value(name)
            for name in kept
            if name.startswith(f"{section}.")
        }
        sections[section] = replace(getattr(new.config, section), **values)
    origins = {name: (old if name in kept else new).origin(name) for name in KEYS}
    return replace(new, config=Config(**sections), origins=origins)


def _any(config: Config) -> None:
    """An observer that takes any configuration."""


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
