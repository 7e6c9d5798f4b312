"""What a daemon may use: the table [tool.harness.daemon.limits]."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from harness.complaints import Complaint, found
from harness.daemons.base import Limits
from harness.errors import InvalidValue
from harness.project.table import Table

__all__ = ["read_limits"]

_KEYS: Final = ("memory", "cpus", "processes", "descriptors")
_UNITS: Final = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE: Final = re.compile(r"([0-9]+) ?(|KiB|MiB|GiB)")
_NONE: Final = "none"
_NAMES: Final = {"memory_bytes": "memory"}


def read_limits(values: Mapping[str, Any]) -> tuple[Limits | None, list[Complaint]]:
    """
    The limits that a table describes, and what is wrong with it: then there are none.

    "none" lifts one; what is absent keeps its default.
    """
    table = Table(values, name="daemon.limits", known=_KEYS)
    table.refuse_unknown()
    given: dict[str, Any] = {}
    for key in _KEYS:
        if key not in table:
            continue
        value = table.values[key]
        field = "memory_bytes" if key == "memory" else key
        if value == _NONE:
            given[field] = None
        elif key == "memory" and type(value) is str and (size := _SIZE.fullmatch(value)):
            given[field] = int(size[1]) * _UNITS[size[2]]
        elif type(value) in (int, float):
            given[field] = value
        else:
            size_too = ', "512 MiB"' if key == "memory" else ""
            table.complain(key, f'expected a number{size_too} or "none", found {found(value)}')
    try:
        limits = Limits(**given)
    except InvalidValue as error:
        for field, text in error.details:
            table.complain(_NAMES.get(field, field), text)
    return (None if table.complaints else limits), table.complaints
