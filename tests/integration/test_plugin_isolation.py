"""What a test gets fresh: by marker, option, fixture, and by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.inner import ECHO, Outcome, carried_out, running_daemon, traced

_LOOK = """
import pytest

@pytest.fixture
def look(harness_environment, tell):
    env = harness_environment

    async def look():
        async with env.client(direct=True) as client:
            await client.health()
        # When they were started tells them apart, processes and containers alike.
        daemon, server = env.stack.site.program, env.stack.server.program
        tell(daemon=daemon.started_at, server=server.started_at, proxy=str(env.address))

    return look
"""


@pytest.fixture(scope="module")
def levels(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Tests of all three levels, told by markers of tests, classes and modules."""
    files = {
        "conftest.py": _LOOK,
        "test_a.py": """
            import pytest

            async def test_first(look):
                await look()

            @pytest.mark.harness_isolation("daemon")
            async def test_own_daemon(look):
                await look()

            async def test_second(look):
                await look()

            @pytest.mark.harness_isolation("environment")
            async def test_own_environment(look):
                await look()

            @pytest.mark.harness_isolation("daemon")
            class TestOwn:
                async def test_of_class(self, look):
                    await look()

                @pytest.mark.harness_isolation("proxy")
                async def test_closer(self, look):
                    await look()
            """,
        "test_b.py": """
            import pytest

            pytestmark = pytest.mark.harness_isolation("daemon")

            async def test_of_module(look):
                await look()
            """,
    }
    outcome = carried_out(tmp_path_factory.mktemp("levels"), files)
    assert outcome.code == 0, outcome.text
    return outcome


def test_proxy_level_shares_the_daemon_and_has_a_proxy_of_its_own(levels: Outcome) -> None:
    """Two tests meet one daemon process and one proxy server, each at another address."""
    daemon, server = levels.told("daemon"), levels.told("server")
    proxy = levels.told("proxy")

    assert daemon["test_first"] == daemon["test_second"]
    assert server["test_first"] == server["test_second"]
    assert proxy["test_first"] != proxy["test_second"]


def test_daemon_level_has_a_daemon_behind_the_server_of_all(levels: Outcome) -> None:
    """Its daemon is nobody else's, its proxy server is."""
    daemon, server = levels.told("daemon"), levels.told("server")

    assert list(daemon.values()).count(daemon["test_own_daemon"]) == 1
    assert server["test_own_daemon"] == server["test_first"]


def test_environment_level_shares_nothing(levels: Outcome) -> None:
    """Neither its daemon nor its proxy server is anybody else's."""
    daemon, server = levels.told("daemon"), levels.told("server")

    assert list(daemon.values()).count(daemon["test_own_environment"]) == 1
    assert list(server.values()).count(server["test_own_environment"]) == 1


def test_the_closest_marker_holds(levels: Outcome) -> None:
    """A class and a module mark their tests; a test's own marker goes before its class's."""
    daemon = levels.told("daemon")

    assert list(daemon.values()).count(daemon["test_of_class"]) == 1
    assert list(daemon.values()).count(daemon["test_of_module"]) == 1
    assert daemon["test_closer"] == daemon["test_first"]


_PLAIN = """
    import pytest
    from harness.daemons.command import Command
    from harness.dialects.plain import Plain

    @pytest.fixture(scope="session")
    def harness_daemon():
        return Command(template=("{python}", "echo.py", "{port}"), dialect=Plain())
    """
_ONE = """
    def test_it(harness_environment, harness_isolation, tell):
        tell(level=harness_isolation, daemon=harness_environment.daemon_url)
    """


def level(folder: Path, *options: str, **files: str) -> Any:
    """Which level a test without a marker gets."""
    named = {f"{name}.py": text for name, text in files.items()}
    outcome = carried_out(folder, {"test_it.py": _ONE, **named}, *options)
    assert outcome.code == 0, outcome.text
    return outcome.told("level")["test_it"]


def test_the_default_is_the_cheapest_level_that_is_sound(tmp_path: Path) -> None:
    """The reference daemon reports on itself, so it is shared."""
    assert level(tmp_path) == "proxy"


def test_a_daemon_whose_connections_the_kernel_counts_is_shared(tmp_path: Path) -> None:
    """A daemon that tells nothing of itself is looked at through the kernel's table."""
    assert level(tmp_path, conftest=_PLAIN, echo=ECHO) == "proxy"


def test_a_daemon_that_cannot_be_looked_at_is_not_shared(tmp_path: Path) -> None:
    """Where neither it nor the kernel tells, each test gets a daemon of its own."""
    blind = """
    from pathlib import Path
    from harness.environment import kernel
    kernel._TABLES = (Path("nowhere"),)
    """
    assert level(tmp_path, conftest=_PLAIN + blind, echo=ECHO) == "daemon"


