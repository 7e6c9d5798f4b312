"""What goes into our own image: this package as it is installed here, and what it needs."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

import harness
from harness.environment.images.cache import patiently
from harness.environment.images.commands import run

__all__ = ["PYTHON", "digest", "lay"]

PYTHON: Final = "3.11"
"""The Python of the image's base, for which wheels are chosen."""

_PACKAGE: Final = Path(harness.__file__).parent
_ROOTS: Final = ("h11", "msgspec", "picows", "uvloop", "websockets")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_PLATFORMS: Final = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux1")
_DOWNLOAD_S: Final = 300


def digest() -> str:
    """Of all that goes in."""
    total = hashlib.sha256("\n".join(_pinned()).encode())
    for file in _files():
        total.update(str(file.relative_to(_PACKAGE)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()[:16]


def _files() -> Iterator[Path]:
    found = (path for path in _PACKAGE.rglob("*") if path.is_file())
    return iter(sorted(path for path in found if "__pycache__" not in path.parts))


def _pinned() -> list[str]:
    """What is needed at run time, in the versions that are installed here."""
    names, todo = set[str](), list(_ROOTS)
    while todo:
        name = todo.pop()
        try:
            needs = requires(name) or []
        except PackageNotFoundError:
            continue
        if name not in names:
            names.add(name)
            # Extras, and what is for another system or an older Python, is not installed here.
            todo += [
                found[0] for need in needs if "extra" not in need and (found := _NAME.match(need))
            ]
    return sorted(f"{name}=={version(name)}" for name in names)


def lay(folder: Path, *, machine: str, cache: Path, tell: Callable[[str], None]) -> None:
    """
    Lay everything down in a folder, as an interpreter finds it there.

    Args:
        folder: An empty one.
        machine: The engine's architecture, "x86_64" for instance.
        cache: Where wheels are kept.
        tell: Takes a line of progress.

    Raises:
        EnvironmentFailed: If a wheel cannot be had.
    """
    wheels = cache / f"wheels-{PYTHON}-{machine}"
    wheels.mkdir(exist_ok=True)
    pinned = _pinned()
    platforms = [word for name in _PLATFORMS for word in ("--platform", f"{name}_{machine}")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--python-version", PYTHON, *platforms]
    command += ["--dest", str(wheels), "--find-links", str(wheels), *pinned]
    what = f"downloading {len(pinned)} wheels for Python {PYTHON}"
    patiently(what, lambda: run(what, command, within_s=_DOWNLOAD_S), tell)
    for pin in pinned:
        name, _, number = pin.partition("==")
        [wheel, *_] = wheels.glob(f"{re.sub('[-.]', '_', name)}-{number}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    for file in _files():
        target = folder / "harness" / file.relative_to(_PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        target.chmod(0o644)
