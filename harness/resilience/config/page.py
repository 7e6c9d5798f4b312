"""The part of docs/configuration.md that is made from the code: every key, in Markdown."""

from __future__ import annotations

from typing import Any, Final

from harness.errors import InvalidValue
from harness.resilience.config.presets import ABOUT, PRESETS
from harness.resilience.config.sections import SECTIONS
from harness.resilience.settings import Key, keys_of

__all__ = ["BEGIN", "END", "keys_page", "with_keys"]

BEGIN: Final = "<!-- Made by `make docs`; what is written here is lost. -->"
END: Final = "<!-- Made until here. -->"

_HEAD: Final = f"""\
| key | default | {" | ".join(PRESETS)} | allowed | variable | change | meaning |
|---|---|{"---|" * len(PRESETS)}---|---|---|---|"""


def keys_page() -> str:
    """Every preset and every key, as Markdown that ends with a newline."""
    presets = "\n".join(f"- `{name}`: {about}" for name, about in ABOUT.items())
    sections = "\n\n".join(_section(name) for name in SECTIONS)
    return f"{presets}\n\nA preset's column is empty where the default holds.\n\n{sections}\n"


def with_keys(page: str) -> str:
    """
    A page with what stands between its two markers made anew.

    Raises:
        InvalidValue: If it does not have each marker once, in their order.
    """
    before, begin, rest = page.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not (begin and end) or END in after or BEGIN in after:
        raise InvalidValue(
            "the page does not have the two markers once each, on lines of their own",
            [("begin", BEGIN), ("end", END)],
        )
    return f"{before}{begin}\n{keys_page()}\n{end}{after}"


def _section(section: str) -> str:
    doc = (SECTIONS[section].__doc__ or "").strip().partition("\n")[0]
    rows = [_row(f"{section}.{key}", rules) for key, rules in keys_of(SECTIONS[section]).items()]
    return "\n".join([f"### `[{section}]`", "", doc, "", _HEAD, *rows])


def _row(name: str, rules: Key) -> str:
    values = [_value(preset[name]) if name in preset else "" for preset in PRESETS.values()]
    variable = f"`{rules.variable}`" if rules.variable else ""
    cells = [
        f"`{name.partition('.')[2]}`",
        _value(rules.default),
        *values,
        "by its variable alone" if rules.secret else rules.allowed,
        variable,
        "live" if rules.live else "restart",
        f"{rules.about}. {_sentence(rules.advice)}" if rules.advice else rules.about,
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _value(value: Any) -> str:
    """A value as it may be written in TOML."""
    if value is None:
        return '`"none"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{value:_}`" if value >= 10_000 else f"`{value}`"
