"""
Bugs that are put in on purpose, so that tests can be seen to catch them.

Each is a few lines at its true place in the code, off by default. docs/defects.md says which
failure of a real daemon it repeats, and which test must catch it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["DEFECTS", "Defect"]


@dataclass(frozen=True, kw_only=True)
class Defect:
    """
    One bug.

    Attributes:
        failure: The failure it repeats: "F1" to "F29" of docs/defects.md.
        about: What the daemon does with it.
    """

    failure: str
    about: str


DEFECTS: Final[Mapping[str, Defect]] = {}
"""By name, as `--defect` takes it."""
