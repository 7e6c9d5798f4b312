"""
JSON that nobody should send to a daemon, as Hypothesis' strategies.

It is made as text, for most of what is of interest no value of Python's would turn into: keys
twice, lone surrogates, numbers of a thousand digits. Most is nearly right, and some is.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Final

from hypothesis import strategies as st

from tests.integration.refdaemon_process import TOKEN

__all__ = ["MAX_BYTES", "SESSIONS", "payloads", "requests", "sane_requests"]

MAX_BYTES: Final = 20_000
"""The largest message of the daemon under test: small, so that its neighbourhood is cheap."""

SESSIONS: Final = ("fuzz-1", "fuzz-2", "fuzz-3")
"""Names of sessions that come again and again."""


# Values.

_ODD_TEXT: Final = (
    r'"\ud800"',
    r'"\udc00\ud800"',
    r'"\ud83d\ude00"',
    r'"\u0000"',
    r'"\x"',
    '"\ud800"',
    '"\x01"',
    '"\ufeff"',
    '"unterminated',
    '"' + "x" * 5000 + '"',
    '""',
)
_ODD_NUMBERS: Final = (
    "-0",
    "01",
    "1.",
    ".5",
    "1e999",
    "-1e999",
    "1e-999",
    "1E+400",
    "9" * 25,
    "-" + "9" * 400,
    "9" * 5000,
    "18446744073709551616",
    "9223372036854775808",
    "0.1",
    "NaN",
    "Infinity",
    "-",
)
_texts = st.text(max_size=20).map(json.dumps) | st.sampled_from(_ODD_TEXT)
_scalars = (
    st.sampled_from(("null", "true", "false", "", "nul"))
    | st.integers().map(str)
    | st.sampled_from(_ODD_NUMBERS)
    | _texts
)


def _array(items: list[str]) -> str:
    return f"[{','.join(items)}]"


def _object(pairs: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{name}:{value}" for name, value in pairs) + "}"


def _deep(opening: str, closing: str, depth: int) -> str:
    return opening * depth + "1" + closing * depth


_depths = st.sampled_from((10, 200, 900, 1000, 1500, 2500, 4000))
_anything: st.SearchStrategy[str] = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4).map(_array)
        | st.lists(st.tuples(_texts, inner), max_size=4).map(_object)
    ),
    max_leaves=8,
) | st.one_of(
    st.builds(partial(_deep, "[", "]"), _depths),
    st.builds(partial(_deep, '{"a":', "}"), _depths),
    st.builds(partial(_deep, "[", ""), _depths),
)


# Requests.

_request_ids = st.sampled_from(("1", "2", "3", "4")).map(json.dumps) | (
    st.text(max_size=8).map(json.dumps)
    | st.sampled_from(('"' + "i" * 3000 + '"', '"' + "ü" * 8000 + '"', r'"\u0041"'))
)
_words = st.text(max_size=20).map(json.dumps)


def _either(*texts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(texts)


# Nothing that is right here takes longer than some milliseconds: calls outlive their connections.
_TOOLS: Final[dict[str, dict[str, st.SearchStrategy[str]]]] = {
    "echo": {"text": _words},
    "echo_EXAI-WS": {"text": _words},
    "sleep": {"ms": _either("0", "1", "5"), "steps": _either("1", "2")},
    "counter": {"name": _either('"a"', '"b"'), "by": _either("1", "-1", "0", "1000000")},
    "fail": {"message": _words},
    "blob": {"size_bytes": _either("0", "1", "100", "70000")},
    "stream": {"chunks": _either("0", "1", "3"), "size_bytes": _either("1", "100")},
    "chat": {"prompt": _words, "delay_ms": _either("0", "1")},
    "no such tool": {},
}
_ODD_ARGUMENTS: Final = (
    *("-1", "0", "1001", "600001", "1000001", "16777217", "9223372036854775808", "1.5", "1e0"),
    *('"1"', '""', '"' + "n" * 201 + '"', "null", "[]", "{}"),
)
_OPS: Final[dict[str, dict[str, st.SearchStrategy[str]]]] = {
    "hello": {
        "token": _either(*[json.dumps(TOKEN)] * 4, json.dumps(TOKEN + " "), '""', "null"),
        "session_id": st.sampled_from(SESSIONS).map(json.dumps) | _words,
    },
    "call_tool": {
        "request_id": _request_ids,
        "key": _request_ids | st.just("null"),
        "timeout_ms": _either("1", "1000", "null"),
    },
    "list_tools": {"request_id": _request_ids},
    "ping": {"request_id": _request_ids},
    "health": {"request_id": _request_ids},
    "cancel": {"request_id": _request_ids},
    "reconfigure": {"request_id": _request_ids, "values": _either("{}"), "token": _words},
}


@st.composite
def _fields(
    draw: st.DrawFn, right: dict[str, st.SearchStrategy[str]], wrong: st.SearchStrategy[str]
) -> list[tuple[str, str]]:
    """Most of them right, some wrong, missing or there twice."""
    pairs = []
    for name, value in right.items():
        how = draw(st.sampled_from((*["right"] * 12, "wrong", "missing", "twice")))
        if how in ("right", "twice"):
            pairs.append((json.dumps(name), draw(value)))
        if how in ("wrong", "twice"):
            pairs.append((json.dumps(name), draw(wrong)))
    return pairs


@st.composite
def requests(draw: st.DrawFn, op: str) -> str:
    """A request of that op, most of it right."""
    pairs = [('"op"', json.dumps(op)), *draw(_fields(_OPS[op], _anything))]
    if op == "call_tool":
        tool = draw(st.sampled_from(sorted(_TOOLS)))
        arguments = draw(_fields(_TOOLS[tool], st.sampled_from(_ODD_ARGUMENTS) | _anything))
        called = {"name": st.just(json.dumps(tool)), "arguments": st.just(_object(arguments))}
        pairs += draw(_fields(called, _anything))
    if draw(st.integers(0, 9)) == 9:
        pairs.append((draw(_texts | st.just('"op"')), draw(_anything)))
    return _object(draw(st.permutations(pairs)))


@st.composite
def _mutated(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """Cut short, or with something put in or said twice."""
    text = draw(texts)
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, len(text)))
    inserted = draw(
        st.sampled_from(("", text[start:end], "\x00", "\ufeff", "\ud800", " ", ",", "}"))
    )
    return text[:start] + inserted + text[draw(st.sampled_from((start, end))) :]


@st.composite
def _near_the_limit(draw: st.DrawFn) -> str:
    """A ping or an echo that is just as long as may be, or a byte more or less."""
    head, tail = draw(
        st.sampled_from(
            (
                ('{"op":"ping","request_id":"1","filling":"', '"}'),
                ('{"op":"call_tool","request_id":"2","name":"echo","arguments":{"text":"', '"}}'),
                ('{"op":"ping","request_id":"', '"}'),
            )
        )
    )
    size = MAX_BYTES + draw(st.integers(-2, 2))
    return head + "x" * (size - len(head) - len(tail)) + tail


sane_requests = st.sampled_from((*["call_tool"] * 6, *_OPS)).flatmap(requests)
"""Requests of all kinds, calls above all."""


def _encoded(text: str) -> bytes:
    # A lone surrogate becomes bytes that are no UTF-8.
    return text.encode("utf-8", "surrogatepass")


def payloads(texts: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """Messages, mostly of that kind, as bytes."""
    others = [_mutated(texts), _anything, _near_the_limit(), st.text(max_size=30)]
    chosen = st.sampled_from((*[texts] * 12, *others)).flatmap(lambda kind: kind)
    return st.integers(0, 19).flatmap(
        lambda n: st.binary(max_size=40) if n == 19 else chosen.map(_encoded)
    )
