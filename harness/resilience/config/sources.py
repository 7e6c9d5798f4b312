"""
What the sources of a configuration give, and what is wrong with it: a preset, a table of a
file, environment variables, arguments.

Nothing is raised here: a source gives a `Layer`, and complaints stand in it. Whether a value
may be what it is, is judged where all sources are known (`loading`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, Final

from harness.complaints import Complaint, did_you_mean, found
from harness.resilience.config.presets import PRESETS
from harness.resilience.config.sections import KEYS, SECTIONS
from harness.resilience.settings import Key, keys_of

__all__ = [
    "PRESET",
    "PRESET_VARIABLE",
    "Given",
    "Layer",
    "of_arguments",
    "of_environment",
    "of_file",
    "of_preset",
    "of_table",
    "of_text",
]

PRESET: Final = "preset"
"""The key that names a preset, at the top of a file and among arguments."""

PRESET_VARIABLE: Final = "EXAI_CONFIG_PRESET"
"""The environment variable that names a preset."""

_FLAGS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "yes", "1"), True),
    **dict.fromkeys(("false", "no", "0"), False),
}
_PLAIN: Final = (bool, int, float, str, NoneType)


@dataclass(frozen=True, kw_only=True)
class Given:
    """A value, and where it came from in words. It may be a secret, and may be wrong."""

    value: Any = field(repr=False)
    origin: str


@dataclass(kw_only=True)
class Layer:
    """
    What one source gives.

    Attributes:
        values: By "section.key"; only keys that there are.
        preset: The preset it names, None where it names none.
        complaints: What is wrong with it beside its values.
    """

    values: dict[str, Given] = field(default_factory=dict)
    preset: Given | None = None
    complaints: list[Complaint] = field(default_factory=list)


def of_preset(name: str) -> Layer:
    """The values of a preset that there is."""
    origin = f'preset "{name}"'
    values = {key: Given(value=value, origin=origin) for key, value in PRESETS[name].items()}
    return Layer(values=values)


def of_file(file: Path) -> Layer:
    """The values of a TOML file. One that cannot be read gives none, and a complaint."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        why = f"cannot be read: {error.strerror or error}; see that it is there, a file"
    except UnicodeDecodeError as error:
        why = f"is no TOML: byte {error.start} is not UTF-8; save it as UTF-8"
    # Beside its own error: numbers of too many digits, and brackets nested too deep.
    except (ValueError, RecursionError) as error:
        why = f"is no TOML: {error}; mend that line; texts stand in quotes"
    else:
        return of_table(table, origin=f"file {file}")
    return Layer(complaints=[(str(file), why)])


def of_table(table: Mapping[str, Any], *, origin: str) -> Layer:
    """The values of a table of sections."""
    layer = Layer()
    for section, values in table.items():
        if section == PRESET:
            layer.preset = Given(value=values, origin=origin)
        elif section not in SECTIONS:
            text = f"unknown section; expected {_listed(SECTIONS)}{did_you_mean(section, SECTIONS)}"
            layer.complaints.append((section, f"{text} ({origin})"))
        elif not isinstance(values, dict):
            text = f"expected a table, found {found(values)} ({origin})"
            layer.complaints.append((section, text))
        else:
            _read(layer, ((f"{section}.{key}", value) for key, value in values.items()), origin)
    return layer


def of_environment(variables: Mapping[str, str]) -> Layer:
    """
    The values of environment variables.

    One that is empty counts as not set: that is what Compose makes of one that nobody set.
    """
    layer = Layer()
    if name := variables.get(PRESET_VARIABLE):
        layer.preset = Given(value=name, origin=f"environment {PRESET_VARIABLE}")
    for key, rules in KEYS.items():
        if text := variables.get(rules.variable):
            origin = f"environment {rules.variable}"
            layer.values[key] = Given(value=of_text(rules, text), origin=origin)
    return layer


def of_arguments(arguments: Mapping[str, Any], *, origin: str = "argument") -> Layer:
    """The values of arguments by "section.key", texts or what they stand for."""
    layer = Layer()
    rest = dict(arguments)
    if (name := rest.pop(PRESET, None)) is not None:
        layer.preset = Given(value=name, origin=origin)
    _read(layer, rest.items(), origin, convert=_of_argument)
    return layer


def _read(
    layer: Layer,
    values: Iterable[tuple[str, Any]],
    origin: str,
    *,
    convert: Callable[[Key, Any], Any] | None = None,
) -> None:
    for name, value in values:
        rules = KEYS.get(name)
        if rules is None:
            layer.complaints.append((name, f"{_unknown(name)} ({origin})"))
        elif rules.secret:
            text = f"a secret has no place here; set the variable {rules.variable} ({origin})"
            layer.complaints.append((name, text))
        elif type(value) not in _PLAIN:
            text = f"expected {rules.allowed}, found {found(value)} ({origin})"
            layer.complaints.append((name, text))
        else:
            layer.values[name] = Given(value=(convert or _of_toml)(rules, value), origin=origin)


def _unknown(name: str) -> str:
    section, dot, key = name.partition(".")
    if dot and section in SECTIONS:
        known = keys_of(SECTIONS[section])
        return f"unknown key; {section} takes {_listed(known)}{did_you_mean(key, known)}"
    return f'unknown key; expected "section.key" of {_listed(SECTIONS)}{did_you_mean(name, KEYS)}'


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _of_toml(rules: Key, value: Any) -> Any:
    if rules.optional and value == "none":
        return None
    return value


def _of_argument(rules: Key, value: Any) -> Any:
    return of_text(rules, value) if isinstance(value, str) else _of_toml(rules, value)


def of_text(rules: Key, text: str) -> Any:
    """What a text stands for, by the type of its key; itself where it stands for nothing."""
    if rules.type is str or text == "none":
        return _of_toml(rules, text)
    if rules.type is bool:
        return _FLAGS.get(text.lower(), text)
    try:
        return _of_toml(rules, rules.type(text))
    except ValueError:
        return text
