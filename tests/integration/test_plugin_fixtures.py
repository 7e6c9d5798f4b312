"""What each fixture gives, that each knob can be turned, and what happens outside a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.inner import ECHO, Outcome, carried_out, traced
from tests.integration.proxy_process import proxy_process


@pytest.fixture(scope="module")
def given(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A suite that uses them all."""
    files = {
        "test_it.py": """
    import pytest
    from websockets.sync.client import connect
    from harness.faults.latency import Latency

    def hello(client):
        client.send('{"op": "hello"}')
        return client.recv(timeout=5)

    def test_url(harness_url, harness_environment):
        assert harness_url == harness_environment.url
        with connect(harness_url) as client:
            assert '"ok":true' in hello(client)

    def test_url_with_a_fault(harness_url, harness_environment):
        from time import monotonic
        with connect(harness_url) as client:
            hello(client)
            with harness_environment.inject(Latency(latency_ms=50)):
                began = monotonic()
                client.send('{"op": "ping"}')
                client.recv(timeout=5)
        assert monotonic() - began >= 0.05

    async def test_client(harness_client):
        assert not harness_client.is_open
        async with harness_client as client:
            assert (await client.call("echo", {"text": "hi"})).text == "hi"

    def test_unused_client(harness_client):
        pass

    def test_run_directory(harness_run_directory, tell):
        assert (harness_run_directory / "environment.json").exists()
        tell(directory=str(harness_run_directory))

    def test_toxiproxy(harness_toxiproxy, harness_run, tell):
        from harness.proxy.control import Control
        control = Control(f"http://{harness_toxiproxy}")
        assert harness_run(control.proxies()) == {}
        harness_run(control.create("mine", upstream="127.0.0.1:1"))
        tell(toxiproxy=str(harness_toxiproxy))

    test_toxiproxy_again = test_toxiproxy

    def test_toxiproxy_python(harness_toxiproxy_python, harness_toxiproxy, tell):
        from toxiproxy.api import APIConsumer
        proxy = harness_toxiproxy_python.create(name="mine", upstream="127.0.0.1:1")
        proxy.add_toxic(type="latency", attributes={"latency": 1})
        assert list(harness_toxiproxy_python.proxies()) == ["mine"]
        assert (APIConsumer.host, APIConsumer.port) == (
            harness_toxiproxy.host, harness_toxiproxy.port)

    def test_toxiproxy_python_is_put_back(tell):
        from toxiproxy.api import APIConsumer
        tell(host=APIConsumer.host, port=APIConsumer.port)
    """
    }
    return carried_out(tmp_path_factory.mktemp("given"), files)


def test_every_fixture_gives_what_it_says(given: Outcome) -> None:
    """The suite passes, with warnings as errors."""
    assert given.code == 0, given.text


def test_each_test_has_a_toxiproxy_of_its_own(given: Outcome) -> None:
    """What one test made on its server the other does not meet."""
    assert len(set(given.told("toxiproxy").values())) == 2


def test_toxiproxy_python_points_elsewhere_only_meanwhile(given: Outcome) -> None:
    """Afterwards the package's class-wide address is the one it came with."""
    assert given.told("host") == {"test_toxiproxy_python_is_put_back": "127.0.0.1"}
    assert given.told("port") == {"test_toxiproxy_python_is_put_back": 8474}


def test_a_run_directory_has_what_happened(given: Outcome) -> None:
    """Record, results and logs are there when the test is over."""
    directory = Path(given.told("directory")["test_run_directory"])

    names = {file.name for file in directory.iterdir()}
    assert {"history.jsonl", "environment.json", "results.json"} <= names
    assert {"daemon.log", "proxy.log"} <= names


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A suite that overrides every knob, with a daemon in a folder of each test's own."""
    files = {
        "echo.py": ECHO,
        "conftest.py": """
    import pytest
    from pathlib import Path
    from harness.daemons.command import Command
    from harness.dialects.plain import Plain

    ECHO = str(Path(__file__).with_name("echo.py"))

    @pytest.fixture
    def harness_daemon(tmp_path):
        return Command(template=("{python}", ECHO, "{port}"), directory=tmp_path, dialect=Plain())

    @pytest.fixture
    def harness_seed():
        return 4711

    @pytest.fixture(scope="session")
    def harness_proxy():
        return "embedded"
    """,
        "test_it.py": """
    import json
    import os
    from pathlib import Path
    import pytest
    from harness.faults.latency import Latency

    @pytest.mark.parametrize("n", range(8))
    async def test_it(harness_environment, tmp_path, n, tell):
        env = harness_environment
        async with env.client() as client, env.inject(Latency(latency_ms=1, jitter_ms=1)):
            await client.call("hi")
        pid = env.stack.site.program.pid
        assert os.readlink(f"/proc/{pid}/cwd") == str(tmp_path)
        state = await env.control.proxy(env.name)
        tell(pid=pid, seed=state.seed)

    async def test_not_all_of_them_are_kept(harness_environment, tell):
        lines = Path("told.jsonl").read_text().splitlines()
        pids = [json.loads(line)["pid"] for line in lines]
        tell(alive=sum(os.path.exists(f"/proc/{pid}") for pid in pids))
    """,
    }
    return carried_out(tmp_path_factory.mktemp("turned"), files)


