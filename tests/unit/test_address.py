"""Addresses."""

from __future__ import annotations

import pytest

from harness.address import Address, address_of_url, refuse_remote
from harness.errors import InvalidValue, TargetRefused


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8079", "127.0.0.1", 8079),
        ("localhost:0", "localhost", 0),
        ("[::1]:65535", "::1", 65535),
        ("daemon.example:80", "daemon.example", 80),
    ],
)
def test_an_address_is_read_and_written_back(text: str, host: str, port: int):
    """
    What was parsed prints as it was written, IPv6 in brackets.
    """
    address = Address.parse(text)

    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "8079", "localhost", "localhost:", "localhost:http", "localhost: 80"),
        *("localhost:-1", "localhost:65536", "localhost:٣", "::1:80", "[::1]", "[::1:80", "1:2:3"),
    ],
)
def test_what_is_no_address_is_refused(text: str):
    """
    Also an IPv6 address without brackets, of which nobody can tell where the port begins.
    """
    with pytest.raises(InvalidValue, match="expected") as caught:
        Address.parse(text)

    assert "next" in dict(caught.value.details)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_is_loopback(host: str):
    """
    Nothing sent there can leave this machine.
    """
    assert Address(host, 1).is_loopback


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org", "127.1", ""]
)
def test_all_else_is_not_taken_for_loopback(host: str):
    """
    Names are not resolved, and an odd spelling gets no benefit of the doubt.
    """
    assert not Address(host, 1).is_loopback


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://127.0.0.1:8079/ws?x=1", Address("127.0.0.1", 8079)),
        ("ws://[::1]:80", Address("::1", 80)),
        ("ws://localhost", Address("localhost", 80)),
        ("wss://localhost/", Address("localhost", 443)),
        ("ws://user:pass@localhost:0/", Address("localhost", 0)),
    ],
)
def test_a_url_gives_its_address(url: str, address: Address):
    """
    Path, query and user do not matter; a missing port is the scheme's.
    """
    assert address_of_url(url) == address


@pytest.mark.parametrize(
    "url", ["", "localhost:80", "http://localhost", "ws://", "ws://localhost:x", "ws://[::1"]
)
def test_what_is_no_url_of_the_scheme_is_refused(url: str):
    """
    The complaint says what is expected.
    """
    with pytest.raises(InvalidValue, match="expected ws://host:port or wss://host:port") as caught:
        address_of_url(url)

    assert "ws://127.0.0.1:8079" in dict(caught.value.details)["next"]


def test_other_schemes_are_taken_where_they_are_asked_for():
    """
    The proxy's API speaks HTTP.
    """
    assert address_of_url("http://localhost", schemes=("http",)) == Address("localhost", 80)


def test_a_remote_target_is_refused_without_leave():
    """
    The message names what, where, and how to give leave.
    """
    with pytest.raises(TargetRefused) as caught:
        refuse_remote(Address("10.0.0.1", 80), what="daemon", allow_remote=False)

    assert "daemon 10.0.0.1:80" in str(caught.value)
    assert "--allow-remote" in str(caught.value)


@pytest.mark.parametrize(
    ("host", "said"), [("db.internal", True), ("127.1", True), ("10.0.0.1", False), ("::", False)]
)
def test_a_name_is_refused_with_the_reason_that_names_are_not_resolved(host: str, said: bool):
    """
    Its owner may know that it leads to this machine; we do not look.
    """
    with pytest.raises(TargetRefused) as caught:
        refuse_remote(Address(host, 80), what="daemon", allow_remote=False)

    assert ("none but localhost is resolved" in str(caught.value)) is said


def test_a_remote_target_is_taken_with_leave_and_a_loopback_one_always():
    """
    Leave is only needed for machines other than this one.
    """
    refuse_remote(Address("10.0.0.1", 80), what="daemon", allow_remote=True)
    refuse_remote(Address("::1", 80), what="daemon", allow_remote=False)
