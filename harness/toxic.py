"""
Toxics by hand, on any Toxiproxy: put on, taken off, listed.

What a person writes are the names of our fields, units and all; the catalogue of
faults knows them, and what Toxiproxy calls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING
from typing import Any, Final

from harness.address import address_of_url, refuse_remote
from harness.errors import InvalidValue
from harness.faults.base import Fault, Toxic
from harness.proxy.control import Control, ProxyState, ToxicState
from harness.registry import catalogue

__all__ = ["DEFAULT_API", "add_toxic", "describe_toxics", "list_toxics", "remove_toxic"]

DEFAULT_API: Final = "http://127.0.0.1:8474"
"""Where a Toxiproxy listens unless told otherwise."""

_PROVIDER: Final = "provider"


async def add_toxic(
    type: str,
    settings: Sequence[str] = (),
    *,
    name: str | None = None,
    proxy: str | None = None,
    api: str = DEFAULT_API,
    allow_remote: bool = False,
) -> str:
    """
    Put a toxic on the wire.

    Args:
        type: Which kind, "latency" for instance.
        settings: Its values as "KEY=VALUE", stream and toxicity among them.
        name: Its name (default: type and stream, as Toxiproxy has it).
        proxy: The proxy's name (default: the only one there is, but for one called provider).
        api: The server's address, "http://host:port".
        allow_remote: Whether the server may be on another machine.

    Returns:
        What is on the wire of that proxy now, as text.

    Raises:
        InvalidValue: If anything of that cannot be used; all mistakes at once.
        ProxyError: If the server refuses, or does not answer.
    """
    toxic, rows = _toxic(type, settings)
    try:
        control = _control(api, allow_remote=allow_remote)
    except InvalidValue as error:
        rows += [("api", error.headline), *error.details]
    if toxic is None or rows:
        raise InvalidValue(f'"{type}" cannot be put on', rows)
    chosen = (await _chosen(control, proxy)).name
    name = f"{toxic.type}_{toxic.stream}" if name is None else name
    await control.add_toxic(chosen, toxic, name=name)
    return _picture(await control.proxy(chosen))


async def remove_toxic(
    name: str,
    *,
    proxy: str | None = None,
    api: str = DEFAULT_API,
    allow_remote: bool = False,
) -> str:
    """
    Take a toxic off the wire. Arguments, result and errors are those of `add_toxic`.

    Args:
        name: The toxic's name.
        proxy: The proxy's name (default: the only one there is, but for one called provider).
        api: The server's address.
        allow_remote: Whether the server may be on another machine.
    """
    control = _control(api, allow_remote=allow_remote)
    chosen = await _chosen(control, proxy)
    names = [toxic.name for toxic in chosen.toxics]
    if name not in names:
        raise InvalidValue(
            f'there is no toxic "{name}" on {chosen.name}',
            [
                ("there", ", ".join(names) or "none"),
                ("next", "give one of those names; `harness toxic list` shows every proxy's"),
            ],
        )
    await control.remove_toxic(chosen.name, name)
    return _picture(await control.proxy(chosen.name))


async def list_toxics(
    *, proxy: str | None = None, api: str = DEFAULT_API, allow_remote: bool = False
) -> str:
    """
    What is on the wire of every proxy, or of one. Errors are those of `add_toxic`.

    Args:
        proxy: The proxy's name (default: all).
        api: The server's address.
        allow_remote: Whether the server may be on another machine.
    """
    control = _control(api, allow_remote=allow_remote)
    if proxy is not None:
        return _picture(await _chosen(control, proxy))
    proxies = await control.proxies()
    return "\n".join(_picture(proxies[name]) for name in sorted(proxies)) or "no proxy there"


def describe_toxics() -> str:
    """Every toxic, what it does and the keys it takes, for a help text."""
    lines = ["toxics and their keys:"]
    for name, kind in _toxics().items():
        keys = [
            f"{spec.name}=N" if spec.default is MISSING else f"[{spec.name}=N]"
            for spec in kind.wire_fields()
        ]
        lines.append(f"  {name:<12}{' '.join(keys)}")
        lines.append(f"  {'':<12}{(kind.__doc__ or '').strip().splitlines()[0]}")
    return "\n".join(lines)


def _toxics() -> dict[str, type[Toxic]]:
    faults = catalogue("harness.faults", Fault)
    return {name: kind for name, kind in faults.items() if issubclass(kind, Toxic)}


def _toxic(type: str, settings: Sequence[str]) -> tuple[Toxic | None, list[tuple[str, str]]]:
    """The toxic, None where there can be none for the mistakes in the rows."""
    rows: list[tuple[str, str]] = []
    values: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not (key and equals):
            rows.append((text, "is no setting; expected KEY=VALUE, for instance latency_ms=200"))
        elif key in values:
            rows.append((key, "is set twice"))
        else:
            values[key] = _value(value)
    kinds = _toxics()
    if type in kinds:
        rows += kinds[type].complaints(values)
        return (None if rows else kinds[type](**values)), rows
    return None, [("type", f'"{type}" is unknown; expected {", ".join(kinds)}'), *rows]


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _control(api: str, *, allow_remote: bool) -> Control:
    address = address_of_url(api, schemes=("http",))
    refuse_remote(address, what="the proxy's API at", allow_remote=allow_remote)
    return Control(api)


async def _chosen(control: Control, wanted: str | None) -> ProxyState:
    proxies = await control.proxies()
    if wanted in proxies:
        return proxies[wanted]
    # What stands between a daemon and its provider is meant by its name alone.
    usual = [state for name, state in proxies.items() if name != _PROVIDER or len(proxies) == 1]
    if wanted is None and len(usual) == 1:
        return usual[0]
    if wanted is not None:
        headline = f'there is no proxy "{wanted}"'
    elif proxies:
        headline = f"there are {len(proxies)} proxies; which one?"
    else:
        headline = "there is no proxy"
    steps = f"give --proxy NAME, one of those; POST {control.url}/proxies makes another"
    raise InvalidValue(
        headline,
        [
            ("server", control.url),
            ("there", ", ".join(sorted(proxies)) or "none"),
            ("next", steps if proxies else f"make one: POST {control.url}/proxies"),
        ],
    )


def _picture(proxy: ProxyState) -> str:
    """A proxy and what is on its wire."""
    state = "" if proxy.enabled else "   (disabled)"
    head = f"{proxy.name}   listen {proxy.listen}   upstream {proxy.upstream}{state}"
    rows = [(toxic.name, toxic.type, toxic.stream, _settings(toxic)) for toxic in proxy.toxics]
    if not rows:
        return f"{head}\n  no toxics"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n  ".join([head, *lines])


def _settings(toxic: ToxicState) -> str:
    """Its values under our names where we have some: a server may have toxics we have not."""
    kind = _toxics().get(toxic.type)
    ours = {} if kind is None else {f.metadata["wire"]: f.name for f in kind.wire_fields()}
    values = [f"{ours.get(key, key)}={value}" for key, value in toxic.attributes.items()]
    if toxic.toxicity != 1:
        values.append(f"toxicity={toxic.toxicity:g}")
    return " ".join(values)
