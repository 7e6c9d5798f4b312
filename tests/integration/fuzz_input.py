"""
What nobody should send to a daemon, as Hypothesis' strategies: bytes, HTTP requests, frames and
messages. What stands in messages is in `fuzz_requests`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st

from tests.integration.fuzz_requests import MAX_BYTES, payloads, requests, sane_requests
from tests.integration.refdaemon_process import BINARY, CONTINUATION, PING, TEXT, masked

__all__ = ["Message", "hellos", "messages", "raw_frames", "upgrades"]

_REQUEST_ID: Final = re.compile(r'"request_id"\s*:\s*("(?:[^"\\]|\\.)*")', re.DOTALL)
_CALL: Final = re.compile(r'"op"\s*:\s*"call_tool')


@dataclass(frozen=True)
class Message:
    """
    A message, and how it is cut into frames.

    Attributes:
        opcode: Text or binary.
        payload: All of it.
        cuts: Where one fragment ends and the next begins, in bytes.
        pings: Whether a ping stands between any two fragments.
    """

    opcode: int
    payload: bytes
    cuts: tuple[int, ...] = ()
    pings: bool = False

    def on_the_wire(self) -> bytes:
        """Its frames."""
        places = [0, *sorted({cut for cut in self.cuts if cut < len(self.payload)})]
        ends = [*places[1:], len(self.payload)]
        ping = masked(PING, b"between") if self.pings else b""
        return ping.join(
            masked(
                CONTINUATION if n else self.opcode,
                self.payload[start:end],
                fin=n == len(places) - 1,
            )
            for n, (start, end) in enumerate(zip(places, ends, strict=True))
        )

    def refused_with(self) -> int | None:
        """The code it closes its connection with, if it does."""
        if len(self.payload) > MAX_BYTES:
            return 1009
        if self.opcode == TEXT:
            try:
                self.payload.decode()
            except UnicodeDecodeError:
                return 1007
        return None

    def request_ids(self) -> set[str]:
        """Every id that an answer may carry; of those that stand there twice both."""
        text = self.payload.decode(errors="replace")
        found = set()
        for quoted in _REQUEST_ID.findall(text):
            try:
                found.add(json.loads(quoted, strict=False))
            except ValueError:
                continue
        return found

    def may_be_call(self) -> bool:
        """Whether its answer may come when a tool has done its work."""
        return _CALL.search(self.payload.decode(errors="replace")) is not None

    def call(self) -> tuple[str, str] | None:
        """Its request id and its key, if it is a call without doubt."""
        if self.refused_with() or self.payload.count(b"[") + self.payload.count(b"{") > _NESTED:
            return None
        try:
            said = json.loads(
                self.payload.decode(),
                object_pairs_hook=_once,
                parse_int=_small,
                parse_constant=_refuse,
            )
            # No lone surrogates, and no number that became infinite.
            json.dumps(said, ensure_ascii=False, allow_nan=False).encode()
        except ValueError:
            return None
        if not isinstance(said, dict) or said.get("op") != "call_tool":
            return None
        request_id = said.get("request_id")
        return (request_id, repr(said.get("key"))) if isinstance(request_id, str) else None


_NESTED: Final = 300
_DIGITS: Final = 15


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _small(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError("decoders differ in what they make of it")
    return int(digits)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


_cuts = st.lists(st.integers(0, 200) | st.integers(0, MAX_BYTES), max_size=5).map(tuple)


def _cut(payloads: st.SearchStrategy[bytes]) -> st.SearchStrategy[Message]:
    whole = st.builds(Message, st.sampled_from((TEXT, TEXT, BINARY)), payloads)
    parts = st.builds(
        Message, st.sampled_from((TEXT, TEXT, BINARY)), payloads, _cuts, st.booleans()
    )
    return whole | parts


messages = st.lists(_cut(payloads(sane_requests)), min_size=1, max_size=6)
"""What may come on a connection that was welcomed: whole messages, in proper frames."""

hellos = _cut(payloads(requests("hello")))
"""What may come first."""


# Below messages.

_first_bytes = st.sampled_from((0x81, 0x81, 0x82, 0x88, 0x89, 0x8A, 0x01, 0x80))
_SIZES: Final = (0, 1, 125, 126, 127, 200, 65_535, 65_536, MAX_BYTES + 1, 1 << 31, 1 << 62)


@st.composite
def _raw_frame(draw: st.DrawFn) -> bytes:
    """A frame in whose header one thing is as it likes, or none."""
    odd = draw(st.sampled_from(("nothing", "nothing", "first", "size", "form", "mask")))
    first = draw(st.integers(0, 255) if odd == "first" else _first_bytes)
    payload = draw(st.binary(max_size=125) | st.just(b'{"op":"ping","request_id":"1"}'))
    said = draw(st.sampled_from(_SIZES)) if odd == "size" else len(payload)
    mask_bit = 0 if odd == "mask" else 0x80
    if odd == "form":
        length = bytes([mask_bit | 126]) + said.to_bytes(2, "big")
    elif said < 126:
        length = bytes([mask_bit | said])
    else:
        length = bytes([mask_bit | 127]) + said.to_bytes(8, "big")
    key = draw(st.binary(min_size=4, max_size=4)) if mask_bit else b""
    mask = (key or bytes(4)) * (len(payload) // 4 + 1)
    return bytes([first]) + length + key + bytes(x ^ y for x, y in zip(payload, mask, strict=False))


raw_frames = st.lists(
    _raw_frame() | _cut(payloads(sane_requests)).map(Message.on_the_wire) | st.binary(max_size=60),
    min_size=1,
    max_size=6,
).map(b"".join)
"""Bytes after the upgrade: frames good and bad, and no frames at all."""

_HEADERS: Final = (
    "Host: x",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)
_ODD_HEADERS: Final = (
    "Upgrade: h2c",
    "Connection: keep-alive, Upgrade",
    "Connection:",
    "Sec-WebSocket-Version: 8",
    "Sec-WebSocket-Key: short",
    "Sec-WebSocket-Key: \x00",
    "Sec-WebSocket-Key: ü",
    "Sec-WebSocket-Protocol: a, b",
    "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99",
    "Content-Length: 5",
    "Content-Length: -1",
    "Transfer-Encoding: chunked",
    "Expect: 100-continue",
    "Origin: null",
    "no colon",
    ": no name",
    " folded: yes",
    "X: " + "x" * 20_000,
    "X: \x00\x01",
    "",
)
_first_lines = st.sampled_from(
    (
        "GET / HTTP/1.1",
        "GET / HTTP/1.1",
        "GET / HTTP/1.1",
        "GET /%00?a=b#c HTTP/1.1",
        "GET  HTTP/1.1",
        "GET / HTTP/1.0",
        "GET / HTTP/9.9",
        "POST / HTTP/1.1",
        "PRI * HTTP/2.0",
        "get / http/1.1",
        "GET /" + "a" * 20_000 + " HTTP/1.1",
        "GET / HTTP/1.1 more",
        "",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    )
)


@st.composite
def _upgrade(draw: st.DrawFn) -> bytes:
    lines = list(draw(st.permutations(_HEADERS)))
    for odd in draw(st.lists(st.sampled_from(_ODD_HEADERS), max_size=3)):
        place = draw(st.integers(0, len(lines)))
        # In the place of one, or beside it.
        lines[place : place + draw(st.integers(0, 1))] = [odd]
    newline = draw(st.sampled_from(("\r\n", "\r\n", "\r\n", "\n", "\r")))
    text = newline.join([draw(_first_lines), *lines, "", ""])
    whole = text.encode() + draw(st.sampled_from((b"", masked(TEXT, b"{}"), b"\xff" * 10)))
    return whole[: draw(st.just(len(whole)) | st.integers(0, len(whole)))]


upgrades = _upgrade() | st.binary(max_size=200)
"""Bytes from the first on: a request to upgrade with something wrong in it, or anything."""
