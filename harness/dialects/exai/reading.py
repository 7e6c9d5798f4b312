"""
Frames to bytes and back, and what can be made out of frames that are none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Final, Literal, get_args

import msgspec

from harness.dialects.exai.frames import Reply, Request

__all__ = [
    "FrameError",
    "UNREADABLE",
    "decode_reply",
    "decode_request",
    "encode",
    "peek",
    "tool_name",
    "usable_session_id",
]


class FrameError(Exception):
    """
    A frame that is no request.

    Attributes:
        kind: "json" (no JSON object), "op" (no op we know) or "shape" (wrong types).
        op: The op it named, if any.
        request_id: The id it named, if any: the reply must carry it.
        message: What was found and expected, in one sentence.
    """

    def __init__(
        self,
        kind: Literal["json", "op", "shape"],
        message: str,
        *,
        op: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.op = op
        self.request_id = request_id


encode = msgspec.json.Encoder().encode
_decode_request: Callable[[bytes | str], Request] = msgspec.json.Decoder(Request).decode
decode_reply: Callable[[bytes | str], Reply] = msgspec.json.Decoder(Reply).decode
_OPS: Final = sorted(str(shape.__struct_config__.tag) for shape in get_args(Request))


_READ_AGAIN_BYTES: Final = 65_536
# The last: JSON nested deeper than the decoder goes, which any peer can send.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_request(frame: bytes | str) -> Request:
    """
    Read a client's frame.

    Raises:
        FrameError: If it is no JSON object, names no known op, or has wrong types.
    """
    try:
        return _decode_request(frame)
    except UNREADABLE as error:
        raise _frame_error(frame, str(error)) from None


_PEEKED: Final = 4096


def peek(frame: bytes | str) -> dict[str, str]:
    """
    The texts at the beginning of a JSON object that is too large to be read.

    Its members that are texts, up to the first that is none, or that is not whole within 4 KiB.
    What it says is so; what it does not say may be there all the same.
    """
    head = frame[:_PEEKED]
    text = head if isinstance(head, str) else head.decode("utf-8", "ignore")
    found: dict[str, str] = {}
    at = _SPACE.match(text, 0).end()  # type: ignore[union-attr]
    mark = "{"
    try:
        while text[at] == mark:
            at = text.index('"', at) + 1 if _NEXT.match(text, at) else len(text)
            name, at = scanstring(text, at)
            colon = _COLON.match(text, at)
            if colon is None:
                break
            found[name], at = scanstring(text, colon.end())
            at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
            mark = ","
    except (ValueError, IndexError):
        pass
    return found


_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NEXT: Final = re.compile(r'[{,][ \t\r\n]*"')
_COLON: Final = re.compile(r'[ \t\r\n]*:[ \t\r\n]*"')


def _frame_error(frame: bytes | str, message: str) -> FrameError:
    """Find out how much of a bad frame can be read, so that the reply can name it."""
    try:
        value = msgspec.json.decode(frame)
    except UNREADABLE:
        value = _read_again(frame)
        if value is None:
            return FrameError("json", f"expected a JSON object, found no JSON: {message}")
        message = f"a text that is no Unicode, or a number out of range: {message}"
    if not isinstance(value, dict):
        return FrameError("json", f"expected a JSON object, found {type(value).__name__}")
    request_id = value.get("request_id")
    request_id = request_id if isinstance(request_id, str) else None
    op = value.get("op")
    if op not in _OPS:
        shown = "none" if op is None else msgspec.json.encode(op).decode()[:80]
        message = f"expected op to be one of {', '.join(_OPS)}; found {shown}"
        return FrameError("op", message, request_id=request_id)
    return FrameError("shape", message, op=op, request_id=request_id)


def _read_again(frame: bytes | str) -> dict[str, str] | None:
    """
    Op and id of a frame that is JSON, and that our decoder does not take all the same.

    Half a surrogate pair can be written in JSON, and JavaScript does; so can 1e400.
    """
    if len(frame) > _READ_AGAIN_BYTES:
        return None
    try:
        value = json.loads(frame, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    found = {name: value.get(name) for name in ("op", "request_id")}
    return {name: text for name, text in found.items() if isinstance(text, str) and _is_text(text)}


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_SESSION_ID: Final = re.compile(r"[A-Za-z0-9_-]{3,64}")
_SUFFIXES: Final = ("_EXAI-WS", "-EXAI-WS", "_EXAI_WS", "-EXAI_WS")


def usable_session_id(text: str | None) -> bool:
    """Whether a session id may be taken as given: 3 to 64 letters, digits, "-" or "_"."""
    return text is not None and _SESSION_ID.fullmatch(text) is not None and text.strip("-_") != ""


def tool_name(name: str) -> str:
    """A tool's name without the one suffix that older clients append."""
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name
