"""A shell's variables and a folder of a user's project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.project.tables import TOKEN


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token where a shell would keep it, and an empty variable."""
    monkeypatch.setenv("MY_TOKEN", TOKEN)
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)


@pytest.fixture
def project(tmp_path: Path) -> Callable[[str], Path]:
    """Write a pyproject.toml; its folder."""

    def write(text: str) -> Path:
        (tmp_path / "pyproject.toml").write_text(text)
        return tmp_path

    return write
