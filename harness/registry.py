"""
A folder of files is a catalogue.

Each file of the folder defines one entry, whose name is the file's name; `base`, and what
begins with an underscore, hold what the entries share and are none themselves.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TypeVar

__all__ = ["catalogue"]

T = TypeVar("T")


def catalogue(package: str, base: type[T]) -> dict[str, type[T]]:
    """
    The entries of a folder, by name, sorted.

    Args:
        package: The folder's dotted name.
        base: What every entry derives from.

    Raises:
        TypeError: If a file does not define exactly one entry. That is a mistake in this
            project, not in anything a user gave.
    """
    entries: dict[str, type[T]] = {}
    folder = importlib.import_module(package)
    for info in pkgutil.iter_modules(folder.__path__):
        if info.name == "base" or info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package}.{info.name}")
        found = [
            value
            for _, value in inspect.getmembers(module, inspect.isclass)
            if issubclass(value, base) and value.__module__ == module.__name__
        ]
        if len(found) != 1:
            raise TypeError(f"{module.__name__} must define one {base.__name__}, not {len(found)}")
        entries[info.name] = found[0]
    return dict(sorted(entries.items()))
