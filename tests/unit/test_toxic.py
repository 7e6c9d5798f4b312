"""Toxics by hand: what is wrong with the arguments, and what is shown."""

from __future__ import annotations

import pytest

from harness import toxic
from harness.errors import InvalidValue, TargetRefused
from harness.proxy.control import Control, ProxyState, ToxicState
from tests import sabotage


async def complaints(type: str, *settings: str, **options: object) -> list[tuple[str, str]]:
    with pytest.raises(InvalidValue) as caught:
        await toxic.add_toxic(type, settings, **options)  # type: ignore[arg-type]
    assert type in caught.value.headline
    return list(caught.value.details)


async def test_all_mistakes_in_the_arguments_come_at_once():
    """
    A setting that is none, one twice, unknown, missing and bad ones, and a server far away.
    """
    rows = await complaints(
        "latency",
        "fast",
        "latncy_ms=1",
        "jitter_ms=some",
        "toxicity=2",
        "toxicity=3",
        "stream=sideways",
        api="http://192.0.2.1:8474",
    )

    assert [label for label, _ in rows] == [
        *("fast", "toxicity", "latncy_ms", "latency_ms", "stream", "toxicity", "jitter_ms"),
        *("api", "next"),
    ]
    assert dict(rows)["fast"] == "is no setting; expected KEY=VALUE, for instance latency_ms=200"
    assert rows[1] == ("toxicity", "is set twice")
    assert dict(rows)["latncy_ms"].startswith("unknown; latency takes latency_ms, jitter_ms")
    assert dict(rows)["jitter_ms"] == "'some' is not allowed; a whole number, 0 or more"
    assert "--allow-remote" in dict(rows)["next"]


async def test_an_unknown_toxic_is_answered_with_those_there_are():
    """
    Faults that are not on the wire are none of them.
    """
    rows = await complaints("kill", "latency_ms")

    expected = "bandwidth, latency, limit_data, reset_peer, timeout"
    assert rows[0] == ("type", f'"kill" is unknown; expected {expected}')
    assert rows[1][0] == "latency_ms"


@pytest.mark.parametrize("api", ["127.0.0.1:8474", "ws://127.0.0.1:8474", "http://"])
async def test_an_api_that_is_no_url_is_refused(api: str):
    """
    The complaint says what is expected.
    """
    with pytest.raises(InvalidValue, match="expected http://host:port"):
        await toxic.list_toxics(api=api)


async def test_a_remote_api_is_refused_by_every_action():
    """
    Faults are for machines of one's own.
    """
    for work in (
        toxic.list_toxics(api="http://192.0.2.1:8474"),
        toxic.remove_toxic("slow", api="http://192.0.2.1:8474"),
    ):
        with pytest.raises(TargetRefused):
            await work


def test_the_help_has_every_toxic_with_its_keys():
    """
    It is made from the catalogue; keys that need not be given are in brackets.
    """
    text = toxic.describe_toxics()

    for name, kind in sabotage.toxics().items():
        assert name in text
        assert all(spec.name in text for spec in kind.wire_fields())
    assert "latency_ms=N [jitter_ms=N]" in text
    assert "Hold every chunk back before passing it on." in text


def served(monkeypatch: pytest.MonkeyPatch, *proxies: ProxyState) -> None:
    """A server with these proxies, of which nothing can be asked but to list them."""

    async def listed(control: Control) -> dict[str, ProxyState]:
        return {proxy.name: proxy for proxy in proxies}

    monkeypatch.setattr(Control, "proxies", listed)


def proxy(name: str, *toxics: ToxicState, enabled: bool = True) -> ProxyState:
    return ProxyState(name, "127.0.0.1:9079", "127.0.0.1:8079", enabled, list(toxics))


async def test_toxics_are_shown_under_our_names(monkeypatch: pytest.MonkeyPatch):
    """
    What has no name of ours, on a server that has more toxics, is shown as the server has it.
    """
    late = ToxicState("late", "latency", "upstream", 0.5, {"latency": 200, "jitter": 0})
    slices = ToxicState("slices", "slicer", "downstream", 1.0, {"average_size": 5})
    served(monkeypatch, proxy("off", enabled=False), proxy("edge", late, slices))

    assert (await toxic.list_toxics()).splitlines() == [
        "edge   listen 127.0.0.1:9079   upstream 127.0.0.1:8079",
        "  late     latency   upstream     latency_ms=200 jitter_ms=0 toxicity=0.5",
        "  slices   slicer    downstream   average_size=5",
        "off   listen 127.0.0.1:9079   upstream 127.0.0.1:8079   (disabled)",
        "  no toxics",
    ]


@pytest.mark.parametrize(
    ("names", "wanted", "headline", "there"),
    [
        ([], None, "there is no proxy", "none"),
        (["b", "a"], None, "there are 2 proxies; which one?", "a, b"),
        (["b", "a"], "c", 'there is no proxy "c"', "a, b"),
    ],
)
async def test_a_proxy_that_cannot_be_told_is_asked_for_with_those_there_are(
    names: list[str],
    wanted: str | None,
    headline: str,
    there: str,
    monkeypatch: pytest.MonkeyPatch,
):
    """
    None, several without a name, or none of that name.
    """
    served(monkeypatch, *map(proxy, names))

    with pytest.raises(InvalidValue) as caught:
        await toxic.add_toxic("latency", ["latency_ms=1"], proxy=wanted)

    assert caught.value.headline == headline
    assert dict(caught.value.details)["there"] == there
    assert "next" in dict(caught.value.details)


async def test_a_toxic_that_is_not_there_cannot_be_removed(monkeypatch: pytest.MonkeyPatch):
    """
    Those that are there are named.
    """
    served(monkeypatch, proxy("edge", ToxicState("late", "latency", "upstream", 1.0, {})))

    with pytest.raises(InvalidValue) as caught:
        await toxic.remove_toxic("latency_downstream")

    assert 'no toxic "latency_downstream" on edge' in caught.value.headline
    assert dict(caught.value.details)["there"] == "late"
