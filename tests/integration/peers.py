"""
Who is at the other end: each test behind the real Toxiproxy, with the daemon in a container, sees
that it is. A test that passes before something else proves nothing of them.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable

from harness.environment.backends import DOCKER, TOXIPROXY
from harness.environment.base import Environment
from harness.records import Effect

__all__ = ["assert_toxiproxy", "assert_written_inside", "prove_effects", "prove_peers"]

_WITHIN_S = 5
_VERSION = "2.12.0"


def assert_toxiproxy(url: str, *, built_here: bool = False) -> None:
    """Shopify's, in that version; ours knows an address that it does not."""
    # What Go built does not know which it is.
    versions = [_VERSION, "git"] if built_here else [_VERSION]
    with urllib.request.urlopen(f"{url}/version", timeout=_WITHIN_S) as answer:
        assert json.load(answer)["version"] in versions
    assert _status(f"{url}/harness/about") == 404, f"{url} is our own proxy, not Toxiproxy"


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=_WITHIN_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def assert_written_inside(effects: Iterable[Effect]) -> None:
    """By the first process of a container: on this machine that is another."""
    assert {effect.pid for effect in effects} <= {1}


def prove_peers(here: Environment) -> None:
    """That it is before what a test asked for. Blocks."""
    server = here.stack.server
    if server.own and server.backend == TOXIPROXY:
        assert_toxiproxy(server.control.url)


def prove_effects(here: Environment) -> None:
    """That what it did was done in a container, where one was asked for."""
    if here.stack.site.backend == DOCKER and here.abilities["effects"] is None:
        assert_written_inside(here.effects())
