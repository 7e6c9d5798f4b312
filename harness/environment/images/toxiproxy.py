"""The image of the real Toxiproxy: from its registry, else built from its source."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.environment.images.base import architecture_of
from harness.environment.images.workshop import Workshop
from harness.errors import EnvironmentFailed

if TYPE_CHECKING:
    from harness.environment.containers import Engine

__all__ = ["SOURCE", "VERSION", "bring"]

VERSION: Final = "2.12.0"

# By digest, as many public repositories pin it; it names both architectures.
_DIGEST: Final = "sha256:9378ed52a28bc50edc1350f936f518f31fa95f0d15917d6eb40b8e376d1a214e"
SOURCE: Final = f"ghcr.io/shopify/toxiproxy:{VERSION}@{_DIGEST}"
"""Where it is pulled from."""

_MODULE: Final = "github.com/Shopify/toxiproxy/v2"
_PULL_WITHIN_S: Final = 300.0
_BUILD_WITHIN_S: Final = 600.0


def bring(
    engine: Engine,
    workshop: Workshop,
    name: str,
    pull: bool,  # noqa: FBT001
    source: str = SOURCE,
) -> str:
    """
    Pull it, else build it; says which.

    Raises:
        EnvironmentFailed: If neither can be done; each that was tried is in it.
    """
    failures, short = [], source.partition("@")[0]
    if pull:
        what = f"pulling {short}"
        workshop.tell(what)
        try:
            workshop.attempt(
                what,
                lambda: engine.images.pull(
                    source,
                    within_s=_PULL_WITHIN_S,
                    progress=lambda far: workshop.tell(f"{what}: {far}"),
                ),
            )
            engine.images.tag(source, name)
        except EnvironmentFailed as error:
            workshop.tell(f"{name}: cannot be pulled; built from its source instead")
            failures.append((f"pull {short}", str(error)))
        else:
            return f"pulled {short}"
    else:
        failures.append((f"pull {short}", "not tried: --no-pull"))
    try:
        return _build(engine, workshop, name)
    except EnvironmentFailed as error:
        failures.append(("build it", str(error)))
        raise EnvironmentFailed(f"Toxiproxy {VERSION} cannot be had", failures) from None


def _build(engine: Engine, workshop: Workshop, name: str) -> str:
    architecture = architecture_of(engine)
    program = workshop.folder / f"toxiproxy-{VERSION}-{architecture}"
    if not program.exists():
        _compile(workshop, program.name, architecture=architecture)
    how = f"built from {_MODULE}@v{VERSION}"
    with workshop.scratch("toxiproxy.tar") as archive:
        with tarfile.open(archive, "w") as tar:
            member = tar.gettarinfo(program, "toxiproxy")
            member.mode, member.uid, member.gid, member.uname, member.gname = 0o755, 0, 0, "", ""
            with program.open("rb") as file:
                tar.addfile(member, file)
        # As in the one of the registry.
        changes = [
            'ENTRYPOINT ["/toxiproxy"]',
            'CMD ["-host=0.0.0.0"]',
            f'LABEL ws-harness.how="{how}"',
        ]
        engine.images.load_root(str(archive), name=name, changes=changes)
    return how


def _compile(workshop: Workshop, name: str, *, architecture: str) -> None:
    """Its server, as one file that needs no other, under that name in the folder."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        raise EnvironmentFailed(
            "Go is not here", [("next", "install Go 1.23 or newer; or use the registry")]
        )
    what = f"building Toxiproxy {VERSION} with Go"

    def attempt() -> None:
        (modules,) = workshop.run([go, "env", "GOMODCACHE"], what=what, within_s=60.0)[-1:]
        with workshop.scratch("go") as made:
            workshop.run(
                [
                    *(go, "install", "-trimpath", "-ldflags"),
                    # Without it, /version says "git".
                    f"-s -w -X {_MODULE}.Version={VERSION}",
                    f"{_MODULE}/cmd/server@v{VERSION}",
                ],
                what=what,
                within_s=_BUILD_WITHIN_S,
                variables={
                    "CGO_ENABLED": "0",
                    "GOOS": "linux",
                    "GOARCH": architecture,
                    # For another architecture Go refuses GOBIN, and makes a folder under GOPATH.
                    "GOPATH": str(made),
                    "GOMODCACHE": modules,
                    "GOBIN": None,
                },
            )
            (server,) = (path for path in Path(made / "bin").rglob("server") if path.is_file())
            with workshop.draft(name) as draft:
                server.replace(draft)

    workshop.tell(f"{what}: half a minute")
    workshop.attempt(what, attempt)