def test_a_daemon_of_each_tests_own(turned: Outcome) -> None:
    """A function-scoped harness_daemon with tmp_path gives each test another process."""
    assert turned.code == 0, turned.text
    assert len(set(turned.told("pid").values())) == 8


def test_daemons_that_nobody_asks_for_any_more_are_ended(turned: Outcome) -> None:
    """However many there were, a few are kept for whoever may come again."""
    assert turned.told("alive")["test_not_all_of_them_are_kept"] < 5


def test_an_overridden_seed_reaches_the_proxy(turned: Outcome) -> None:
    """Each test's proxy draws from it, and the record says so."""
    assert set(turned.told("seed").values()) == {4711}
    about = json.loads((turned.run_directory("test_it-0") / "environment.json").read_bytes())
    assert about["seed"] == 4711


def test_an_overridden_proxy(tmp_path: Path) -> None:
    """A server that runs already is used, and nothing of ours is left on it."""
    files = {
        "conftest.py": """
    import os, pytest

    @pytest.fixture(scope="session")
    def harness_proxy():
        return os.environ["THEIR_PROXY"]
    """,
        "test_it.py": """
    import pytest
    from harness.faults.latency import Latency

    @pytest.mark.parametrize("level", ["proxy", "daemon"])
    async def test_it(harness_environment, level, tell):
        async with harness_environment.client() as client:
            async with harness_environment.inject(Latency(latency_ms=20)):
                assert (await client.call("echo", {"text": "hi"})).elapsed_ms >= 20
        tell(url=harness_environment.control.url)

    @pytest.fixture
    def harness_isolation(level):
        return level

    @pytest.mark.parametrize("level", ["environment"])
    def test_fresh(harness_environment, level):
        pass
    """,
    }
    with proxy_process() as server:
        body = {"name": "theirs", "upstream": "127.0.0.1:1", "listen": "127.0.0.1:0"}
        assert server.http.call("POST", "/proxies", body).status == 201
        url = server.control.url
        outcome = carried_out(tmp_path, files, variables={"THEIR_PROXY": url})
        left = set(server.http.call("GET", "/proxies").json)

    assert set(outcome.told("url").values()) == {url}
    assert left == {"theirs"}
    ends = outcome.ends()
    assert ends["test_it[proxy]"] == ends["test_it[daemon]"] == ["passed"]
    told = outcome.complaint("test_fresh[environment]")
    assert f"{url} is somebody else's" in told
    assert not traced(told)


@pytest.fixture(scope="module")
def outside(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Fixtures where they do not belong, and environments whose test is over."""
    files = {
        "conftest.py": """
    import pytest

    @pytest.fixture(scope="session")
    def too_wide(harness_environment):
        pass

    @pytest.fixture(scope="session")
    def kept():
        return {}
    """,
        "test_it.py": """
    import pytest
    from harness.errors import InvalidValue
    from harness.faults.latency import Latency

    def test_called_directly():
        from harness.pytest_plugin import harness_environment
        harness_environment()

    def test_too_wide(too_wide):
        pass

    async def test_1_keeps(kept, harness_environment):
        kept["env"] = harness_environment
        kept["unopened"] = harness_environment.client(direct=True)
        kept["guard"] = harness_environment.inject(Latency(latency_ms=1))
        async with kept["guard"]:
            pass

    async def test_2_environment(kept, tell):
        env = kept["env"]
        async def story():
            pass
        said = {}
        for name, use in {
            "url": lambda: env.url,
            "client": lambda: env.client(),
            "direct": lambda: env.client(direct=True),
            "inject": lambda: env.inject(Latency(latency_ms=1)),
            "run": lambda: env.run(story()),
        }.items():
            with pytest.raises(InvalidValue) as caught:
                use()
            said[name] = str(caught.value)
        tell(said=said)

    async def test_3_client(kept):
        with pytest.raises(InvalidValue, match="the test it was made for is over"):
            async with kept["unopened"]:
                pass

    async def test_4_guard(kept):
        with pytest.raises(InvalidValue, match="the test it was made for is over"):
            async with kept["guard"]:
                pass

    def test_5_history(kept):
        assert [op.f for op in kept["env"].history().ops if op.process == "nemesis"]
    """,
    }
    return carried_out(tmp_path_factory.mktemp("outside"), files)


def test_an_environment_whose_test_is_over_says_so(outside: Outcome) -> None:
    """Whatever is asked of it; its record can still be read."""
    ends = outside.ends()
    assert [ends[name] for name in ends if name[:6].removeprefix("test_").isdigit()] == [
        ["passed"]
    ] * 5, outside.text
    said = outside.told("said")["test_2_environment"]
    assert set(said) == {"url", "client", "direct", "inject", "run"}
    for text in said.values():
        assert "this environment was put away" in text
        assert "inside the test it is for" in text


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("test_called_directly", 'Fixture "harness_environment" called directly'),
        ("test_too_wide", "ScopeMismatch"),
    ],
)
def test_a_fixture_in_the_wrong_place(outside: Outcome, test: str, said: str) -> None:
    """pytest itself says what is wrong."""
    assert said in outside.complaint(test)
