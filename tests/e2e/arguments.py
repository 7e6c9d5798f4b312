"""
What may be given to a tool, and what may not, derived from its inputSchema.

Arguments are JSON texts: 1.0 and 1 are the same number, and not the same text. Which of them are
valid nobody says here; whoever tries them asks the schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from hypothesis import strategies as st

__all__ = ["NO_OBJECTS", "derived", "drawn"]

NO_OBJECTS: Final = ("null", "[]", "[{}]", '"{}"', "7", "true")
"""In the place of all arguments."""

_HUGE: Final = 1 << 20
_STRANGE: Final = 'grüß\x00dich \U0001f600 e\u0301 \u202e\u2028\ufeff"\\/\x7f'
_OF_ANY_TYPE: Final = (
    *("null", "true", "false", "0", "1", "1.0", "1.5", "-1"),
    *('""', '"1"', '"true"', '"null"', "[]", "[1]", '["x"]', "{}", '{"text": "x"}'),
)
_NAMES: Final = ("", "unheard_of", "ünerhört", "__proto__", "a" * 5000)

Schema = Mapping[str, Any]


def derived(schema: Schema) -> list[str]:
    """
    The arguments of a tool at every edge of its schema, and beyond.

    Args:
        schema: An object's: its properties are whole numbers or strings.
    """
    properties, required = schema["properties"], schema["required"]
    plain = {name: _plain(rules) for name, rules in properties.items()}
    least = {name: plain[name] for name in required}
    found = [_text(least), _text(plain), _text(dict(reversed(plain.items()))), "{}"]
    found += [_text({key: value for key, value in plain.items() if key != name}) for name in plain]
    found += [_text({**plain, name: value}) for name in _NAMES for value in ("null", "1")]
    found += [_text({**plain, name.upper(): plain[name]}) for name in plain]
    found += [_text({**plain, f" {name}": plain[name]}) for name in plain]
    for name, rules in properties.items():
        values = [*_OF_ANY_TYPE, *_edges(rules)]
        found += [_text({**base, name: value}) for base in (plain, least) for value in values]
    for edge in range(4):
        # All of them together at one edge: the least, the most, and one beyond.
        found.append(_text({name: _edges(rules)[edge] for name, rules in properties.items()}))
    found.append(" {\n\t" + _text(plain)[1:-1].replace(":", " : ") + " } ")
    return list(dict.fromkeys(found))


def _text(values: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in values.items()) + "}"


def _plain(rules: Schema) -> str:
    """A value that fits, and costs nothing."""
    return _edges(rules)[0]


def _edges(rules: Schema) -> list[str]:
    """The least, the most, one below, one above; then how else numbers and strings are written."""
    if rules["type"] == "integer":
        low, high = rules["minimum"], rules["maximum"]
        found = [low, high, low - 1, high + 1, low + 1, high - 1, 10**30, -(10**30)]
        numbers = [*map(str, found), f"{low}.0", f"{high}.0", f"{low}.5", f"{high}e0", f"{high}.01"]
        return [*numbers, "1e3", "1E0", "10e-1", "1e-1", "-0", "-0.0", "1e30", "1e400"]
    low, high = rules.get("minLength", 0), rules.get("maxLength")
    most = 1000 if high is None else high
    texts = ["x" * low, "x" * most, "x" * max(0, low - 1), "x" * (most + 1)]
    # A character beyond the first 65,536 is one, whatever it is made of.
    texts += ["\U0001f600" * most, "\U0001f600" * (most + 1), "e\u0301" * most, _STRANGE]
    texts += ["x" * _HUGE, "\x00", " ", "\n"]
    written = [json.dumps(text, ensure_ascii=False) for text in texts]
    return [*written, json.dumps(_STRANGE), r'"\u0041\/\ud83d\ude00"']


def drawn(schema: Schema) -> st.SearchStrategy[str]:
    """Arguments that nearly fit: perhaps one of them is missing, odd, or too many."""
    properties = schema["properties"]
    fitting = st.fixed_dictionaries(
        {name: _values(rules) for name, rules in properties.items() if name in schema["required"]},
        optional={
            name: _values(rules)
            for name, rules in properties.items()
            if name not in schema["required"]
        },
    )
    names = st.sampled_from(sorted(properties)) | st.text(max_size=10)
    odd = st.builds(lambda values, name, value: {**values, name: value}, fitting, names, _ANY)
    short = st.builds(
        lambda values, name: {key: value for key, value in values.items() if key != name},
        fitting,
        st.sampled_from(sorted(properties)),
    )
    return (fitting | odd | short).map(json.dumps)


def _values(rules: Schema) -> st.SearchStrategy[Any]:
    if rules["type"] == "integer":
        low, high = rules["minimum"], rules["maximum"]
        near = st.integers(low, min(high, low + 20)) | st.integers(low, high)
        return near | near.map(float)
    return st.text(min_size=rules.get("minLength", 0), max_size=min(40, rules.get("maxLength", 40)))


_ANY: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
