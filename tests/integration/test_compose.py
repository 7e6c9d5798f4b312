"""`compose.yaml`, to work by hand: brought up, harmed from outside, taken down."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from toxiproxy import Toxiproxy

from harness.client.session import Session
from harness.dialects.exai import Exai
from harness.environment import images
from tests.integration.ports import spare_ports
from tests.integration.programs import output_of
from tests.integration.proxy_process import eventually
from tests.integration.throwaway import bench

ROOT = Path(__file__).resolve().parents[2]
BOUND_S = 120

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Project:
    """What `docker compose` is told of: a name and ports that nobody else has."""

    name: str
    files: tuple[Path, ...]
    port: int
    api_port: int

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"ws://127.0.0.1:{self.port}"

    def __call__(self, *words: str) -> str:
        """Run a command of Compose's; its output."""
        files = [word for file in self.files for word in ("-f", str(file))]
        ports = {"HARNESS_PORT": str(self.port), "HARNESS_API_PORT": str(self.api_port)}
        command = ("docker", "compose", "-p", self.name, *files, *words)
        return output_of(*command, within_s=BOUND_S, variables=ports)

    def post(self, path: str, body: object) -> None:
        """As curl does."""
        url = f"http://127.0.0.1:{self.api_port}{path}"
        data = json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=10) as answer:
            assert answer.status in (200, 204)

    async def call_ms(self) -> float:
        """How long a call takes."""
        return await self.tool_ms("echo", {"text": "hi"})

    async def tool_ms(self, tool: str, arguments: dict[str, str]) -> float:
        """How long a call of a tool takes."""
        async with Session(self.url, dialect=Exai(), process="by-hand") as session:
            reply = await session.call(tool, arguments)
        assert reply.text == "hi" or tool != "echo"
        return reply.elapsed_ms


def lacking() -> str:
    """Why there is no Compose here; "" where there is."""
    try:
        done = subprocess.run(
            ["docker", "compose", "version"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "there is no docker command"
    return "" if done.returncode == 0 else "docker has no compose plugin"


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Project]:
    """The project, up and healthy, with our image as this tree makes it."""
    if why := lacking():
        pytest.skip(f"no Compose: {why}")
    folder = tmp_path_factory.mktemp("compose")
    with bench(folder / "cache", pytestconfig) as workbench:
        if images.missing(workbench.engine, images=[images.TOXIPROXY]):
            pytest.skip(f"no Compose: {images.TOXIPROXY_IMAGE} is not here; `make images`")
        workbench.ensure(workbench.daemon)
        override = folder / "override.yaml"
        ours = {"image": workbench.daemon.name}
        override.write_text(json.dumps({"services": {"daemon": ours, "provider": ours}}))
        made = Project(
            f"ws-harness-test-{workbench.mark}",
            (ROOT / "compose.yaml", override),
            *spare_ports(2),
        )
        try:
            made("up", "--detach", "--wait", "--wait-timeout", "60")
            yield made
        finally:
            made("down", "--volumes", "--timeout", "2")
        left = made("ps", "--all", "--quiet")
        assert left == ""


def in_time(took_ms: float) -> bool:
    """Whether a call took less than the latency of these tests."""
    return took_ms < 300


async def test_a_latency_put_on_by_http_is_seen(project: Project):
    """As with curl: the reply is late by what was asked for, and in time afterwards."""
    late = {"name": "slow", "type": "latency", "attributes": {"latency": 300}}
    project.post("/proxies/edge/toxics", late)
    try:
        assert await project.call_ms() >= 300
    finally:
        project.post("/reset", None)
    await eventually(project.call_ms, in_time)


async def test_a_latency_put_on_by_toxiproxy_python_is_seen(project: Project):
    """Its client finds the proxy of the file and puts a toxic on it."""
    server = Toxiproxy()
    server.update_api_consumer("127.0.0.1", project.api_port)
    edge = server.get_proxy("edge")

    edge.add_toxic(type="latency", attributes={"latency": 300})

    try:
        assert await project.call_ms() >= 300
    finally:
        edge.destroy_toxic("latency_downstream")


async def test_the_provider_stands_behind_a_proxy_of_its_own(project: Project):
    """A latency there makes `chat` late, and nothing else."""
    late = {"name": "slow", "type": "latency", "attributes": {"latency": 300}}
    project.post("/proxies/provider/toxics", late)
    try:
        assert await project.tool_ms("chat", {"prompt": "hi"}) >= 300
        await eventually(project.call_ms, in_time)
    finally:
        project.post("/reset", None)
    await eventually(lambda: project.tool_ms("chat", {"prompt": "hi"}), in_time)


def test_its_ports_are_on_loopback_only(project: Project):
    """Whoever reaches the API can connect anywhere, so no other machine may."""
    rows = [json.loads(line) for line in project("ps", "--format", "json").splitlines()]

    published = [port for row in rows for port in row["Publishers"] if port["PublishedPort"]]
    assert {port["PublishedPort"] for port in published} == {project.port, project.api_port}
    assert {port["URL"] for port in published} == {"127.0.0.1"}


def test_healthy_means_an_answered_call(project: Project):
    """The health check is a hello and a call, made with a program of the image itself."""
    test = json.loads(project("config", "--format", "json"))["services"]["daemon"]["healthcheck"]

    assert project("exec", "daemon", *test["test"][1:]).strip() == "hi"


def test_of_the_provider_it_means_an_answered_get(project: Project):
    """An address that it does not know is no health."""
    services = json.loads(project("config", "--format", "json"))["services"]
    test = services["provider"]["healthcheck"]["test"][1:]

    project("exec", "provider", *test)
    with pytest.raises(AssertionError):
        project("exec", "provider", *(word.replace("/health", "/nowhere") for word in test))
