"""Anybody's daemon that runs already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from harness.address import Address, address_of_url
from harness.complaints import Complaint
from harness.daemons.base import Daemon
from harness.dialects.base import Dialect
from harness.dialects.exai import Exai
from harness.errors import InvalidValue

__all__ = ["Running", "split_url"]


@dataclass(frozen=True, kw_only=True)
class Running(Daemon):
    """
    A daemon at an address. It is somebody else's: neither started nor ended here.

    Args:
        address: Where it listens.
    """

    type: ClassVar[str] = "running"

    # field() takes away the default that the base has.
    address: Address = field()
    token_variable: str | None = None

    @classmethod
    def at(
        cls,
        url: str,
        *,
        dialect: Dialect | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: tuple[str, ...] = (),
        token: str | None = None,
        promises: tuple[str, ...] = (),
        ca_file: Path | None = None,
        allow_remote: bool = False,
    ) -> Self:
        """
        The daemon at a URL.

        Args:
            url: ws://host:port/path or wss://host:port/path.
            dialect: The language it speaks; None: the op dialect.
            headers: Headers that its clients send; "{token}" stands for the token.
            subprotocols: Subprotocols that its clients offer.
            token: The secret its clients show.
            promises: What it promises, where its dialect cannot say.
            ca_file: Certificates to trust; None: the system's.
            allow_remote: Leave to harm it on a machine that is not this one.

        Raises:
            InvalidValue: If the URL is none, or a value is out of range.
        """
        address, tls, path = split_url(url)
        return cls(
            address=address,
            tls=tls,
            path=path or "/",
            dialect=Exai() if dialect is None else dialect,
            headers=dict(headers or {}),
            subprotocols=subprotocols,
            token=token,
            promises=promises,
            ca_file=ca_file,
            allow_remote=allow_remote,
        )

    def _complaints(self) -> list[Complaint]:
        complaints = super()._complaints()
        if self.address.port == 0:
            complaints.append(("address", "nothing listens on port 0; expected 1 to 65535"))
        return complaints

    def command(self, *, host: str, port: int, effects: str) -> list[str]:
        """
        There is none.

        Raises:
            InvalidValue: Always.
        """
        raise InvalidValue(
            f"the daemon at {self.address} is somebody else's; it cannot be started here",
            [("next", "give the command that starts it instead of its address")],
        )


def split_url(url: str) -> tuple[Address, bool, str]:
    """
    A WebSocket URL's address, whether it speaks TLS, and its path with its query.

    The path is "" where the URL has none.

    Raises:
        InvalidValue: If it is no such URL. A user or password in it is not repeated.
    """
    scheme, _, rest = url.partition("://")
    # The authority ends where the first of these begins.
    end = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if "@" in authority:
        raise InvalidValue(
            "a user or password has no place in an address",
            [("next", 'send it as a header: Authorization = "Basic {token}"')],
        )
    address = address_of_url(f"{scheme}://{authority}")
    return address, scheme.lower() == "wss", path if path[:1] in ("", "/") else f"/{path}"
