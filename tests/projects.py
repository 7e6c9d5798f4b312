"""A stranger's project: a server that echoes, a Dockerfile, and a Compose file of both."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.daemons.base import Container
from harness.daemons.container import Containerized
from harness.dialects.plain import Plain
from harness.environment.backends import engine
from harness.environment.images.own import own_image
from tests.talker import TALKER

__all__ = ["as_daemon", "change"]


@pytest.fixture
def compose() -> None:
    """Docker Compose, where it is."""
    asked = ["docker", "compose", "version"]
    if shutil.which("docker") is None:
        pytest.skip("no Compose: there is no command docker")
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("no Compose: its plugin is not here")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """The folder of the project."""
    (tmp_path / "server.py").write_text(TALKER)
    # Of this very code: what only has the version is a name that others move.
    image = own_image()
    lines = [f"FROM {image}", "COPY server.py /server.py", 'CMD ["python3", "/server.py"]']
    (tmp_path / "Dockerfile").write_text("\n".join(lines))
    told = {
        "services": {
            "echo": {"build": ".", "ports": ["9000:9000"]},
            "beside": {
                "image": image,
                "command": ["sleep", "1000"],
                "volumes": ["kept:/kept"],
                "ports": ["9001:9001"],
            },
        },
        "volumes": {"kept": {}},
    }
    (tmp_path / "compose.yaml").write_text(json.dumps(told))
    before = set(engine().images.tags("ws-harness-built:"))
    yield tmp_path
    # A user's are kept, for they are soon built again from there; these are nobody's.
    for tag in set(engine().images.tags("ws-harness-built:")) - before:
        engine().images.remove(tag)


def change(project: Path, **parts: dict[str, Any]) -> None:
    """Put more into its Compose file: into its services by their names, else at the top."""
    file = project / "compose.yaml"
    told = json.loads(file.read_text())
    for name, more in parts.items():
        if name in told["services"]:
            told["services"][name] |= more
        else:
            told[name] = more
    file.write_text(json.dumps(told))


def as_daemon(project: Path, **more: Any) -> Containerized:
    """The service of it that echoes."""
    container = Container(compose=project / "compose.yaml", service="echo", port=9000)
    return Containerized(container=container, dialect=Plain(), **more)
