"""A dialect by name: one of ours, or a class of the user's own."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from harness.complaints import did_you_mean
from harness.dialects.base import Dialect
from harness.errors import InvalidValue

__all__ = ["dialect_named"]

_OURS: Final = {
    "exai": "harness.dialects.exai:Exai",
    "plain": "harness.dialects.plain:Plain",
}


def dialect_named(text: str, *, folder: Path) -> Dialect:
    """
    Make a dialect.

    Args:
        text: "exai", "plain", or a class by its dotted name, "package.module:Class".
        folder: Where modules are looked for first, while they are imported.

    Raises:
        InvalidValue: If there is no such class, or it is no dialect that can be made
            without arguments.
    """
    dotted = _OURS.get(text, text)
    module, colon, name = dotted.rpartition(":")
    if not colon:
        module, _, name = dotted.rpartition(".")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        ours = ", ".join(f'"{name}"' for name in _OURS)
        why = f'expected {ours}, or a class by its dotted name, "package.module:Class"'
        raise InvalidValue(f'"{text}" is no dialect; {why}{did_you_mean(text, _OURS)}')
    with _first_on_path(folder):
        return _made(_class(module, name, folder=folder), text)


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        # The module may have changed the path itself.
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


def _class(module: str, name: str, *, folder: Path) -> type[Dialect]:
    try:
        loaded = importlib.import_module(module)
    # A stranger's module may raise anything, and even leave.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise InvalidValue(
                f"there is no module {error.name}, neither in {folder} nor installed"
            ) from None
        raise InvalidValue(f"importing {module} raised {_told(error)}") from None
    value = getattr(loaded, name, None)
    if inspect.isclass(value) and issubclass(value, Dialect):
        return value
    dialects = [
        key
        for key, kind in inspect.getmembers(loaded, inspect.isclass)
        if issubclass(kind, Dialect) and kind is not Dialect
    ]
    why = f"there is no {name}"
    if value is not None:
        why = f"{name} is no subclass of harness.dialects.base.Dialect"
    raise InvalidValue(f"{module}: {why}; its dialects: {', '.join(dialects) or 'none'}")


def _made(kind: type[Dialect], text: str) -> Dialect:
    try:
        return kind()
    # So may a stranger's constructor.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        raise InvalidValue(f"{text}() raised {_told(error)}") from None


def _told(error: BaseException) -> str:
    """An exception, and the stranger's line it came from, where it came from one."""
    text = f"{type(error).__name__}: {error}"
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_code.co_filename == __file__:
        return text
    if isinstance(error, SyntaxError):
        # It names its line itself.
        return text
    return f"{text} ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"
