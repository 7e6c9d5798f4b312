"""
The image of our own programs.

What is put into it is what is imported here: this package's own files, be they a source tree or an
installation, and the packages it needs, in the versions that are installed here.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import harness
from harness.environment.images.base import Base, base_for, pulled_base
from harness.environment.images.workshop import Workshop
from harness.errors import EnvironmentFailed

if TYPE_CHECKING:
    from harness.environment.containers import Engine

__all__ = ["bring", "inputs", "pins", "platforms"]

_PACKAGE: Final = Path(harness.__file__).parent
_DOCKERFILE: Final = "Dockerfile"
_DISTRIBUTION: Final = "ws-harness"
# Of an extra: the daemon's monitor has no metrics without it, there as here.
_METRICS: Final = "prometheus-client"
_PIP_WITHIN_S: Final = 600.0

# Debian bookworm's; wheels for older ones fit it, too.
_GLIBC_MINOR: Final = 36


def bring(engine: Engine, workshop: Workshop, name: str, pull: bool) -> str:  # noqa: FBT001
    """
    Build it. It is in no registry; `pull` is for its base.

    Raises:
        EnvironmentFailed: If it cannot be built.
    """
    dockerfile = _dockerfile().read_text()
    base = base_for(engine, workshop, pulled_base(dockerfile), pull=pull)
    site = _site(workshop, base, machine=engine.machine)
    context = workshop.folder / "context"
    with workshop.draft(context.name) as draft:
        shutil.copytree(site, draft / "site")
        shutil.copytree(_PACKAGE, draft / "code" / _PACKAGE.name, ignore=_not_code)
        (draft / _DOCKERFILE).write_text(dockerfile)
        # Whoever runs it must be able to read it, whatever the umask is here.
        for path in draft.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
    workshop.tell(f"building {name} on {base.short}")
    how = f"built on {base.short}"
    engine.images.build(
        str(context),
        tag=name,
        arguments={
            "BASE": base.name,
            "VERSION": harness.__version__,
            "INPUTS": inputs(),
            "HOW": how,
        },
    )
    return how


def inputs() -> str:
    """A digest of all that it is made of, but for its base: that may be one of two."""
    digest = hashlib.sha256()
    for line in (_dockerfile().read_text(), *pins()):
        digest.update(line.encode() + b"\0")
    for path in sorted(_code()):
        digest.update(f"{path.relative_to(_PACKAGE)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def pins() -> list[str]:
    """
    The packages that ours needs, and what they need, each in the version that is installed here;
    and what metrics need, where that is.

    Raises:
        EnvironmentFailed: If this package is not installed.
    """
    found: dict[str, str] = {}
    wanted = [_DISTRIBUTION, _METRICS]
    while wanted:
        name = wanted.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name == _DISTRIBUTION:
                raise EnvironmentFailed(
                    f"{_DISTRIBUTION} is not installed, so nobody knows what it needs",
                    [("next", "install it: pip install -e . in its tree")],
                ) from None
            # Not needed on this machine, says the marker of whoever names it; or left out of it.
            continue
        if name != _DISTRIBUTION:
            found[name] = distribution.version
        for line in distribution.requires or ():
            needed = _name_of(line)
            if needed and needed not in found:
                wanted.append(needed)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def platforms(machine: str) -> list[str]:
    """The tags of wheels that run on a base of ours on that machine, as pip takes them."""
    newest = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC_MINOR, 4, -1)]
    return [*newest, *(f"manylinux{old}_{machine}" for old in ("2014", "2010", "1"))]


def _site(workshop: Workshop, base: Base, *, machine: str) -> Path:
    """The packages, unpacked for that base; fetched once."""
    needed = pins()
    of_what = "\n".join([*needed, base.python, machine])
    name = f"site-{hashlib.sha256(of_what.encode()).hexdigest()[:12]}"
    site = workshop.folder / name
    if site.exists():
        return site
    what = f"fetching {len(needed)} packages for Python {base.python}"
    workshop.tell(what)

    def attempt() -> None:
        with workshop.draft(name) as draft:
            workshop.run(
                [
                    *(sys.executable, "-m", "pip", "install", "--quiet", "--no-input"),
                    *("--disable-pip-version-check", "--no-compile", "--only-binary=:all:"),
                    *("--implementation", "cp", "--python-version", base.python),
                    *(f"--platform={tag}" for tag in platforms(machine)),
                    *("--target", str(draft), *needed),
                ],
                what=what,
                within_s=_PIP_WITHIN_S,
                # What a person set for their own installations is not meant for this one.
                variables={"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_TARGET": None},
            )

    workshop.attempt(what, attempt)
    return site


def _dockerfile() -> Path:
    """In an installation it lies beside this file, in a source tree at its top."""
    packaged = Path(__file__).with_name(_DOCKERFILE)
    return packaged if packaged.exists() else _PACKAGE.parent / "docker" / _DOCKERFILE


def _code() -> Iterator[Path]:
    for path in _PACKAGE.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and path.name != _DOCKERFILE:
            yield path


def _not_code(_: str, names: list[str]) -> set[str]:
    return {name for name in names if name in ("__pycache__", _DOCKERFILE)}


def _name_of(requirement: str) -> str | None:
    """The name of what is required; None where only an extra requires it."""
    what, _, marker = requirement.partition(";")
    found = re.match(r"[A-Za-z0-9._-]+", what)
    if found is None or "extra" in marker:
        return None
    return re.sub(r"[-_.]+", "-", found[0]).lower()
