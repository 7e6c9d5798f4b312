"""What README tells a reader to paste, pasted."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"

BOUND_S = 25


def block(heading: str) -> str:
    """The first shell block under a heading."""
    text = README.read_text().split(f"\n## {heading}\n")[1]
    found = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def free_ports(count: int) -> list[str]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.skipif(shutil.which("curl") is None, reason="the block uses curl")
def test_the_toxiproxy_block_works_when_it_is_pasted_whole(tmp_path: Path) -> None:
    """The programs are waited for, the call is late, and both programs end with the block."""
    daemon, api, edge = free_ports(3)
    script = block("A Toxiproxy without Docker").replace(
        "harness proxy", "harness proxy --port 8474"
    )
    for documented, free in (("8079", daemon), ("8474", api), ("9079", edge)):
        assert documented in script
        script = script.replace(documented, free)
    (tmp_path / ".venv").symlink_to(sys.prefix)

    # With job control, as in a terminal. Its output ends when the programs do, too.
    done = subprocess.run(
        ["bash", "--norc", "-m"],
        input=script,
        cwd=tmp_path,
        env={**os.environ, "HARNESS_API": f"http://127.0.0.1:{api}"},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "  latency_downstream   latency   downstream   latency_ms=200 jitter_ms=0" in lines
    assert "hi" in lines
    took = re.search(r"answered after ([0-9.]+) ms", done.stderr)
    assert took is not None
    assert float(took[1]) >= 200
    assert '"kind":"delayed"' in done.stdout
