"""What images are made of where there is no registry: a base by debootstrap, Toxiproxy by Go."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from harness.environment.container_proxy import VERSION
from harness.environment.images.cache import patiently
from harness.environment.images.commands import need, run
from harness.errors import EnvironmentFailed

__all__ = ["make_base", "make_toxiproxy"]

_BASE_S: Final = 900
_GO_S: Final = 600
_SOURCE: Final = "github.com/Shopify/toxiproxy/v2"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# Of no use to a program, and a third of it all.
_LEFT_OUT: Final = ("./var/cache/apt", "./var/lib/apt/lists", "./usr/share/doc", "./usr/share/man")
_LEFT_OUT_TOO: Final = ("./usr/share/locale", "./usr/share/zoneinfo", "./usr/share/info")


def make_base(folder: Path, *, tell: Callable[[str], None]) -> Path:
    """
    A root file system with Python, as a tar archive.

    Args:
        folder: An empty one, for it and what it is made of.
        tell: Takes a line of progress.

    Raises:
        EnvironmentFailed: If it cannot be made.
    """
    debootstrap = need("debootstrap", remedy="apt-get install debootstrap")
    if os.geteuid() != 0:
        raise EnvironmentFailed(
            "debootstrap must be run by root", [("next", "run `harness images` with sudo once")]
        )
    root, archive = folder / "root", folder / "root.tar"

    def bootstrap() -> None:
        shutil.rmtree(root, ignore_errors=True)
        command = [debootstrap, "--variant=minbase", "--include=python3,ca-certificates"]
        run("debootstrap", [*command, "bookworm", str(root)], within_s=_BASE_S)

    tell("making a Debian base by debootstrap; it takes about a minute")
    patiently("debootstrap", bootstrap, tell)
    without = [f"--exclude={path}/*" for path in (*_LEFT_OUT, *_LEFT_OUT_TOO)]
    run("tar", ["tar", "-C", str(root), *without, "-cf", str(archive), "."], within_s=_BASE_S)
    return archive


def make_toxiproxy(cache: Path, *, machine: str, tell: Callable[[str], None]) -> Path:
    """
    Toxiproxy's server as a static program, built once.

    Args:
        cache: Where it is kept.
        machine: The engine's architecture.
        tell: Takes a line of progress.

    Raises:
        EnvironmentFailed: If it cannot be built.
    """
    program = cache / f"toxiproxy-{VERSION}-{machine}"
    if program.exists():
        return program
    go = need("go", remedy="install Go (https://go.dev), or make the image elsewhere and load it")
    made = cache / "gobin"
    shutil.rmtree(made, ignore_errors=True)
    # Without the version its /version says "git".
    flags = f"-s -w -X {_SOURCE}.Version={VERSION}"
    command = [go, "install", "-trimpath", "-ldflags", flags, f"{_SOURCE}/cmd/server@v{VERSION}"]
    variables = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local"}
    variables |= {"GOBIN": str(made)} if _is_here(machine) else {"GOPATH": str(made)}
    variables |= {"GOOS": "linux", "GOARCH": _ARCHITECTURES.get(machine, machine)}
    tell(f"building Toxiproxy {VERSION} from {_SOURCE}")
    what = "building Toxiproxy"
    patiently(what, lambda: run(what, command, within_s=_GO_S, variables=variables), tell)
    [built, *_] = [path for path in made.rglob("server") if path.is_file() and "bin" in str(path)]
    # Whole or not at all.
    built.replace(program)
    shutil.rmtree(made, ignore_errors=True)
    return program


def _is_here(machine: str) -> bool:
    here = os.uname()
    return here.sysname == "Linux" and here.machine == machine
