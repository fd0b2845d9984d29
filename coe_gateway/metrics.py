"""Every metric the gateway exports, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client.metrics import MetricWrapperBase

    from coe_gateway.admission import Admission
    from experts.types import ExpertId
    from memory_tiers.manager import ResidencyManager

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """One gateway's metrics, in a registry of their own so that two gateways in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._collectors: list[MetricWrapperBase] = []
        # Looking a child up by its labels costs more than counting: the ones on every request's path are kept.
        self._answered: dict[tuple[str, str, int], Counter] = {}
        self._timed: dict[str, tuple[Histogram, Histogram]] = {}
        self._spent: dict[str, tuple[Counter, Counter, Counter]] = {}
        self.requests = self._counter("coe_requests_total", "Requests answered", "route", "expert", "status")
        self.decisions = self._counter("coe_route_decisions_total", "Routing decisions", "category", "expert", "reason")
        self.fallbacks = self._counter("coe_fallbacks_total", "Attempts that failed and went on", "expert", "code")
        self.swaps = self._counter("coe_swaps_total", "Experts loaded, unloaded and staged", "expert", "direction")
        leases = self._counter("coe_leases_total", "Requests that got their expert, ready or loaded for them", "start")
        self.leases = {cold: leases.labels("cold" if cold else "hot") for cold in (False, True)}
        self.limits_reached = self._counter("coe_limits_reached_total", "Requests that a key's limit refused", "limit")
        self.tokens = self._counter("coe_tokens_total", "Tokens used by keys of accounts", "expert", "kind")
        self.cost = self._counter("coe_cost_usd_total", "What they cost", "expert")
        self.ttft = self._histogram("coe_ttft_seconds", "Request received to first byte sent", _SLOW, "expert")
        self.duration = self._histogram("coe_request_seconds", "Request received to last byte sent", _SLOW, "expert")
        self.overhead = self._histogram("coe_overhead_seconds", "Time the gateway itself took", _FAST)
        self.route = self._histogram("coe_route_seconds", "Time a routing decision took", _FAST)
        self.queue = self._histogram("coe_queue_seconds", "Time in queues", _SLOW)
        self.swap = self._histogram("coe_swap_seconds", "Time a load, an unload or a staging took", _SLOW, "direction")

    def export(
        self, admission: Admission, residency: ResidencyManager, rows_waiting: Callable[[], int] = lambda: 0
    ) -> None:
        """Export values that are read when they are asked for. rows_waiting: of the ledger, 0 where there is none."""
        self._gauge("coe_ledger_rows_waiting", "Rows that the database does not have yet", rows_waiting)
        self._gauge("coe_requests_in_flight", "Requests being served", lambda: admission.in_flight)
        self._gauge("coe_requests_queued", "Requests waiting for a place", lambda: admission.queued)
        self._gauge("coe_leases_waiting", "Requests waiting for an expert to be loaded", lambda: residency.waiting)
        self._gauge("coe_device_used_bytes", "Bytes booked by resident experts", lambda: residency.used_bytes)
        self._gauge("coe_device_budget_bytes", "Bytes there are to book", lambda: residency.budget_bytes)
        self._gauge("coe_host_used_bytes", "Bytes booked by copies of weights", lambda: residency.host_used_bytes)
        self._gauge("coe_host_budget_bytes", "Bytes there are for copies", lambda: residency.host_budget_bytes)

    def collectors(self) -> Sequence[MetricWrapperBase]:
        """Every metric, in the order of its definition."""
        return tuple(self._collectors)

    def _gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        gauge = Gauge(name, help_text, registry=self.registry)
        gauge.set_function(read)
        self._collectors.append(gauge)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)

    def answered(self, route: str, expert: str, status: int) -> None:
        """Count one request."""
        key = (route, expert, status)
        child = self._answered.get(key)
        if child is None:
            child = self._answered[key] = self.requests.labels(route, expert, status)
        child.inc()

    def timed(self, expert: str, ttft_s: float, duration_s: float) -> None:
        """Note how long one answer took to begin and to end."""
        children = self._timed.get(expert)
        if children is None:
            children = self._timed[expert] = (self.ttft.labels(expert), self.duration.labels(expert))
        children[0].observe(ttft_s)
        children[1].observe(duration_s)

    def spent(self, expert: str, prompt_tokens: int, output_tokens: int, nano_usd: int) -> None:
        """Count what a request of an account used."""
        children = self._spent.get(expert)
        if children is None:
            tokens = self.tokens.labels(expert, "prompt"), self.tokens.labels(expert, "output")
            children = self._spent[expert] = (*tokens, self.cost.labels(expert))
        children[0].inc(prompt_tokens)
        children[1].inc(output_tokens)
        children[2].inc(nano_usd / 1e9)

    def swapped(self, expert_id: ExpertId, direction: str, seconds: float) -> None:
        """Count one load or unload."""
        self.swaps.labels(expert_id, direction).inc()
        self.swap.labels(direction).observe(seconds)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        counter = Counter(name, help_text, labels, registry=self.registry)
        self._collectors.append(counter)
        return counter

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        histogram = Histogram(name, help_text, labels, buckets=buckets, registry=self.registry)
        self._collectors.append(histogram)
        return histogram
