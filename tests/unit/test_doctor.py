"""Findings of `harness doctor` that take no machine."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from harness.environment import doctor
from harness.errors import EnvironmentFailed


def test_an_error_without_a_remedy_has_none(monkeypatch: pytest.MonkeyPatch):
    """
    No word stands where nothing is known.
    """

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise EnvironmentFailed("it did not come up")

    monkeypatch.setattr(doctor, "see_path", fail)

    found = doctor._path(None)  # type: ignore[arg-type]

    assert (found.good, found.found, found.remedy) == (False, "it did not come up", "")
