"""
Where images are made: a folder that keeps what was fetched, a lock, programs with a bound, and
attempts at what other machines may refuse.

Rule: what is fetched or made appears in the folder under its name only when it is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, TypeVar

from harness.clock import fresh_id, now
from harness.environment.again import Again
from harness.errors import EnvironmentFailed

__all__ = ["Workshop", "cache_folder"]

T = TypeVar("T")

_LOCK_WITHIN_S: Final = 1800.0
_LOOK_S: Final = 0.2
_TELL_S: Final = 5.0
_TAIL_LINES: Final = 12
_DRAFT: Final = ".draft-"

# No second attempt mends these, in whatever program's words.
_FINAL: Final[Mapping[str, str]] = {
    "no space left": "make room; XDG_CACHE_HOME names another folder for what is kept",
    "permission denied": "see that this user may write there, and use the container engine",
    "operation not permitted": "run it as root, outside of a container",
    "no module named pip": "install pip in this environment: python -m ensurepip",
    "no matching distribution": "see that the package index has a wheel of it for that Python",
    "manifest unknown": "see that the registry has that image",
    "access denied": "see that the registry has that image, and lets you have it",
    "unauthorized": "see that the registry lets you have that image: docker login",
}


class Workshop:
    """
    What making images takes. Its methods block.

    Args:
        folder: Where what is fetched is kept.
        tell: Takes a line for a person.

    Attributes:
        again: The attempts.
    """

    def __init__(self, folder: Path, *, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self.tell = tell
        self.again = Again(tell=tell)

    @contextlib.contextmanager
    def alone(self, *, within_s: float = _LOCK_WITHIN_S) -> Iterator[None]:
        """
        Keep other processes of this folder out meanwhile.

        Raises:
            EnvironmentFailed: If another one keeps this one out for that many seconds, or the
                folder cannot be written to.
        """
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("w")
        with lock:
            self._take(lock, within_s=within_s)
            # What a process that was killed did not finish.
            for draft in self.folder.glob(f"*{_DRAFT}*"):
                _remove(draft)
            with _writing(self.folder):
                yield

    def _take(self, lock: IO[str], *, within_s: float) -> None:
        deadline, told = now() + within_s, False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if now() >= deadline:
                    raise EnvironmentFailed(
                        f"another process has been making images for {within_s:g} s",
                        [("lock", lock.name), ("next", "see what it does; wait, or end it")],
                    ) from None
                if not told:
                    self.tell("another process is making images: waiting for it")
                    told = True
                _wait(_LOOK_S)
            else:
                return

    @contextlib.contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A path to make a file or folder at; whatever is there is removed afterwards."""
        path = self.folder / f"{name}{_DRAFT}{fresh_id()}"
        try:
            yield path
        finally:
            _remove(path)

    @contextlib.contextmanager
    def draft(self, name: str) -> Iterator[Path]:
        """A path to make a file or folder at; it has that name in the folder when it is whole."""
        with self.scratch(name) as path:
            yield path
            _remove(self.folder / name)
            path.replace(self.folder / name)

    def attempt(self, what: str, work: Callable[[], T]) -> T:
        """
        Do what hangs on other machines: a few times, with growing pauses.

        Raises:
            EnvironmentFailed: If the last attempt fails, or one for a reason that stays.
        """
        return self.again.attempt(what, work, passes=lambda error: _remedy(str(error)) is None)

    def run(
        self,
        command: Sequence[str | Path],
        *,
        what: str,
        within_s: float,
        variables: Mapping[str, str | None] | None = None,
    ) -> list[str]:
        """
        Run a program to its end, and tell now and then how far it is.

        Args:
            what: What it does, in words.
            within_s: When it is killed, with all that it started.
            variables: Environment variables on top of our own; None takes one away.

        Returns:
            The last lines that it wrote.

        Raises:
            EnvironmentFailed: If it is not there, fails, or takes too long.
        """
        words = [str(word) for word in command]
        environment = {**os.environ, **(variables or {})}
        began, tail = now(), deque[str](maxlen=_TAIL_LINES)
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                env={name: value for name, value in environment.items() if value is not None},
            )
        except OSError as error:
            raise EnvironmentFailed(f"{what}: {words[0]}: {error.strerror}") from None
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, tail), daemon=True)
        reader.start()
        try:
            while reader.is_alive():
                reader.join(min(_TELL_S, max(0.0, began + within_s - now())))
                if reader.is_alive():
                    self._still(what, began, tail, within_s=within_s)
            code = process.wait(_TELL_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            reader.join(_TELL_S)
            # What left its group may hold the other end, and closing would wait for it.
            if not reader.is_alive():
                process.stdout.close()
        if code:
            raise _failed(f"{what}: {Path(words[0]).name} ended with {code}", tail)
        return list(tail)

    def _still(self, what: str, began: float, tail: deque[str], *, within_s: float) -> None:
        took_s = now() - began
        if took_s >= within_s:
            raise _failed(f"{what}: not done within {within_s:g} s", tail)
        self.tell(f"{what}: {took_s:.0f} s, {tail[-1] if tail else 'nothing said yet'}")


def cache_folder() -> Path:
    """Where what was fetched is kept: the user's cache."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # A relative one is to be ignored, says who named the variable.
    root = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    return root / "ws-harness"


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def _read(stream: IO[str], tail: deque[str]) -> None:
    for line in stream:
        if line.strip():
            tail.append(line.rstrip())


def _remedy(text: str) -> str | None:
    return next((todo for words, todo in _FINAL.items() if words in text.lower()), None)


def _failed(headline: str, tail: deque[str]) -> EnvironmentFailed:
    said = "\n".join(tail) or "(it wrote nothing)"
    todo = _remedy(said)
    return EnvironmentFailed(
        headline, [("log tail", said), *([] if todo is None else [("next", todo)])]
    )


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise EnvironmentFailed(
            f"{folder}: {why}",
            [
                ("at", str(error.filename or folder)),
                ("next", _remedy(why) or "see that it can be written to"),
            ],
        ) from None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
