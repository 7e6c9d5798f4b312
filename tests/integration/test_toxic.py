"""`harness toxic` as a person types it, before our proxy server."""

from __future__ import annotations

import os
import subprocess
import sys

from harness.proxy.control import ToxicState
from tests.integration.proxy_process import BOUND_S, Http, ProxyServer

LATE = "  latency_downstream   latency   downstream   latency_ms=200 jitter_ms=10"


def toxic(*arguments: str, variable: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command; `variable` is HARNESS_API."""
    environment = {k: v for k, v in os.environ.items() if k != "HARNESS_API"}
    if variable is not None:
        environment["HARNESS_API"] = variable
    return subprocess.run(
        [sys.executable, "-m", "harness", "toxic", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


async def test_a_toxic_is_put_on_and_taken_off(proxy_server: ProxyServer, edge: Http) -> None:
    """Each time the answer is what is on the wire now; the only proxy need not be named."""
    url = proxy_server.control.url

    added = toxic("add", "latency", "latency_ms=200", "jitter_ms=10", "--api", url)
    there = await proxy_server.control.toxics("edge")
    removed = toxic("remove", "latency_downstream", "--api", url)

    assert (added.returncode, added.stderr) == (0, "")
    head, line = added.stdout.splitlines()
    assert head.startswith("edge   listen 127.0.0.1:")
    assert line == LATE
    assert there == [
        ToxicState(
            "latency_downstream", "latency", "downstream", 1.0, {"latency": 200, "jitter": 10}
        )
    ]
    assert removed.stdout == f"{head}\n  no toxics\n"
    assert await proxy_server.control.toxics("edge") == []


async def test_every_option_of_a_toxic_reaches_the_server(
    proxy_server: ProxyServer, edge: Http
) -> None:
    """Stream, toxicity, name and proxy."""
    edge.call("POST", "/proxies", {"name": "other", "upstream": "127.0.0.1:1"})
    options = ["--stream", "upstream", "--toxicity", "0.5", "--name", "few", "--proxy", "other"]

    done = toxic("add", "limit_data", "limit_bytes=9", *options, variable=proxy_server.control.url)

    assert done.returncode == 0, done.stderr
    assert await proxy_server.control.toxics("other") == [
        ToxicState("few", "limit_data", "upstream", 0.5, {"bytes": 9})
    ]
    assert await proxy_server.control.toxics("edge") == []


def test_the_variable_names_the_server_and_the_option_overrides_it(
    proxy_server: ProxyServer, edge: Http
) -> None:
    """What is typed is nearer than what is exported."""
    url = proxy_server.control.url

    assert toxic("list", variable=url).stdout.endswith("\n  no toxics\n")
    assert toxic("list", "--api", url, variable="http://192.0.2.1:1").returncode == 0


def test_of_several_proxies_one_must_be_named(proxy_server: ProxyServer, edge: Http) -> None:
    """Exit 64, and which there are."""
    edge.call("POST", "/proxies", {"name": "other", "upstream": "127.0.0.1:1"})

    done = toxic("add", "timeout", variable=proxy_server.control.url)

    assert done.returncode == 64
    assert "edge, other" in done.stderr


def test_the_proxy_before_a_provider_must_be_named(proxy_server: ProxyServer, edge: Http) -> None:
    """Beside it the other is the usual one."""
    edge.call("POST", "/proxies", {"name": "provider", "upstream": "127.0.0.1:1"})
    url = proxy_server.control.url

    usual = toxic("add", "timeout", variable=url)
    named = toxic("add", "timeout", "--proxy", "provider", variable=url)

    assert usual.stdout.startswith("edge ")
    assert named.stdout.startswith("provider ")


def test_a_server_that_does_not_answer_is_no_usage_error() -> None:
    """Exit 3, and where it was looked for."""
    done = toxic("list", "--api", "http://127.0.0.1:9")

    assert done.returncode == 3
    assert "harness toxic: ProxyError" in done.stderr
    assert "http://127.0.0.1:9" in done.stderr


def test_what_the_server_refuses_is_told_in_its_words(
    proxy_server: ProxyServer, edge: Http
) -> None:
    """A second toxic of one name."""
    first, second = (toxic("add", "timeout", variable=proxy_server.control.url) for _ in "ab")

    assert first.returncode == 0
    assert second.returncode == 3
    assert "toxic already exists" in second.stderr