def test_somebody_elses_daemon_is_always_shared(tmp_path: Path) -> None:
    """An attached daemon cannot be had fresh, so the default asks for no such thing."""
    with running_daemon() as url:
        theirs = f"""
    import pytest
    from pathlib import Path
    from harness.daemons.running import Running
    from harness.dialects.plain import Plain
    from harness.environment import kernel

    kernel._TABLES = (Path("nowhere"),)

    @pytest.fixture(scope="session")
    def harness_daemon():
        return Running.at("{url}", dialect=Plain())
    """
        assert level(tmp_path, conftest=theirs) == "proxy"


def test_the_option_holds_where_no_marker_says(tmp_path: Path) -> None:
    """--harness-isolation goes before what would be computed."""
    assert level(tmp_path, "--harness-isolation", "environment") == "environment"


def test_an_overridden_fixture_goes_before_all(tmp_path: Path) -> None:
    """A project's own harness_isolation decides."""
    own = """
    import pytest

    @pytest.fixture
    def harness_isolation():
        return "daemon"
    """
    assert level(tmp_path, "--harness-isolation", "environment", conftest=own) == "daemon"


def test_an_isolation_that_there_is_not_is_refused(tmp_path: Path) -> None:
    """A word that a project's own fixture made up is an error that names the three."""
    own = """
    import pytest

    @pytest.fixture
    def harness_isolation():
        return "deamon"
    """
    outcome = carried_out(tmp_path, {"conftest.py": own, "test_it.py": _ONE})

    told = outcome.complaint("test_it")
    assert "'deamon' is no isolation; expected one of proxy, daemon, environment" in told
    assert not traced(told)


@pytest.mark.parametrize("asked", ["daemon", "environment"])
def test_a_fresh_one_of_somebody_elses_daemon_is_refused(tmp_path: Path, asked: str) -> None:
    """The error says whose it is and what to do; a test that shares it passes."""
    files = {
        "test_it.py": f"""
            import pytest

            @pytest.mark.harness_isolation("{asked}")
            def test_fresh(harness_environment):
                pass

            def test_shared(harness_environment):
                pass
            """
    }
    with running_daemon() as url:
        outcome = carried_out(tmp_path, files, "--harness-daemon", url)

    assert outcome.ends() == {"test_fresh": ["error"], "test_shared": ["passed"]}
    told = outcome.complaint("test_fresh")
    assert f'isolation "{asked}" wants a daemon of its own; {url.removeprefix("ws://")}' in told
    assert "give the command that starts it, or leave the isolation out" in told
    assert not traced(told)


@pytest.fixture(scope="module")
def harmed(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Each fault of the daemon's process, on a daemon that others use and on one of its own."""
    files = {
        "test_it.py": """
            import pytest
            from harness.faults.kill import Kill
            from harness.faults.pause import Pause
            from harness.faults.restart import Restart

            faults = pytest.mark.parametrize("fault", [Kill(), Pause(), Restart()], ids=repr)

            @faults
            async def test_shared(harness_environment, fault):
                async with harness_environment.inject(fault):
                    pass

            @faults
            @pytest.mark.harness_isolation("daemon")
            async def test_own(harness_environment, fault):
                async with harness_environment.inject(fault):
                    pass
                async with harness_environment.client() as client:
                    assert (await client.call("echo", {"text": "hi"})).text == "hi"

            def test_after_it(harness_environment):
                pass
            """
    }
    return carried_out(tmp_path_factory.mktemp("harmed"), files)


def test_process_faults_are_refused_on_a_shared_daemon(harmed: Outcome) -> None:
    """The error names the marker; nobody after it is harmed."""
    ends = harmed.ends()

    refused = [name for name in ends if name.startswith("test_shared")]
    assert len(refused) == 3
    for name in refused:
        assert ends[name] == ["failed"]
        told = harmed.complaint(name)
        assert "cannot be done here" in told
        assert '@pytest.mark.harness_isolation("daemon")' in told
    assert ends["test_after_it"] == ["passed"]


def test_process_faults_are_allowed_on_a_daemon_of_ones_own(harmed: Outcome) -> None:
    """With the marker the same faults are put on and lifted."""
    ends = harmed.ends()

    assert [ends[name] for name in ends if name.startswith("test_own")] == [["passed"]] * 3


def test_the_runs_of_one_test_share_no_daemon_that_tells_little(tmp_path: Path) -> None:
    """Its connections are all that is seen of a plain one: a run may meet what another left."""
    files = {
        "conftest.py": _PLAIN,
        "echo.py": ECHO,
        "test_it.py": """
    import pytest

    @pytest.mark.harness_runs(2)
    def test_runs(harness_environment, harness_isolation):
        assert harness_isolation == "daemon"

    def test_once(harness_environment, harness_isolation):
        assert harness_isolation == "proxy"
    """,
    }
    outcome = carried_out(tmp_path, files)

    assert outcome.ends() == {"test_runs": ["passed"], "test_once": ["passed"]}, outcome.text
