"""What a daemon is told of the provider it calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.address import Address, address_of_url
from harness.errors import InvalidValue
from harness.resilience.settings import Settings, key

__all__ = ["ProviderSettings"]

_SCHEMES = ("http",)


@dataclass(frozen=True, kw_only=True)
class ProviderSettings(Settings):
    """
    The provider behind a daemon, and how long it is waited for.

    How a call is tried again is in the section `retry`, when it is not even tried in `breaker`.
    """

    url: str = key(
        "",
        about="where the provider is; empty is nowhere, and then no tool needs one",
        variable="EXAI_PROVIDER_URL",
        live=False,
        advice="http://host:port; of another machine only where the daemon may go there",
    )
    attempt_timeout_s: float = key(
        10.0,
        about="how long one attempt may take; the provider is told",
        above=0,
        high=86_400,
        advice="longer than the provider works. A call's own time limit ends it sooner, which does"
        " not count against the provider: so shorter than server.call_timeout_s",
    )
    max_answer_bytes: int = key(
        1_048_576,
        about="the largest answer; a larger one is a failure of the provider",
        low=1,
        high=1_000_000_000,
    )

    @property
    def address(self) -> Address | None:
        """Where the provider is, None where there is none."""
        return address_of_url(self.url, schemes=_SCHEMES) if self.url else None

    def contradictions(self) -> Iterable[tuple[tuple[str, ...], str]]:
        """The URL says a host and a port, and nothing that would be lost."""
        if not self.url:
            return
        try:
            port = address_of_url(self.url, schemes=_SCHEMES).port
        except InvalidValue as wrong:
            yield ("url",), wrong.headline
            return
        parts = urlsplit(self.url)
        if port == 0 or "@" in parts.netloc or parts.path not in ("", "/") or parts.query:
            yield ("url",), 'expected no more than a host and its port, "http://host:port"'
