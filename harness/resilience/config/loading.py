"""
Sources to a configuration, with where each value came from, or all complaints at once.

In this order, and what comes later wins: the defaults, a preset, a TOML file, environment
variables, arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from harness.complaints import Complaint, did_you_mean, found, refused
from harness.errors import InvalidValue
from harness.resilience.config.presets import PRESETS
from harness.resilience.config.sections import KEYS, SECTIONS, Config, contradictions
from harness.resilience.config.sources import (
    PRESET,
    Given,
    Layer,
    of_arguments,
    of_environment,
    of_file,
    of_preset,
)
from harness.resilience.settings import Key, Settings, complaint_about, complaints_in

__all__ = ["DEFAULT", "Loaded", "Sources", "joined", "load"]

DEFAULT: Final = "default"
"""The origin of what nobody gave."""

_PRESETS: Final = Key(about="the preset", choices=tuple(PRESETS))
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Sources:
    """
    Where a configuration is read from, again and again.

    Attributes:
        file: The TOML file, None for none.
        environment: The variables, such as `os.environ`; read anew each time.
        arguments: By "section.key", or "preset": a text, or what it stands for.
    """

    file: Path | None = None
    # Both may hold secrets.
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def load(self) -> Loaded:
        """
        Read all of them.

        Raises:
            InvalidValue: With everything that is wrong in any of them.
        """
        return joined(self.layers(), sources=self)

    def layers(self) -> list[Layer]:
        """What each of them gives; a later one wins. A program may put its own below."""
        layers = [] if self.file is None else [of_file(self.file)]
        return [*layers, of_environment(self.environment), of_arguments(self.arguments)]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """
    A configuration that knows where it came from.

    Attributes:
        config: The values.
        preset: The preset they stand on, None for the defaults alone.
        origins: Where each value came from, by "section.key"; those not in it are defaults.
        sources: What it was read from.
    """

    config: Config = field(default_factory=Config)
    preset: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict, repr=False)
    sources: Sources = field(default_factory=Sources)

    def origin(self, name: str) -> str:
        """
        Where the value of "section.key" came from.

        Returns:
            default, preset "production", file daemon.toml, environment EXAI_WS_PORT, argument.

        Raises:
            InvalidValue: If there is no such key.
        """
        if name not in KEYS:
            raise InvalidValue(f'"{name}" is no key{did_you_mean(name, KEYS)}')
        return self.origins.get(name, DEFAULT)


def load(
    file: Path | None = None,
    *,
    environment: Mapping[str, str] = _NOTHING,
    arguments: Mapping[str, Any] = _NOTHING,
) -> Loaded:
    """
    Read a configuration. The arguments are those of `Sources`.

    Raises:
        InvalidValue: With everything that is wrong in any of the sources.
    """
    return Sources(file=file, environment=environment, arguments=arguments).load()


def joined(layers: list[Layer], *, sources: Sources) -> Loaded:
    """
    One configuration of all layers; a later one wins, and the preset they name is below them.

    A value is judged where it stands, also where a later one hides it: what hides it may go.

    Raises:
        InvalidValue: With everything that is wrong in any of them.
    """
    complaints = [complaint for layer in layers for complaint in layer.complaints]
    named = [layer.preset for layer in layers if layer.preset is not None]
    complaints += [(PRESET, text) for each in named if (text := _about_preset(each))]
    known = not named or not _about_preset(named[-1])
    preset = named[-1].value if named and known else None
    below = [] if preset is None else [of_preset(preset)]
    given: dict[str, Given] = {}
    for layer in [*below, *layers]:
        complaints += _hidden(given, layer)
        given |= layer.values
    # Beside what a preset that nobody knows would have said, much may seem contradictory.
    config, wrong = _config(given, with_contradictions=known)
    complaints += wrong
    if complaints:
        raise refused("configuration", complaints)
    origins = {name: each.origin for name, each in given.items()}
    return Loaded(config=config, preset=preset, origins=origins, sources=sources)


def _about_preset(named: Given) -> str:
    """What is wrong with the name of a preset; "" where nothing is."""
    name = named.value
    if not isinstance(name, str):
        return f"expected {_PRESETS.allowed}, found {found(name)} ({named.origin})"
    text = complaint_about(_PRESETS, name)
    return f"{text}{did_you_mean(name, PRESETS)} ({named.origin})" if text else ""


def _hidden(given: Mapping[str, Given], layer: Layer) -> list[Complaint]:
    """What is wrong with the values that a layer takes the place of."""
    hidden = [(name, given[name].value) for name in layer.values if name in given]
    judged = [(name, complaint_about(KEYS[name], value)) for name, value in hidden]
    return [_told(name, text, given) for name, text in judged if text is not None]


def _config(
    given: Mapping[str, Given], *, with_contradictions: bool
) -> tuple[Config, list[Complaint]]:
    """The configuration, and what is wrong with it; where anything is, it is a stand-in."""
    complaints: list[Complaint] = []
    sections: dict[str, Settings] = {}
    for section, settings in SECTIONS.items():
        values = {
            name.removeprefix(f"{section}."): each.value
            for name, each in given.items()
            if name.startswith(f"{section}.")
        }
        wrong = complaints_in(settings, values)
        sections[section] = settings() if wrong else settings(**values)
        for key, text in wrong:
            name = f"{section}.{key}"
            if with_contradictions or not _holds(name, given):
                complaints.append(_told(name, text, given))
    draft = object.__new__(Config)
    vars(draft).update(sections)
    spoiled = {name.partition(".")[0] for name, _ in complaints}
    for names, text in contradictions(draft) if with_contradictions else ():
        if not spoiled & {name.partition(".")[0] for name in names}:
            complaints.append(_told(names[0], text, given))
    return draft, complaints


def _holds(name: str, given: Mapping[str, Given]) -> bool:
    """Whether a value is right by itself."""
    return name not in given or KEYS[name].holds(given[name].value)


def _told(name: str, text: str, given: Mapping[str, Given]) -> Complaint:
    return name, f"{text} ({given[name].origin if name in given else DEFAULT})"
