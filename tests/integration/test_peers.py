"""The proof that each test in containers gives: it refuses what is not there."""

from __future__ import annotations

import os

import pytest

from harness.records import Effect
from tests.integration.peers import assert_toxiproxy, assert_written_inside
from tests.integration.proxy_process import ProxyServer


def test_our_own_proxy_is_not_taken_for_toxiproxy(proxy_server: ProxyServer) -> None:
    """Although it has the same API, and says the same version."""
    with pytest.raises(AssertionError, match="is our own proxy"):
        assert_toxiproxy(proxy_server.control.url)


def test_an_effect_of_this_machine_is_not_taken_for_a_containers() -> None:
    """By who wrote it."""
    fields = dict.fromkeys(Effect.__struct_fields__, "")
    with pytest.raises(AssertionError):
        assert_written_inside([Effect(**{**fields, "pid": os.getpid()})])
