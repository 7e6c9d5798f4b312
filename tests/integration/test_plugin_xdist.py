"""Workers of pytest-xdist: each has its own of everything, and dies without leaving anything."""

from __future__ import annotations

import json

import pytest

from tests.integration.inner import Outcome, carried_out, still_there

_N = 12


@pytest.fixture(scope="module")
def split(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Many tests of all levels on two workers."""
    files = {
        "test_it.py": f"""
    import pytest
    from harness.faults.latency import Latency

    async def look(env, tell, worker, seed):
        async with env.client() as client, env.inject(Latency(latency_ms=1)):
            assert (await client.call("echo", {{"text": "hi"}})).text == "hi"
        tell(
            worker=worker,
            seed=seed,
            proxy=str(env.address),
            run=str(env.run_directory),
            temporary=str(env.stack.household.directory),
            server=env.stack.server.program.started_at,
        )

    @pytest.mark.parametrize("n", range({_N}))
    async def test_proxy(harness_environment, harness_seed, worker_id, tell, n):
        await look(harness_environment, tell, worker_id, harness_seed)

    @pytest.mark.harness_isolation("daemon")
    @pytest.mark.parametrize("n", range({_N}))
    async def test_daemon(harness_environment, harness_seed, worker_id, tell, n):
        await look(harness_environment, tell, worker_id, harness_seed)

    @pytest.mark.harness_isolation("environment")
    @pytest.mark.parametrize("n", range({_N}))
    async def test_environment(harness_environment, harness_seed, worker_id, tell, n):
        await look(harness_environment, tell, worker_id, harness_seed)
    """
    }
    outcome = carried_out(tmp_path_factory.mktemp("split"), files, "-n", "2")
    assert outcome.code == 0, outcome.text
    assert len(outcome.ends()) == 3 * _N
    return outcome


def test_two_workers_carry_out_all_levels(split: Outcome) -> None:
    """Each of them did some of it."""
    assert set(split.told("worker").values()) == {"gw0", "gw1"}


def test_nothing_is_shared_between_workers(split: Outcome) -> None:
    """Each has proxy servers of its own, and nobody gets a folder that another one had."""
    worker = split.told("worker")
    for what in ("server", "temporary"):
        used: dict[object, set[str]] = {}
        for test, value in split.told(what).items():
            used.setdefault(value, set()).add(worker[test])
        assert all(len(workers) == 1 for workers in used.values()), what
    assert len(set(split.told("run").values())) == 3 * _N


def test_the_seed_is_the_controllers(split: Outcome) -> None:
    """Drawn once, shown in the header, and the same in each worker."""
    (seed,) = set(split.told("seed").values())

    assert f"seed {seed} (drawn)" in split.text


def test_run_directories_belong_to_their_tests(split: Outcome) -> None:
    """Each has the name of its test, whoever ran it."""
    for test, run in split.told("run").items():
        about = json.loads((split.folder / run / "environment.json").read_bytes())
        assert about["test"] == test


def test_nothing_is_left(split: Outcome) -> None:
    """When the session is over nothing of any worker is there."""
    assert still_there(split.folder) == []
