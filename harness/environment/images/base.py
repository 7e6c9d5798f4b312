"""
What our own image stands on: Python from a registry, or Debian's, made here.

The Dockerfile names the first; nobody else does.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.environment.images.workshop import Workshop
from harness.errors import EnvironmentFailed

if TYPE_CHECKING:
    from harness.environment.containers import Engine

__all__ = ["MADE_BASE", "Base", "base_for", "architecture_of", "pulled_base"]

_SUITE: Final = "bookworm"
_PACKAGES: Final = "python3,ca-certificates"
_PULL_WITHIN_S: Final = 600.0
_MAKE_WITHIN_S: Final = 900.0
_TAR_WITHIN_S: Final = 120.0

# Not needed to run Python; licences stay. The devices are the engine's to make.
_LEFT_OUT: Final = (
    *("./dev/*", "./proc/*", "./sys/*", "./run/*", "./tmp/*"),
    *("./var/cache/*", "./var/lib/apt/lists/*", "./var/log/*", "./var/lib/dpkg/info/*.md5sums"),
    *("./usr/share/locale/*", "./usr/share/man/*", "./usr/share/info/*", "./usr/share/zoneinfo/*"),
    *("./usr/share/doc/*/changelog*", "./usr/share/doc/*/NEWS*", "./usr/share/doc/*/README*"),
)

_ARCHITECTURES: Final[Mapping[str, str]] = {"x86_64": "amd64", "aarch64": "arm64"}
"""Machines as kernels call them, and as Debian and Go do."""


@dataclass(frozen=True)
class Base:
    """
    An image with a Python in it.

    Attributes:
        name: Its name in the engine.
        python: Which Python, "3.13".
    """

    name: str
    python: str

    @property
    def short(self) -> str:
        """Its name for people: without the digest."""
        return self.name.partition("@")[0]


MADE_BASE: Final = Base("ws-harness-base:bookworm", "3.11")


def pulled_base(dockerfile: str) -> Base:
    """The base that a Dockerfile names, with the Python that its tag names."""
    found = re.search(r"^ARG BASE=(\S+/)?(python:(3\.\d+)\S*)$", dockerfile, re.MULTILINE)
    if found is None:
        raise EnvironmentFailed(
            "the Dockerfile names no base of which the Python is known",
            [("expected", "a line ARG BASE=python:3.13..."), ("next", "mend docker/Dockerfile")],
        )
    return Base(f"{found[1] or ''}{found[2]}", found[3])


def architecture_of(engine: Engine) -> str:
    """
    What Debian and Go call the engine's machine.

    Raises:
        EnvironmentFailed: If nobody knows.
    """
    if engine.machine not in _ARCHITECTURES:
        raise EnvironmentFailed(
            f"the container engine runs on {engine.machine}; "
            f"expected {' or '.join(_ARCHITECTURES)}",
            [("next", "images for that machine must be made by hand")],
        )
    return _ARCHITECTURES[engine.machine]


def base_for(
    engine: Engine, workshop: Workshop, wanted: Base, *, made: Base = MADE_BASE, pull: bool
) -> Base:
    """
    A base that is in the engine: one that is here already, else pulled, else made.

    Raises:
        EnvironmentFailed: If there is no way; each that was tried is in it.
    """
    for base in (wanted, made):
        if engine.images.id(base.name) is not None:
            workshop.tell(f"base {base.short}: here already")
            return base
    failures = []
    if pull:
        try:
            _pull(engine, workshop, wanted)
        except EnvironmentFailed as error:
            workshop.tell(f"base {wanted.short}: cannot be pulled; one is made instead")
            failures.append((f"pull {wanted.short}", str(error)))
        else:
            return wanted
    else:
        failures.append((f"pull {wanted.short}", "not tried: --no-pull"))
    try:
        _make(engine, workshop, made)
    except EnvironmentFailed as error:
        failures.append((f"make {made.name}", str(error)))
        raise EnvironmentFailed("there is no base for our own image", failures) from None
    return made


def _pull(engine: Engine, workshop: Workshop, base: Base) -> None:
    what = f"pulling {base.short}"
    workshop.tell(what)
    workshop.attempt(
        what,
        lambda: engine.images.pull(
            base.name, within_s=_PULL_WITHIN_S, progress=lambda far: workshop.tell(f"{what}: {far}")
        ),
    )


def _make(engine: Engine, workshop: Workshop, base: Base) -> None:
    architecture = architecture_of(engine)
    archive = workshop.folder / f"base-{_SUITE}-{architecture}.tar"
    if archive.exists():
        workshop.tell(f"base {base.name}: from {archive}")
    else:
        _debootstrap(workshop, archive.name, architecture=architecture)
    label = f'LABEL ws-harness.how="debootstrap {_SUITE} {_PACKAGES}"'
    engine.images.load_root(str(archive), name=base.name, changes=[label])


def _debootstrap(workshop: Workshop, archive: str, *, architecture: str) -> None:
    """Debian, as small as it goes, in an archive of that name."""
    program = shutil.which("debootstrap") or shutil.which("debootstrap", path="/usr/sbin:/sbin")
    if program is None:
        raise EnvironmentFailed(
            "debootstrap is not here",
            [("next", "Debian, Ubuntu: apt-get install debootstrap; elsewhere: use a registry")],
        )
    if os.geteuid() != 0:
        raise EnvironmentFailed(
            "debootstrap needs root", [("next", "run `harness images` once as root; it stays")]
        )
    # What it mounts goes with it, killed or not.
    unshared = ["unshare", "--mount"] if shutil.which("unshare") else []
    packages = workshop.folder / "debian-packages"
    packages.mkdir(exist_ok=True)
    what = f"debootstrap {_SUITE}"

    def attempt() -> None:
        with workshop.scratch(f"root-{_SUITE}") as root:
            workshop.run(
                [
                    *(*unshared, program, f"--arch={architecture}", "--variant=minbase"),
                    *(f"--include={_PACKAGES}", f"--cache-dir={packages}", _SUITE, root),
                ],
                what=what,
                within_s=_MAKE_WITHIN_S,
            )
            with workshop.draft(archive) as draft:
                workshop.run(
                    [
                        *("tar", "--numeric-owner", *(f"--exclude={each}" for each in _LEFT_OUT)),
                        *("-C", root, "-cf", draft, "."),
                    ],
                    what="packing the base",
                    within_s=_TAR_WITHIN_S,
                )

    workshop.tell(f"{what}: about a minute")
    workshop.attempt(what, attempt)
