"""
Where something listens: a host and a port, parsed once, IPv6 included.

Names are not resolved here. A name other than `localhost` is not taken for
loopback, whatever it would resolve to.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.errors import InvalidValue, TargetRefused

__all__ = ["Address", "address_of_url", "refuse_remote"]

_DEFAULT_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}


@dataclass(frozen=True)
class Address:
    """
    A host and a port. Port 0 asks the system to choose.

    Raises:
        InvalidValue: If the port is not in 0 to 65535.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InvalidValue(
                f"port {self.port} is not a port; expected 0 to 65535",
                [("next", "give a port of that range; 0 lets the system choose")],
            )

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """
        Read "host:port" or "[v6]:port".

        Raises:
            InvalidValue: If the text is not of that form.
        """
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            colon = ""
        if not colon or not (port.isascii() and port.isdigit()):
            raise InvalidValue(
                f'"{text}" is not an address; expected "host:port" or "[::1]:port"',
                [("next", "write host, colon and port, for instance 127.0.0.1:8079")],
            )
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether nothing sent there can leave this machine."""
        if self.host == "localhost":
            return True
        return not self.is_name and ipaddress.ip_address(self.host).is_loopback

    @property
    def is_name(self) -> bool:
        """Whether the host is a name and not an IP address."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False


def address_of_url(url: str, *, schemes: tuple[str, ...] = ("ws", "wss")) -> Address:
    """
    The address a URL points to.

    Raises:
        InvalidValue: If it is no URL of one of the schemes, or its port is none.
    """
    expected = " or ".join(f"{scheme}://host:port" for scheme in schemes)
    rows = [("next", f"write the whole of it, for instance {schemes[0]}://127.0.0.1:8079")]
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidValue(
            f'"{url}" is not an address: {error}; expected {expected}', rows
        ) from None
    if parts.scheme not in schemes or not parts.hostname:
        raise InvalidValue(f'"{url}" is not an address; expected {expected}', rows)
    return Address(parts.hostname, _DEFAULT_PORTS[parts.scheme] if port is None else port)


def refuse_remote(address: Address, *, what: str, allow_remote: bool) -> None:
    """
    Refuse a target that is not on this machine, unless leave was given.

    Raises:
        TargetRefused: If it is not loopback and `allow_remote` is False.
    """
    if not allow_remote and not address.is_loopback:
        rows = [
            ("next", "if that machine is yours to harm: --allow-remote, or allow_remote = true")
        ]
        if address.is_name:
            rows.insert(
                0, ("found", "a name; none but localhost is resolved to see where it leads")
            )
        raise TargetRefused(
            f"{what} {address} is not a loopback address; faults are for machines of your own", rows
        )
