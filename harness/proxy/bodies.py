"""
Toxiproxy's JSON, read and written with Go's habits.

Keys match in any case, null means absent, unknown keys and what follows the first
value are ignored, whole numbers may not be written as fractions. Errors are JSON
labelled as text. Only what stands under our own key, `harness`, is read strictly.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from harness.proxy.proxies import NamedToxic, Own, Proxy

__all__ = [
    "Answer",
    "Refused",
    "Request",
    "error",
    "json_answer",
    "lowered",
    "own_of",
    "proxy_json",
    "toxic_json",
]


@dataclass(frozen=True)
class Answer:
    """Status, body and its content type (None: no body)."""

    status: int
    body: bytes = b""
    content_type: str | None = "application/json"


class Refused(Exception):
    """A request that is answered with an error of this status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Request:
    """A request's body and query."""

    def __init__(self, body: bytes, query: dict[str, list[str]]) -> None:
        self._body = body
        self.query = query

    def fields(self, shapes: dict[str, type]) -> dict[str, Any]:
        """
        The known fields of the body, as Go's JSON reader sees them.

        Keys match in any case, null means absent, unknown keys and what follows the
        first value are ignored.
        """
        text = self._body.decode("utf-8", "replace").lstrip()
        if not text:
            raise Refused(400, "bad request body: EOF")
        try:
            value, _ = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text)
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"bad request body: {error}") from None
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise Refused(400, f"bad request body: expected an object, found {_kind(value)}")
        known = {}
        for key, item in lowered(value).items():
            if key in shapes and item is not None:
                known[key] = _of_shape(item, shapes[key], key)
        return known


def _of_shape(value: Any, shape: type, key: str) -> Any:
    if shape is float and type(value) is int:
        # Beyond a float's range it is out of every range we have.
        return float(value) if abs(value) < 1 << 1000 else float("inf")
    if type(value) is not shape:
        found, expected = _kind(value), {str: "string", bool: "bool", dict: "object"}
        raise Refused(
            400,
            f"bad request body: json: cannot unmarshal {found} into field {key} "
            f"of type {expected.get(shape, 'number')}",
        )
    if isinstance(value, str):
        # Half a surrogate pair is no character: it could not be written back.
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    return value


def _no_constant(name: str) -> None:
    # Python's reader takes NaN and Infinity; JSON has neither.
    raise ValueError(f"{name} is no JSON")


def _kind(value: Any) -> str:
    names = {str: "string", bool: "bool", int: "number", float: "number", list: "array"}
    return names.get(type(value), "object" if isinstance(value, dict) else "null")


def lowered(value: dict[str, Any]) -> dict[str, Any]:
    """An object's fields by lower-case name, without the nulls."""
    return {key.lower(): item for key, item in value.items() if item is not None}


def own_of(fields: dict[str, Any]) -> Own:
    """
    What a proxy's fields carry under `harness`; nothing, where they have no such key.

    Raises:
        Refused: If anything else stands there, or nothing at all.
    """
    if "harness" not in fields:
        return Own()
    ours = fields["harness"]
    unknown = sorted(ours.keys() - {"seed", "tap"})
    if unknown or not ours:
        what = json.dumps(unknown) if unknown else "neither"
        raise Refused(400, f"harness takes nothing but seed and tap, found {what}")
    seed, tap = ours.get("seed"), ours.get("tap", False)
    if "seed" in ours and type(seed) is not int:
        found = seed if isinstance(seed, float) else _kind(seed)
        raise Refused(400, f"harness.seed was invalid, expected a whole number, found {found}")
    if type(tap) is not bool:
        raise Refused(400, f"harness.tap was invalid, expected a bool, found {_kind(tap)}")
    return Own(seed=seed, tap=tap)


def proxy_json(proxy: Proxy) -> dict[str, Any]:
    """
    A proxy as the API shows it.

    `Logger` is an accident that clients have come to model. `harness` is our own, and
    only there where it was given.
    """
    given = {
        **({} if proxy.own.seed is None else {"seed": proxy.own.seed}),
        **({"tap": True} if proxy.own.tap else {}),
    }
    ours = {"harness": given} if given else {}
    return {
        "name": proxy.name,
        "listen": str(proxy.listen),
        "upstream": str(proxy.upstream),
        "enabled": proxy.enabled,
        "Logger": {},
        "toxics": [toxic_json(entry) for entry in proxy.listed()],
        **ours,
    }


def toxic_json(entry: NamedToxic) -> dict[str, Any]:
    """A toxic as the API shows it."""
    toxicity = entry.toxic.toxicity
    return {
        "attributes": entry.toxic.attributes(),
        "name": entry.name,
        "type": entry.toxic.type,
        "stream": entry.toxic.stream,
        "toxicity": int(toxicity) if toxicity == int(toxicity) else toxicity,
    }


def json_answer(status: int, value: Any) -> Answer:
    """A JSON answer, with the three characters escaped that Go escapes."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Answer(status, text.encode())


def error(status: int, text: str) -> Answer:
    """An error answer."""
    body = json_answer(status, {"error": text, "status": status}).body + b"\n"
    return Answer(status, body, "text/plain; charset=utf-8")
