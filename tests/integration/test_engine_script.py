"""`docker/engine.sh`: an engine on a bare machine, of which it stops no other than its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.throwaway import engine_or_skip

SCRIPT = Path(__file__).resolve().parents[2] / "docker/engine.sh"
BOUND_S = 120

pytestmark = pytest.mark.timeout(300)


def run_script(action: str, *, prefix: tuple[str, ...] = (), **variables: str) -> str:
    """What it said; its last line is its exit code."""
    done = subprocess.run(
        [*prefix, "bash", str(SCRIPT), action],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    return f"{done.stdout}{done.returncode}"


@pytest.fixture
def second() -> Iterator[dict[str, str]]:
    """What the script is told for an engine of the test's own."""
    if os.geteuid() != 0 or not shutil.which("dockerd") or not shutil.which("unshare"):
        pytest.skip("a second engine takes root, dockerd and unshare")
    # The path of a socket has a limit of a hundred characters or so; dockerd makes some in there.
    folder = tempfile.mkdtemp(prefix="ws-harness-engine-")
    socket = f"unix://{folder}/socket"
    told = {
        "DOCKER_HOST": socket,
        "HARNESS_ENGINE_DIR": f"{folder}/state",
        "HARNESS_ENGINE_ARGS": (
            f"--data-root {folder}/data --exec-root {folder}/exec -H {socket} "
            "--bridge=none --iptables=false"
        ),
    }
    try:
        yield told
    finally:
        run_script("stop", **told)
        # One that had to be killed leaves its folders mounted, and they could not be removed.
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (place := line.split()[1]).startswith(folder):
                subprocess.run(["umount", place], check=False)
        shutil.rmtree(folder)


# Its dockerd would take away the network of the machine's own; what it mounts goes with it.
APART = ("unshare", "--net", "--mount")


def test_an_engine_that_answers_is_left_as_it_is(tmp_path: Path, pytestconfig: pytest.Config):
    """Neither start nor stop touches it."""
    engine_or_skip(pytestconfig).close()
    told = {"HARNESS_ENGINE_DIR": str(tmp_path)}

    assert run_script("start", **told) == "engine: one answers already: left as it is\n0"
    assert run_script("status", **told) == "engine: one answers, not started here\n0"
    assert run_script("stop", **told) == "engine: none of ours runs\n0"
    assert run_script("status", **told) == "engine: one answers, not started here\n0"


def test_one_is_started_where_none_answers_and_stopped(second: dict[str, str]):
    """It outlives the script that started it, is started once, and ends when told to."""
    assert run_script("status", **second) == "engine: none answers\n1"

    started = run_script("start", prefix=APART, **second)

    assert "engine: started " in started
    assert ", 0 retries\n0" in started.replace("; ", ", ")
    assert run_script("status", **second) == "engine: ours answers\n0"
    assert run_script("start", prefix=APART, **second).endswith("left as it is\n0")
    assert run_script("stop", **second) == "engine: stopped\n0"
    assert run_script("status", **second) == "engine: none answers\n1"


def test_what_has_its_number_but_is_not_it_is_not_stopped(second: dict[str, str]):
    """After a reboot somebody else may have the process id that was noted."""
    run_script("start", prefix=APART, **second)
    mark = Path(second["HARNESS_ENGINE_DIR"]) / "dockerd.started"
    noted = mark.read_text()
    pid, _, rest = noted.partition(" ")
    mark.write_text(f"{pid} 1{rest}")

    assert run_script("stop", **second) == "engine: none of ours runs\n0"
    assert run_script("status", **second) == "engine: one answers, not started here\n0"

    mark.write_text(noted)
    assert run_script("stop", **second) == "engine: stopped\n0"


def test_one_that_does_not_come_up_is_told_with_the_end_of_its_log(second: dict[str, str]):
    """Three attempts, counted, and nothing is left running."""
    args = f"{second['HARNESS_ENGINE_ARGS']} --no-such-option"

    said = run_script("start", prefix=APART, **{**second, "HARNESS_ENGINE_ARGS": args})

    assert "unknown flag: --no-such-option" in said
    assert said.endswith("engine: starting dockerd: failed 3 times\n1")
    assert run_script("stop", **second) == "engine: none of ours runs\n0"


def test_a_mistake_is_a_usage_error():
    """It says what it takes."""
    said = run_script("restart")

    assert "docker/engine.sh start" in said
    assert said.endswith("\n64")
