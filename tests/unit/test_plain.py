"""The plain dialect: messages as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.dialects.base import Answer
from harness.dialects.plain import Plain
from harness.errors import InvalidValue


def call(tool: str | bytes, key: str | None = None, **arguments: object) -> bytes | str:
    return Plain().call(request_id="1", tool=tool, arguments=arguments, key=key)


@pytest.mark.parametrize("message", ["hello", "", "grüß dich\n", b"\x00\xff", b""])
def test_a_call_is_its_message_and_nothing_else(message: str | bytes):
    """
    Neither the request id nor the key is in it.
    """
    assert call(message, key="k") == (message.encode() if isinstance(message, str) else message)


def test_arguments_have_no_place():
    """
    The error names them and says where they belong.
    """
    with pytest.raises(InvalidValue, match="no place for arguments") as caught:
        call("add", a=1, b=2)

    assert dict(caught.value.details)["found"] == "arguments a, b"
    assert "json.dumps" in dict(caught.value.details)["next"]


def test_a_message_that_is_no_text_is_refused():
    """
    Half a surrogate pair cannot be sent as UTF-8.
    """
    with pytest.raises(InvalidValue, match="no text"):
        call("\ud800")


@pytest.mark.parametrize(
    ("frame", "output"),
    [("hi", "hi"), ("grüß".encode(), "grüß"), (b"\xff\xfe", b"\xff\xfe"), (b"", ""), ("", "")],
)
def test_every_message_is_an_answer_without_a_name(frame: str | bytes, output: str | bytes):
    """
    Bytes that are UTF-8 come as text, others as they are.
    """
    assert Plain().receive(frame) == Answer(kind="call", request_id=None, value=(output,))


@given(st.binary() | st.text())
def test_no_message_is_lost_or_changed(frame: str | bytes):
    """
    What came in comes out, whatever it is.
    """
    answer = Plain().receive(frame)

    assert isinstance(answer, Answer)
    (output,) = answer.value
    assert output == frame or output.encode() == frame


def test_there_is_no_hello():
    """
    A token or a session id changes nothing in that.
    """
    assert Plain().hello(token="t", session_id="s") is None


def test_requests_go_one_at_a_time():
    """
    Nothing on the wire could tell two replies apart.
    """
    assert Plain().one_at_a_time
