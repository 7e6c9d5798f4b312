"""
Settings: frozen values whose fields carry their own rules.

A component declares its settings beside itself, each key once: its default, what it may
be, the environment variable it is read from, whether a running daemon may change it, and
what a person should know. Checking, reading and documenting are all done from that.

    class BreakerSettings(Settings):
        open_s: float = key(60.0, above=0, about="how long it stays open")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from harness.complaints import Complaint, refused

__all__ = ["Key", "Settings", "complaint_about", "complaints_in", "key", "keys_of"]

# Where a key says no bound of its own; what is beyond would not survive being a float.
_MOST: Final = 2**53

_WORDS: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}


@dataclass(frozen=True, kw_only=True)
class Key:
    """
    The rules of one key.

    Attributes:
        about: What it is, in a few words; units are in the key's name.
        low: The least it may be.
        above: It must be more than this.
        high: The most it may be.
        variable: The environment variable it is read from, "" where there is none.
        live: Whether a running daemon takes up a change of it.
        secret: Whether its value may be shown to nobody.
        advice: When to change it, and to what.
        type: What it is: bool, int, float or str.
        choices: The texts it may be; empty where any will do.
        optional: Whether it may be absent (None; in a file, "none").
        default: Its value where nobody gave one.
    """

    about: str
    low: float | None = None
    above: float | None = None
    high: float | None = None
    variable: str = ""
    live: bool = True
    secret: bool = False
    advice: str = ""
    type: type = str
    choices: tuple[str, ...] = ()
    optional: bool = False
    default: Any = None

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        if self.choices:
            words = " or ".join(f'"{choice}"' for choice in self.choices)
        else:
            words = _WORDS[self.type] + self._range()
        return f'{words}, or "none"' if self.optional else words

    def _range(self) -> str:
        least = "" if self.low is None else f"at least {_digits(self.low)}"
        least = least if self.above is None else f"above {_digits(self.above)}"
        most = "" if self.high is None else f"at most {_digits(self.high)}"
        bounds = ", ".join(each for each in (least, most) if each)
        return f", {bounds}" if bounds else ""

    def holds(self, value: Any) -> bool:
        """Whether a value is one that this key may have."""
        if value is None:
            return self.optional
        if self.choices:
            return value in self.choices
        # Not isinstance: True is no number here; a whole number is a number.
        if type(value) is not self.type and (type(value), self.type) != (int, float):
            return False
        if self.type in (str, bool):
            return True
        # By comparison, which NaN never passes: a whole number may be too long for a float.
        return (
            -_MOST <= value <= _MOST
            and (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
        )


def key(
    default: Any,
    *,
    about: str,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    variable: str = "",
    live: bool = True,
    secret: bool = False,
    advice: str = "",
) -> Any:
    """A field of a `Settings` class. The arguments are `Key`'s; the rest of it is in the type."""
    rules = Key(
        about=about,
        low=low,
        above=above,
        high=high,
        variable=variable,
        live=live,
        secret=secret,
        advice=advice,
    )
    return field(default=default, repr=not secret, metadata={"key": rules})


def keys_of(settings: type[Settings]) -> Mapping[str, Key]:
    """The keys of a settings class, in the order they are written."""
    hints = get_type_hints(settings)
    return {each.name: _whole(each, hints[each.name]) for each in fields(settings)}


def _whole(declared: Field[Any], hint: Any) -> Key:
    rules: Key = declared.metadata["key"]
    optional = get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint)
    if optional:
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    assert declared.default is not MISSING
    written = {name: getattr(rules, name) for name in vars(rules)}
    written |= {"type": str if choices else hint, "choices": choices}
    return Key(**written | {"optional": optional, "default": declared.default})


def complaint_about(rules: Key, value: Any) -> str | None:
    """What is wrong with a value, None where nothing is."""
    if rules.holds(value):
        return None
    seen = "a value that is kept secret" if rules.secret else _shown(value)
    return f"expected {rules.allowed}, found {seen}"


def _digits(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def _shown(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, int) and value.bit_length() > 256:
        # Python shows no more than some thousand digits, and nobody reads those.
        return f"a whole number of {value.bit_length()} bits"
    text = f'"{value}"' if isinstance(value, str) else str(value).lower()
    return text if len(text) <= 80 else f"{text[:79]}…"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    Frozen values, checked when they are made.

    Raises:
        InvalidValue: With everything that is wrong with them.
    """

    def __post_init__(self) -> None:
        complaints = complaints_in(self.__class__, vars(self))
        if complaints:
            raise refused(type(self).__name__, complaints)

    def contradictions(self) -> Iterable[tuple[tuple[str, ...], str]]:
        """
        What is wrong between keys that are right by themselves.

        Yields:
            The keys it is about, the one to complain of first, and a sentence.
        """
        return ()


def complaints_in(settings: type[Settings], values: Mapping[str, Any]) -> list[Complaint]:
    """
    All that is wrong with values that settings are to be made of.

    Args:
        settings: What they are to become.
        values: By key. A key that is absent has its default; one that is not known is no concern
            of this function.
    """
    draft = object.__new__(settings)
    complaints: list[Complaint] = []
    for name, rules in keys_of(settings).items():
        value = values.get(name, rules.default)
        wrong = complaint_about(rules, value)
        if wrong is not None:
            complaints.append((name, wrong))
            value = rules.default
        object.__setattr__(draft, name, value)
    bad = {name for name, _ in complaints}
    between = [(names[0], text) for names, text in draft.contradictions() if not bad & set(names)]
    return complaints + between
