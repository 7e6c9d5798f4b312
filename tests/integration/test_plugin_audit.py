"""At its end a session looks for what is left of it: that fails it, by name, and is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.environment.backends import engine
from tests.integration.inner import carried_out, still_there

# What a mistake of ours would leave: it carries the id of a run of this session.
LEAVES = """
    import os
    import subprocess
    import sys
    import tempfile
    from pathlib import Path

    from harness.clock import fresh_id
    from harness.environment.temporary import FOLDER, OWNER_FILE
    from harness.environment.owner import own_name
    from harness.environment.reaper import RUN_ID

    def leave(house):
        run_id = f"test-audit-{fresh_id()}"
        house.reaper.watch(run_id)
        folder = Path(tempfile.gettempdir(), f"{FOLDER}{run_id}")
        house.reaper.remove(run_id, folder)
        folder.mkdir()
        (folder / OWNER_FILE).write_text(own_name())
        variables = {**os.environ, RUN_ID: run_id}
        process = subprocess.Popen(["sleep", "600"], env=variables, start_new_session=True)
        return run_id, process.pid, str(folder)
"""

LEAVES_THERE = """
    import docker

    from harness.environment.containers.left import labels_of
    from harness.environment.images import own_image

    def leave_there(house, run_id):
        house.reaper.contain(run_id)
        client, labels = docker.from_env(), labels_of(run_id)
        client.networks.create(run_id, internal=True, labels=labels)
        client.volumes.create(run_id, labels=labels)
        client.containers.run(
            own_image(), ["sleep", "600"], name=run_id, network=run_id, labels=labels, detach=True
        )
        client.close()
"""


def test_what_is_left_here_fails_the_session(tmp_path: Path) -> None:
    """A process and a folder, each by name; a second later they are gone."""
    suite = """
    from leaves import leave

    def test_it(harness_environment, harness_house, tell):
        run_id, pid, folder = leave(harness_house)
        tell(run_id=run_id, pid=pid, folder=folder)
    """
    run = carried_out(tmp_path, {"leaves.py": LEAVES, "test_it.py": suite})

    assert run.code == 1, run.text
    assert "this session left something behind" in run.text
    assert f"left  process {run.told('pid')['test_it']}" in run.text
    assert f"left  folder {run.told('folder')['test_it']}" in run.text
    assert still_there(tmp_path) == []


def test_what_is_left_on_the_engine_fails_it_too(containers: None, tmp_path: Path) -> None:
    """A container, a network and a volume."""
    suite = """
    from leaves import leave
    from leaves_there import leave_there

    def test_it(harness_environment, harness_house, tell):
        run_id, *_ = leave(harness_house)
        leave_there(harness_house, run_id)
        tell(run_id=run_id)
    """
    files = {"leaves.py": LEAVES, "leaves_there.py": LEAVES_THERE, "test_it.py": suite}
    run = carried_out(tmp_path, files, variables={"HARNESS_BACKEND": "docker"})

    assert run.code == 1, run.text
    run_id = run.told("run_id")["test_it"]
    for kind in ("container", "network", "volume"):
        assert f"left  {kind} {run_id}" in run.text
    assert engine().left.remains(run_id) == []
    assert still_there(tmp_path) == []


@pytest.mark.parametrize("step", ["end", "remove_network"])
def test_what_could_not_be_put_away_is_left_to_the_reaper(
    containers: None, tmp_path: Path, step: str
) -> None:
    """A daemon that resists, or its network: told as an error, named at the end, then removed."""
    suite = f"""
    import pytest
    from harness.environment.boxed import Boxed
    from harness.environment.containers import Engine
    from harness.errors import EnvironmentFailed

    def resist(*_, **__):
        raise EnvironmentFailed("it resists")

    @pytest.mark.harness_isolation("environment")
    def test_it(harness_environment, monkeypatch_late, tell):
        tell(run_id=harness_environment.stack.run_id)
        if "{step}" == "end":
            monkeypatch_late.setattr(Boxed, "remove", resist)
        else:
            monkeypatch_late.setattr(Engine, "remove_network", resist)
    """
    # Put back after the environment was put away.
    conftest = """
    import pytest

    @pytest.fixture(scope="session")
    def monkeypatch_late():
        with pytest.MonkeyPatch.context() as patch:
            yield patch
    """
    files = {"conftest.py": conftest, "test_it.py": suite}
    run = carried_out(tmp_path, files, variables={"HARNESS_BACKEND": "docker"})

    run_id = run.told("run_id")["test_it"]
    assert run.code == 1, run.text
    assert "it resists" in run.text
    assert "this session left something behind" in run.text
    assert f"left  network harness-{run_id}" in run.text
    assert engine().left.remains(run_id) == []
