"""
The run directory: `runs/<name>/<stamp>/`, held while its run lasts, kept for a while after.

A directory is ours if the file `.run` lies in it, and its run lasts as long as
somebody holds a lock on that file. The kernel lets go of it when the process
ends, however it ends, so no run is left looking alive.

Rule: what is not ours, still runs or belongs to a series under way is never removed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from harness.clock import fresh_id, stamp, wall_ns
from harness.errors import EnvironmentFailed, InvalidValue
from harness.run.record import HistoryWriter, load_history
from harness.run.redact import Redactor

__all__ = ["KEEP", "HistoryWriter", "RunDirectory", "Series", "load_history", "run_name", "series"]

KEEP: Final = 36
"""How many ended runs stay."""

HISTORY: Final = "history.jsonl"

_MARKER: Final = ".run"
_SERIES: Final = ".series"
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")

logger = logging.getLogger(__name__)


class _Marker(msgspec.Struct, frozen=True, kw_only=True, tag="run", tag_field="harness"):
    """What `.run` says."""

    started_ns: int
    pid: int
    series: str | None = None


@dataclass(frozen=True)
class Series:
    """Runs that belong together; none of them is removed while the series lasts."""

    id: str


def run_name(text: str) -> str:
    """A text, such as a test's id, as a run's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:100] or "run"


class RunDirectory:
    """
    The directory of one run. Leaving it (`with`) ends the run; the files stay.

    Attributes:
        path: Where the run's files go.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @classmethod
    def create(
        cls, root: Path, name: str, *, series: Series | None = None, keep: int = KEEP
    ) -> Self:
        """
        Make a fresh directory, point `latest` at it and, outside a series, remove the oldest
        ended runs.

        Args:
            root: The folder of all runs; made where it is missing.
            name: The scenario's or test's name; see `run_name`.
            series: The series it belongs to.
            keep: How many ended runs stay.

        Raises:
            InvalidValue: If the name is no folder's name.
            EnvironmentFailed: If the directory cannot be made.
        """
        if not _NAME.fullmatch(name) or name == "latest":
            raise InvalidValue(
                f'"{name}" cannot name a run; letters, digits, ".", "_" and "-", not "latest"'
            )
        try:
            path = _fresh_folder(root / name)
            marker = _Marker(
                started_ns=wall_ns(), pid=os.getpid(), series=None if series is None else series.id
            )
            lock = _hold(path / _MARKER, msgspec.json.encode(marker))
            _point(root / "latest", f"{name}/{path.name}")
        except OSError as error:
            raise _no_directory(root, error) from None
        # A series did so when it began: looking at each of its runs again would take longer
        # with each of them.
        if series is None:
            _prune(root, keep)
        return cls(path, lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the run: it may be removed when it is old enough."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def history(self, *, secrets: Iterable[str] = ()) -> HistoryWriter:
        """
        The writer of this run's history. There is one.

        Raises:
            EnvironmentFailed: If it cannot be made, or was made before.
        """
        return HistoryWriter(self.path / HISTORY, secrets=secrets)

    def write_json(self, name: str, value: Any, *, secrets: Iterable[str] = ()) -> Path:
        """
        Write or replace a file of this run in one step: readers see the old one or the new one.

        Args:
            name: The file's name, for instance "results.json".
            value: Anything that msgspec can encode.
            secrets: Strings to put "***" for.

        Raises:
            EnvironmentFailed: If it cannot be written.
        """
        # Builtins first, so that structs and dataclasses are looked through too.
        clean = Redactor(secrets).value(msgspec.to_builtins(value))
        text = msgspec.json.format(msgspec.json.encode(clean), indent=2)
        return _replace(self.path / name, text + b"\n")

    def write_text(self, name: str, text: str, *, secrets: Iterable[str] = ()) -> Path:
        """Write or replace a text file of this run in one step. Raises as `write_json` does."""
        return _replace(self.path / name, Redactor(secrets).text(text).encode())


@contextmanager
def series(root: Path) -> Iterator[Series]:
    """
    A series of runs: while it lasts, none of them is removed, however many they are. The
    oldest ended runs of others are removed when it begins.

    Raises:
        EnvironmentFailed: If it cannot be put on file.
    """
    it = Series(f"{stamp()}-{fresh_id()}")
    path = root / _SERIES / it.id
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _hold(path, b"")
    except OSError as error:
        raise _no_directory(root, error) from None
    _prune(root, KEEP)
    try:
        yield it
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _no_directory(root: Path, error: OSError) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"no run directory could be made: {error.strerror or error}",
        [
            ("path", str(error.filename2 or error.filename or root)),
            ("next", "make room or give leave to write there, or choose another folder for runs"),
        ],
    )


def _fresh_folder(parent: Path) -> Path:
    base = stamp()
    number = 1
    while True:
        path = parent / (base if number == 1 else f"{base}-{number}")
        parent.mkdir(parents=True, exist_ok=True)
        try:
            # mkdir either makes it or fails: of two processes one gets it.
            path.mkdir()
        except FileExistsError:
            number += 1
        except FileNotFoundError:
            # Another run just removed the folder, which was empty.
            continue
        else:
            return path


def _hold(path: Path, content: bytes) -> int:
    """Make a file that is locked from the moment it can be seen; give its descriptor."""
    draft = path.with_name(f"{path.name}.{fresh_id()}")
    lock = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        os.close(lock)
        raise
    return lock


def _point(link: Path, target: str) -> None:
    draft = link.with_name(f".latest.{fresh_id()}")
    draft.symlink_to(target)
    try:
        draft.replace(link)
    except OSError:
        draft.unlink()
        raise


def _replace(path: Path, data: bytes) -> Path:
    draft = path.with_name(f".{path.name}.{fresh_id()}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise EnvironmentFailed(
            f"{path.name} could not be written: {error.strerror or error}",
            [("path", str(path)), ("next", "make room, or give leave to write there")],
        ) from None
    return path


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of `path`, None where somebody else holds it."""
    lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _ended(root: Path, path: Path) -> tuple[int, int] | None:
    """When a run of ours began, and the lock that proves its end; None for all else."""
    try:
        marker = msgspec.json.decode((path / _MARKER).read_bytes(), type=_Marker)
        if marker.series is not None and _under_way(root / _SERIES / marker.series):
            return None
        lock = _try_lock(path / _MARKER)
    except (OSError, msgspec.DecodeError):
        return None
    return None if lock is None else (marker.started_ns, lock)


