"""
Where the container engine is: found as Docker's own command finds it, and asked there by all of us.

DOCKER_HOST, else the Docker context in use (rootless, colima, Docker Desktop), else the usual
socket. Testcontainers by itself goes elsewhere where its properties say so; Compose would not.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any, Final

import docker
import docker.utils
from docker.context import ContextAPI

from harness.errors import EnvironmentFailed

__all__ = ["Endpoint", "find_endpoint"]

_USUAL: Final = "unix:///var/run/docker.sock"
_KNOCK_WITHIN_S: Final = 5


@dataclass(frozen=True)
class Endpoint:
    """
    Where an engine is asked.

    Attributes:
        url: Its address, as Docker writes them.
        context: The Docker context that named it; "" where none did.
        tls: How it is asked where that is encrypted, in docker-py's words; None: it is not.
    """

    url: str
    context: str = ""
    tls: Any = None

    def __str__(self) -> str:
        return f"{self.url} (context {self.context})" if self.context else self.url

    def knock(self) -> None:
        """Fail where nobody answers; docker-py would leave its socket to the collector then."""
        host = docker.utils.parse_host(self.url)
        path = host.removeprefix("http+unix://")
        if path != host:
            with socket.socket(socket.AF_UNIX) as visitor:
                visitor.settimeout(_KNOCK_WITHIN_S)
                visitor.connect(path)

    def dial(self, *, timeout_s: float, version: str | None = None) -> Any:
        """
        A client of docker-py's.

        Args:
            timeout_s: The bound of each request, in seconds.
            version: Of the API; None asks the engine for it.
        """
        return docker.DockerClient(
            base_url=self.url,
            tls=self.tls or False,
            version=version,
            timeout=timeout_s,
            # The other way wants a package more, and reads the terminal.
            use_ssh_client=self.url.startswith("ssh://"),
        )


def find_endpoint() -> Endpoint:
    """
    Where the engine is, whether or not one answers there.

    Raises:
        EnvironmentFailed: If the Docker context in use, or a certificate, cannot be read.
    """
    try:
        told = docker.utils.kwargs_from_env()
        context = ContextAPI.get_context(os.environ.get("DOCKER_CONTEXT") or None)
    except Exception as error:  # noqa: BLE001 - docker-py's word for a file that it cannot read
        raise EnvironmentFailed(
            f"where the container engine is cannot be read: {error}",
            [("next", "see `docker context ls`, DOCKER_HOST and DOCKER_CERT_PATH")],
        ) from None
    if url := told.get("base_url"):
        return Endpoint(url, tls=told.get("tls"))
    # One that is named but not there: docker-py takes the usual socket then, too.
    if context is None or context.Name == "default" or not context.Host:
        return Endpoint(_USUAL, tls=told.get("tls"))
    return Endpoint(str(context.Host), context=str(context.Name), tls=context.TLSConfig)
