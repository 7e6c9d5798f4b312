"""What a provider's answers mean, how keys become headers, and how a provider is configured."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.address import Address
from harness.errors import InvalidValue
from harness.http.client import Answer
from harness.refdaemon.provider_answers import Failed, header_of, judged
from harness.resilience.config.provider import ProviderSettings


def said(status: int, body: object = None, **headers: str) -> str | Failed:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return judged(Answer(status, named, data))


def test_a_text_is_an_answer():
    """
    Whatever else is beside it.
    """
    assert said(200, {"text": "yes", "execution": 3, "more": []}) == "yes"


_DEEP = b'{"text": "x", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b'"text"', b"{}", b'{"text": 1}', b"\xff", pytest.param(_DEEP, id="deep")],
)
def test_what_cannot_be_read_is_a_failure_that_does_not_pass(body: bytes):
    """
    The provider worked; asking again would bring the same.
    """
    found = said(200, body)

    assert isinstance(found, Failed)
    assert (found.kind, found.verdict, found.passes) == ("PROVIDER_ERROR", "failure", False)
    assert not found.refused


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 499])
def test_a_refusal_is_nothing_against_the_provider(status: int):
    """
    It was not worked on, and asking again changes nothing.
    """
    found = said(status, {"error": "no"})

    assert found == Failed(
        "PROVIDER_ERROR",
        f"the provider answered {status}: no",
        verdict="ignored",
        passes=False,
        refused=True,
    )


@pytest.mark.parametrize(("status", "kind"), [(500, "PROVIDER_ERROR"), (504, "TIMEOUT")])
def test_a_failure_of_the_provider_counts_and_may_pass(status: int, kind: str):
    """
    Nobody knows whether it was worked on.
    """
    found = said(status, {"error": "oh"})

    assert isinstance(found, Failed)
    assert (found.kind, found.verdict, found.passes) == (kind, "failure", True)
    assert not found.refused


def test_a_redirect_is_not_followed():
    """
    Nor is it asked for again.
    """
    found = said(302, b"")

    assert isinstance(found, Failed)
    assert (found.verdict, found.passes) == ("failure", False)
    assert found.message == "the provider answered 302: no words"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": "first\\nsecond"}', "first"),
        (b"plain\r\ntext", "plain"),
        (b'{"error": 5}', "5"),
        (b"[1]", "[1]"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"x" * 100_000, "x" * 200),
    ],
)
def test_an_error_carries_the_providers_words(body: bytes, words: str):
    """
    One line of them, of bounded length, whatever they are.
    """
    found = said(500, body)

    assert isinstance(found, Failed)
    assert found.message == f"the provider answered 500: {words}"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        ("0", 0.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("9" * 99, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_nothing(text: str, seconds: float | None):
    """
    Of a refusal as of a failure.
    """
    for status in (429, 503):
        found = said(status, b"", retry_after=text)
        assert isinstance(found, Failed)
        assert found.retry_after_s == seconds


@given(st.text(st.characters(), max_size=300))
def test_every_key_fits_the_header(key: str):
    """
    Visible ASCII, 1 to 255 characters; whatever the key is, lone surrogates included.
    """
    assert re.fullmatch(r"[\x21-\x7e]{1,255}", header_of(key))


@given(st.lists(st.text(st.characters(), max_size=300), min_size=2, max_size=2, unique=True))
def test_two_keys_are_two_headers(keys: list[str]):
    """
    Also where one looks like the other, encoded.
    """
    one, two = keys

    assert header_of(one) != header_of(two)


def test_a_plain_key_stays_as_it_is():
    """
    So that what the provider wrote down can be found by it.
    """
    assert header_of("session-1/intent:7") == "session-1/intent:7"
    assert header_of("100 %") == "100%20%25"
    assert header_of("") == header_of("") != header_of("a" * 256)


def test_settings_without_a_url_have_no_address():
    """
    No provider, which is the default.
    """
    assert ProviderSettings().address is None
    assert ProviderSettings(url="http://[::1]:9/").address == Address("::1", 9)


@pytest.mark.parametrize(
    "url",
    [
        *("127.0.0.1:8090", "https://127.0.0.1:1", "http://", "http://h:x", "http://h:70000"),
        *("http://user:secret@127.0.0.1:1", "http://h:1/path", "http://h:1?a=b", "http://h:0"),
    ],
)
def test_a_url_that_says_less_or_more_is_refused(url: str):
    """
    With its key.
    """
    with pytest.raises(InvalidValue) as refused:
        ProviderSettings(url=url)

    assert [where for where, _ in refused.value.details] == ["url"]


def test_an_error_that_is_nested_too_deep_has_no_words():
    """
    It is a failure all the same.
    """
    found = said(500, _DEEP)

    assert isinstance(found, Failed)
    assert found.message.startswith('the provider answered 500: {"text": "x"')
