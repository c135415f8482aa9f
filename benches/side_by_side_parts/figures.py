"""The figures: what each is called, and how it is shown."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Figure:
    title: str
    unit: str
    scale: float = 1.0

    def show(self, value):
        if self.unit == "x":
            return f"{value:.2f} x"
        return f"{number(value / self.scale)} {self.unit}"


def number(value):
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


MIB = float(1 << 20)

FIGURES = {
    "speed": Figure("throughput", "GiB/s"),
    "cpu_gib": Figure("CPU", "s/GiB"),
    "requests": Figure("requests", "a second"),
    "cpu_request": Figure("CPU", "us a request"),
    "p50": Figure("median latency", "ms", 1000.0),
    "p99": Figure("99th percentile", "ms", 1000.0),
    "seconds": Figure("total", "s"),
    "first": Figure("last first byte", "ms", 0.001),
    "cpu": Figure("CPU", "s"),
    "origin_bytes": Figure("origin sent", "x"),
    "origin_requests": Figure("requests to the origin", "in all"),
    "complete": Figure("complete and exact", "clients"),
    "anonymous": Figure("RssAnon", "MiB", MIB),
    "resident": Figure("RSS", "MiB", MIB),
    "peak_anonymous": Figure("highest RssAnon", "MiB", MIB),
    "growth": Figure("highest RssAnon of the second half against the first", "x"),
    "start": Figure("start", "ms", 0.001),
    "connection": Figure("RssAnon", "KiB a connection", 1024.0),
    "connection_resident": Figure("RSS", "KiB a connection", 1024.0),
    "written": Figure("written", "MB/s", 1.0),
}
