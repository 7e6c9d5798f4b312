"""Docker Compose, asked: a program that does not end in time is ended, with all that it started."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from harness.environment.compose import Compose
from harness.environment.owner import own_name
from harness.environment.reaper import OWNER, PROGRAM, RUN_ID, carriers
from harness.errors import EnvironmentFailed

RUN = "20000101-000000-compose"

# A plugin in a session of its own, and its child.
HANGING = "#!/bin/sh\nsetsid sh -c 'sleep 613 & sleep 614' & echo begun >&2\nwait\n"
TELLING = f"""#!/bin/sh
printf '%s\\n' "$*" "${RUN_ID} ${PROGRAM} ${OWNER}" "$SECRET"
"""


def stand_in(script: str, folder: Path) -> Compose:
    """Compose, where that script is called docker."""
    if script:
        (folder / "docker").write_text(script)
        (folder / "docker").chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}" if script else str(folder)
    return Compose(folder / "c.yaml", run_id=RUN, variables={"SECRET": "x", "PATH": path})


def test_what_it_is_told(tmp_path: Path) -> None:
    """Which project and files; and whose it is, by its environment."""
    compose = stand_in(TELLING, tmp_path)
    said = compose.run("up", "-d", project="p", overrides=[Path("o.yaml")], within_s=10)

    assert said.splitlines() == [
        f"compose -p p -f {tmp_path}/c.yaml -f o.yaml up -d",
        f"{RUN} compose {own_name()}",
        "x",
    ]


def test_what_a_service_writes_may_be_anything(tmp_path: Path) -> None:
    """Its logs are read all the same."""
    compose = stand_in("#!/bin/sh\nprintf 'caf\\351\\n'\n", tmp_path)

    assert compose.run("logs", project="p", within_s=10) == "caf\N{REPLACEMENT CHARACTER}\n"


def test_what_does_not_end_in_time_is_ended(tmp_path: Path) -> None:
    """With what it started, in whatever session."""
    with pytest.raises(EnvironmentFailed, match=r"docker compose up did not end within 0\.5 s"):
        stand_in(HANGING, tmp_path).run("up", project="p", within_s=0.5)

    assert carriers(RUN) == []


async def test_what_is_broken_off_is_ended_and_nothing_more_is_begun(tmp_path: Path) -> None:
    """But for what puts away."""
    compose = stand_in(HANGING, tmp_path)
    up = asyncio.to_thread(compose.run, "up", project="p", within_s=60)
    running = asyncio.ensure_future(up)
    async with asyncio.timeout(10):
        while len(carriers(RUN)) < 3:
            await asyncio.sleep(0.01)
    compose.break_off()
    with pytest.raises(EnvironmentFailed, match="ended with -9"):
        await running

    assert carriers(RUN) == []
    with pytest.raises(EnvironmentFailed, match="broken off"):
        compose.run("up", project="p", within_s=60)
    (tmp_path / "docker").write_text(TELLING)
    assert "down" in compose.run("down", project="p", within_s=10, anyway=True)


NO_PLUGIN = "#!/bin/sh\necho \"unknown shorthand flag: 'p' in -p\" >&2\nexit 125\n"


@pytest.mark.parametrize("script", ["", NO_PLUGIN], ids=["docker", "plugin"])
def test_where_there_is_none_the_remedy_is_said(script: str, tmp_path: Path) -> None:
    """Which is to install it."""
    with pytest.raises(EnvironmentFailed, match="needs the program docker") as caught:
        stand_in(script, tmp_path).run("up", project="p", within_s=60)

    assert "install Docker Compose" in str(caught.value)