def _under_way(series_file: Path) -> bool:
    try:
        lock = _try_lock(series_file)
    except FileNotFoundError:
        return False
    if lock is None:
        return True
    # Its process was killed before it could clean up.
    series_file.unlink(missing_ok=True)
    os.close(lock)
    return False


def _prune(root: Path, keep: int) -> None:
    found = [
        (*ended, path)
        for name in _entries(root)
        for path in _entries(name)
        if (ended := _ended(root, path)) is not None
    ]
    found.sort(key=lambda entry: (entry[0], entry[2].name), reverse=True)
    for number, (_, lock, path) in enumerate(found):
        try:
            if number >= keep:
                _remove(path)
        except OSError as error:
            # Files of a container's root user, for instance. They harm nobody.
            logger.warning("run directory %s: cannot be removed: %s", path, error)
        finally:
            os.close(lock)


def _entries(folder: Path) -> list[Path]:
    try:
        # `latest` and other links lead to folders that are found under their own name.
        return [path for path in folder.iterdir() if not path.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        # No folder, or somebody else who looks for old runs has just removed it.
        return []


def _remove(path: Path) -> None:
    """The marker goes last: a removal that was cut short is gone on with next time."""
    for entry in path.iterdir():
        if entry.name == _MARKER:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    (path / _MARKER).unlink()
    path.rmdir()
    # Fails where other runs of that name are there.
    with suppress(OSError):
        path.parent.rmdir()
