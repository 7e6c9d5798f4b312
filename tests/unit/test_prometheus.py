"""What Prometheus reads of metrics, with its own client's parser."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from harness.errors import InvalidValue
from harness.resilience.breaker import Transition
from harness.resilience.metrics import Metrics
from harness.resilience.prometheus import MetricsCollector

Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def metrics() -> Metrics:
    """Metrics in which no two figures are the same by chance."""
    times_s = iter(range(100, 200))
    made = Metrics(clock=lambda: float(next(times_s)))
    client = made.client("secret-client")
    for n in range(5):
        client.opened()
        client.sent((1 << (17 + n)) - (n % 2))
    for _ in range(2):
        client.closed()
    for _ in range(7):
        client.connection_failed()
    for _ in range(11):
        client.received()
    made.queue_wait.record(70_000)
    made.queue_sized(13)
    made.queue_sized(4)
    made.retry_began()
    for _ in range(3):
        made.retry_failed()
    made.breaker_changed(
        Transition(name="peer", epoch=1, at_s=1, before="closed", after="open", why="test")
    )
    made.breaker_refused("peer")
    made.client("gone").connection_failed()
    made.forget_gone(0)
    return made


def scraped(collector: MetricsCollector) -> Samples:
    registry = CollectorRegistry()
    registry.register(collector)
    text = generate_latest(registry).decode()
    return {
        (sample.name.removeprefix("harness_"), tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_is_scraped_is_what_the_snapshot_says(metrics: Metrics):
    """
    Every single figure, exactly.
    """
    taken = metrics.snapshot()

    seen = scraped(MetricsCollector(lambda: taken))

    connections, messages, breakers = taken.connections, taken.messages, taken.breaker_totals
    expected: Samples = {
        ("connections_total", ()): connections.total,
        ("connections_failed_total", ()): connections.failed,
        ("reconnections_total", ()): connections.reconnections,
        ("connection_timeouts_total", ()): connections.timeouts,
        ("connections_unmatched_closes_total", ()): connections.unmatched_closes,
        ("connections_active", ()): connections.active,
        ("clients_live", ()): taken.live_clients,
        ("clients_gone", ()): taken.gone_clients,
        **{
            ("messages_total", (what,)): getattr(messages, what)
            for what in ("sent", "received", "queued", "failed", "expired", "deduplicated")
        },
        ("queue_messages", ()): taken.queue.size,
        ("queue_messages_peak", ()): taken.queue.peak,
        ("queue_overflows_total", ()): taken.queue.overflows,
        ("retries_total", ()): taken.retries.attempts,
        ("retries_ended_total", ("success",)): taken.retries.successes,
        ("retries_ended_total", ("failure",)): taken.retries.failures,
        ("breakers", ("closed",)): 0,
        ("breakers", ("open",)): 1,
        ("breakers", ("half_open",)): 0,
        ("breaker_transitions_total", ("open",)): breakers.opens,
        ("breaker_transitions_total", ("half_open",)): breakers.half_opens,
        ("breaker_transitions_total", ("closed",)): breakers.closes,
        ("breaker_refusals_total", ()): breakers.refusals,
        ("clean_ups_total", ()): taken.clean_ups.runs,
        ("clean_up_seconds_total", ()): taken.clean_ups.total_ms / 1e3,
        ("clients_forgotten_total", ("ttl",)): taken.clean_ups.removed,
        ("clients_forgotten_total", ("room",)): taken.clean_ups.removed_for_room,
        ("uptime_seconds", ()): taken.uptime_s,
    }
    assert {key: value for key, value in seen.items() if "_seconds_" not in key[0]} == {
        key: value for key, value in expected.items() if "_seconds_" not in key[0]
    }
    assert seen["clean_up_seconds_total", ()] == expected["clean_up_seconds_total", ()] > 0


@pytest.mark.parametrize("name", ["send_latency", "queue_wait", "processing"])
def test_each_bucket_of_a_latency_has_the_count_of_what_it_says(metrics: Metrics, name: str):
    """
    A value a nanosecond above a bound is not in its bucket, one that equals it is.
    """
    taken = metrics.snapshot()
    values_ns = {
        "send_latency": [(1 << (17 + n)) - (n % 2) for n in range(5)],
        "queue_wait": [70_000],
        "processing": [],
    }[name]

    seen = scraped(MetricsCollector(lambda: taken))

    buckets = {
        float(labels[0]): value
        for (each, labels), value in seen.items()
        if each == f"{name}_seconds_bucket"
    }
    assert len(buckets) > 20
    assert buckets == {
        bound_s: sum(value_ns / 1e9 <= bound_s for value_ns in values_ns) for bound_s in buckets
    }
    assert seen[f"{name}_seconds_count", ()] == len(values_ns)
    assert seen[f"{name}_seconds_sum", ()] == sum(values_ns) / 1e9


def test_single_breakers_are_told_only_where_somebody_asks(metrics: Metrics):
    """
    One series for each state; it is 1 for the state the breaker has.
    """
    seen = scraped(MetricsCollector(metrics.snapshot, single_breakers=True))

    states = {labels: value for (name, labels), value in seen.items() if name == "breaker_state"}
    assert states == {("peer", "closed"): 0, ("peer", "open"): 1, ("peer", "half_open"): 0}
    quiet = scraped(MetricsCollector(metrics.snapshot))
    assert not any("peer" in labels for _, labels in quiet)


def test_no_client_is_a_series(metrics: Metrics):
    """
    Not even where the snapshot has them.
    """
    assert "secret-client" in metrics.snapshot().clients

    seen = scraped(MetricsCollector(metrics.snapshot))

    assert not any("secret-client" in labels for _, labels in seen)


def test_each_scrape_reads_anew(metrics: Metrics):
    """
    Nothing is kept between two.
    """
    collector = MetricsCollector(lambda: metrics.snapshot(clients=False))
    before = scraped(collector)["messages_total", ("received",)]

    metrics.client("secret-client").received()

    assert scraped(collector)["messages_total", ("received",)] == before + 1


def test_a_collector_of_no_function_is_refused():
    """
    When it is made, and not when somebody scrapes.
    """
    with pytest.raises(InvalidValue, match="take is a Metrics; expected a function"):
        MetricsCollector(Metrics(clock=lambda: 0.0))  # type: ignore[arg-type]


def test_names_and_labels_are_those_that_are_documented():
    """
    Dashboards and alerts hang on them: a changed one breaks them in silence.
    """
    metrics = Metrics(clock=lambda: 0.0)
    metrics.breaker_changed(
        Transition(name="a", epoch=1, at_s=0.0, before="closed", after="open", why="")
    )
    registry = CollectorRegistry()
    registry.register(MetricsCollector(metrics.snapshot, single_breakers=True))

    seen: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        assert family.documentation
        for sample in family.samples:
            seen.setdefault(sample.name, set()).update(sample.labels)

    labelled = {name: labels for name, labels in seen.items() if labels}
    assert labelled == {
        "harness_messages_total": {"what"},
        "harness_retries_ended_total": {"outcome"},
        "harness_breakers": {"state"},
        "harness_breaker_state": {"breaker", "state"},
        "harness_breaker_transitions_total": {"after"},
        "harness_clients_forgotten_total": {"why"},
        "harness_send_latency_seconds_bucket": {"le"},
        "harness_queue_wait_seconds_bucket": {"le"},
        "harness_processing_seconds_bucket": {"le"},
    }
