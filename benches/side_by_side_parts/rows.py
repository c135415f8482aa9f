"""What is measured: every row with its name, its goals, and how."""

import contextlib
import json
import subprocess
import time

from . import servers
from .bench import SMALL_BYTES
from .goals import after, at_least, at_most, exactly, faster, within
from .machine import GIB, MIB, Process, Unavailable, Watch, require_disk

STAGGER_MS = 10
NAME = "file-0.bin"
# What the largest downloads, and the largest index, may take.
MEMORY_SECONDS = 1800


class Row:
    """One row. What it starts is stopped when `stack` is closed."""

    #: What is measured beside hubcache, in the order of the table.
    peers = ()
    #: Rows of which one round says all.
    rounds = None
    #: What hubcache must reach, as the project's table of targets says.
    goals = ()

    def name(self, scale):
        raise NotImplementedError

    def contenders(self, scale):
        return ["hubcache", *(peer for peer in self.peers if peer in (*scale.peers, "origin"))]

    def begin(self, bench, stack):
        """Starts what all contenders share."""

    def enter(self, bench, stack, who):
        """Starts what this contender needs for all rounds."""

    def check(self, bench, who):
        """Compares every byte once, and warms up."""

    def sample(self, bench, who):
        """One measurement: figures by name."""
        raise NotImplementedError


class Hit(Row):
    """A large file that is held."""

    def __init__(self, clients):
        self.clients = clients
        self.peers = ("nginx", "Varnish")
        self.goals = (
            at_least("speed", "nginx", 1.3),
            at_most("cpu_gib", "nginx", 0.9),
            at_least("speed", "Varnish", 0.9),
            at_most("anonymous", "Varnish", 0.25, of_peer="resident"),
        )

    def name(self, scale):
        return f"hit, {size(scale.hit_bytes)}, {clients(self.clients)}"

    def begin(self, bench, stack):
        self.size, self.servers = bench.scale.hit_bytes, {}
        self.origin = started(stack, bench.nginx_origin(self.size))

    def enter(self, bench, stack, who):
        if who == "nginx":
            server = servers.nginx_static(bench.place(), bench.files(self.size)[0])
        else:
            server = bench.cache(who, self.origin)
        self.servers[who] = started(stack, server)

    def check(self, bench, who):
        # The first reads after a fill may be slower.
        for many in (1, 1, self.clients):
            bench.load(self.servers[who].url(NAME), self.size, many, "all")

    def sample(self, bench, who):
        server = self.servers[who]
        before = server.process.cpu_seconds()
        done = bench.load(server.url(NAME), self.size, self.clients, stagger=STAGGER_MS)
        gib = done["bytes"] / GIB
        return {
            "speed": gib / done["seconds"],
            "cpu_gib": (server.process.cpu_seconds() - before) / gib,
            "anonymous": server.process.memory("RssAnon"),
            "resident": server.process.memory("VmRSS"),
        }


class SmallHit(Row):
    """A small file that is held, over kept connections."""

    peers = ("nginx",)
    goals = (at_most("cpu_request", "nginx", 0.9), at_most("p99", "nginx", 1.0))

    def name(self, scale):
        return "hit, 2 KiB, 64 connections"

    def begin(self, bench, stack):
        servers.require("wrk")
        self.servers = {}
        self.origin = started(stack, bench.nginx_origin(SMALL_BYTES))

    def enter(self, bench, stack, who):
        if who == "nginx":
            server = servers.nginx_static(bench.place(), bench.files(SMALL_BYTES)[0])
        else:
            server = bench.cache(who, self.origin)
        self.servers[who] = started(stack, server)

    def check(self, bench, who):
        bench.load(self.servers[who].url(NAME), SMALL_BYTES, 64, "all")
        bench.small_requests(self.servers[who], 64)

    def sample(self, bench, who):
        return bench.small_requests(self.servers[who], 64)


class TlsHit(Row):
    """A file that is held, over TLS; the client decrypts on the same processor."""

    peers = ("nginx",)

    def __init__(self, protocol, small):
        self.protocol, self.small = protocol, small
        self.goals = (
            (at_least("requests", "nginx", 1.0), at_most("cpu_request", "nginx", 1.0))
            if small
            else (at_least("speed", "nginx", 1.0), at_most("cpu_gib", "nginx", 1.0))
        )

    def name(self, scale):
        what = "2 KiB, 64 connections" if self.small else f"{size(scale.hit_bytes)}, {clients(1)}"
        return f"hit over TLS, {self.protocol}, {what}"

    def begin(self, bench, stack):
        servers.require("h2load")
        self.size, self.servers = SMALL_BYTES if self.small else bench.scale.hit_bytes, {}
        self.times = (bench.scale.tls_requests, 64) if self.small else (2, 1)
        self.origin = started(stack, bench.nginx_origin(self.size))

    def enter(self, bench, stack, who):
        if who == "nginx":
            server = servers.nginx_static(bench.place(), bench.files(self.size)[0], tls=True)
        else:
            server = bench.hubcache(self.origin.root, tls=True)
        self.servers[who] = started(stack, server)

    def check(self, bench, who):
        # A file that arrives is verified by hubcache; that both send the same is compared by its digest.
        for _ in range(2):
            sha256 = servers.digest(self.servers[who].url(NAME))
            if sha256 != bench.files(self.size)[1][0][2]:
                raise Unavailable("it sends other bytes")
        bench.over_tls(self.servers[who], self.protocol, self.size, *self.times)

    def sample(self, bench, who):
        done = bench.over_tls(self.servers[who], self.protocol, self.size, *self.times)
        shown = ("requests", "cpu_request") if self.small else ("speed", "cpu_gib")
        return {figure: done[figure] for figure in shown}


class Cold(Row):
    """A file that nobody holds yet. Every run begins with a new process and an empty directory."""

    def __init__(self, title, clients, peers, goals, ranges=0, shape=None, bytes_of="cold_bytes"):
        self.title, self.clients, self.peers, self.goals = title, clients, peers, goals
        self.ranges, self.shape, self.bytes_of = ranges, shape, bytes_of

    def name(self, scale):
        return f"{self.title}, {size(getattr(scale, self.bytes_of))}, {clients(self.clients)}"

    def begin(self, bench, stack):
        self.size = getattr(bench.scale, self.bytes_of)
        self.origin = started(stack, self.start_origin(bench))

    def start_origin(self, bench):
        if self.shape is None:
            return bench.nginx_origin(self.size)
        return bench.wire_origin(self.size, **self.shape)

    def check(self, bench, who):
        self.run(bench, who, "all")

    def sample(self, bench, who):
        return self.run(bench, who, "sample")

    def run(self, bench, who, check):
        if who == "origin":
            return self.direct(bench, check)
        server = bench.cache(who, self.origin)
        try:
            self.origin.counts(reset=True)
            before = server.process.cpu_seconds()
            done = self.load(bench, server, check)
            figures = times(done) | {"cpu": server.process.cpu_seconds() - before}
            counts = self.origin.counts()
        finally:
            server.discard()
        return figures | {"origin_bytes": counts["bytes"] / self.size, "origin_requests": counts["requests"]}

    def load(self, bench, server, check):
        return bench.load(server.url(NAME), self.size, self.clients, check, ranges=self.ranges)

    def direct(self, bench, check):
        """One client, straight from the origin."""
        return times(bench.load(self.origin.url(NAME), self.size, 1, check))


class Dying(Cold):
    """The origin cuts all connections once, in the middle of the file."""

    def begin(self, bench, stack):
        self.size = bench.scale.cold_bytes

    def run(self, bench, who, check):
        # An origin dies once.
        self.origin = bench.wire_origin(self.size, die_at=self.size // 2)
        try:
            return super().run(bench, who, check)
        finally:
            self.origin.discard()

    def load(self, bench, server, check):
        done = bench.load(server.url(NAME), self.size, self.clients, check, may_fail=True)
        wrong = [c["error"] for c in done["clients"] if "wrong bytes" in (c["error"] or "")]
        if wrong:
            raise Unavailable(f"{len(wrong)} clients got wrong bytes: {wrong[0]}")
        self.complete = self.clients - done["failed"]
        return done

    def sample(self, bench, who):
        # All bytes: they are the point.
        return self.run(bench, who, "all") | {"complete": self.complete}


class Crowd(Cold):
    """Very many clients on one cold file."""

    def __init__(self):
        goals = (
            exactly("origin_bytes", 1.0),
            exactly("origin_requests", 1),
            within("peak_anonymous", 256 * MIB),
        )
        super().__init__("cold, a crowd", 0, (), goals, shape={})
        self.size = 64 * MIB

    def name(self, scale):
        return f"cold, {size(self.size)}, {clients(scale.crowd)}"

    def begin(self, bench, stack):
        self.clients = bench.scale.crowd
        self.origin = started(stack, self.start_origin(bench))

    def load(self, bench, server, check):
        with Watch(server.process) as watch:
            done = super().load(bench, server, check)
        self.peak = watch.peak()
        return done

    def sample(self, bench, who):
        return super().sample(bench, who) | {"peak_anonymous": self.peak}


class Memory(Row):
    """Many large downloads at once, with followers of which some are slow."""

    fills, followers, slow, slow_rate = 8, 4, 1, 5_000_000
    rounds = 1
    goals = (within("peak_anonymous", 256 * MIB), within("growth", 1.1))

    def name(self, scale):
        fills, all_clients = self.fills, self.fills * self.followers
        each = size(scale.memory_bytes)
        return f"memory: {fills} downloads of {each} at once, {all_clients} clients, a quarter of them slow"

    def begin(self, bench, stack):
        self.size = bench.scale.memory_bytes
        require_disk(bench.scratch, self.fills * self.size * 1.1 + 2 * GIB)
        self.origin = started(stack, bench.wire_origin(self.size, files=self.fills))

    def sample(self, bench, who):
        server = bench.cache(who, self.origin)
        try:
            self.origin.counts(reset=True)
            began = time.perf_counter()
            with Watch(server.process) as watch:
                loads = [self.load(bench, server, number) for number in range(self.fills)]
                self.wait(loads)
            seconds = time.perf_counter() - began
            sent = self.origin.counts()["bytes"] / (self.fills * self.size)
        finally:
            server.discard()
        peak = watch.peak()
        return {"peak_anonymous": peak, "growth": watch.growth(), "seconds": seconds, "origin_bytes": sent}

    def load(self, bench, server, number):
        arguments = ["--content", number, "--size", self.size, "--clients", self.followers, "--slow", self.slow]
        arguments += ["--rate", self.slow_rate, "--check", "all", "--timeout", MEMORY_SECONDS]
        command = bench.command("load", server.url(f"file-{number}.bin"), *arguments)
        return Process(command, server.directory / "load", stdout=subprocess.PIPE)

    def wait(self, loads):
        try:
            for load in loads:
                done = json.loads(load.popen.communicate(timeout=MEMORY_SECONDS)[0])
                errors = [client["error"] for client in done["clients"] if client["error"]]
                if errors:
                    raise Unavailable(f"a download failed: {errors[0]}")
        finally:
            for load in loads:
                load.stop()


class Index(Row):
    """A large index against a small one: how long a start takes, and what a hit costs."""

    FEW = 1_000
    few, many = "few entries", "hubcache"
    goals = (at_most("start", few, 2.0), within("start", 1.0), at_most("cpu_request", few, 1.1))

    def name(self, scale):
        return f"{scale.entries:,} entries in the index, against {self.FEW:,}"

    def contenders(self, scale):
        return [self.many, self.few]

    def begin(self, bench, stack):
        servers.require("wrk")
        self.origin = started(stack, bench.wire_origin(SMALL_BYTES))
        self.data = {}

    def enter(self, bench, stack, who):
        count = self.FEW if who == self.few else bench.scale.entries
        self.data[who] = bench.place()
        arguments = ["--root", self.origin.root, "--count", count, "--size", SMALL_BYTES]
        bench.ask("entries", self.data[who], *arguments, timeout=MEMORY_SECONDS)

    def check(self, bench, who):
        self.origin.counts(reset=True)
        with self.running(bench, who) as server:
            bench.load(server.url(NAME), SMALL_BYTES, 64, "all")
        if self.origin.counts()["requests"]:
            raise Unavailable("the entries that were made are no hits")

    def sample(self, bench, who):
        began = time.perf_counter()
        with self.running(bench, who) as server:
            start = time.perf_counter() - began
            small = bench.small_requests(server, 64)
            return {"start": start, "anonymous": server.process.memory("RssAnon")} | small

    @contextlib.contextmanager
    def running(self, bench, who):
        server = bench.hubcache(self.origin.root, self.data[who])
        try:
            yield server
        finally:
            server.discard()


class Idle(Row):
    """Connections that are kept and do nothing."""

    goals = (within("connection", 24 * 1024),)

    def name(self, scale):
        return f"{scale.idle:,} idle connections"

    def begin(self, bench, stack):
        self.origin = started(stack, bench.nginx_origin(SMALL_BYTES))

    def sample(self, bench, who):
        server = bench.cache(who, self.origin)
        try:
            url, count = server.url(NAME), bench.scale.idle
            bench.load(url, SMALL_BYTES, 64, "all")
            before = self.memory(server)
            command = bench.command("idle", url, "--connections", count)
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            clients = Process(command, server.directory / "idle", **pipes)
            servers.line_of(clients, "wire idle")
            grown = {field: bytes - before[field] for field, bytes in self.memory(server).items()}
            clients.stop()
        finally:
            server.discard()
        return {"connection": grown["RssAnon"] / count, "connection_resident": grown["VmRSS"] / count}

    def memory(self, server):
        return {field: server.process.memory(field) for field in ("RssAnon", "VmRSS")}


class StoreWrite(Row):
    """The store by itself against a plain file; both are on the disk in the end."""

    plain = "plain file"
    goals = (at_least("written", plain, 0.75),)

    def name(self, scale):
        return f"store write, {size(scale.written_bytes)}"

    def contenders(self, scale):
        return ["hubcache", self.plain]

    def sample(self, bench, who):
        # One call writes both, one after the other.
        if who == "hubcache":
            self.took = bench.ask("store-write", bench.place(), "--size", bench.scale.written_bytes)
        seconds = self.took["store" if who == "hubcache" else "plain"]
        return {"seconds": seconds, "written": bench.scale.written_bytes / seconds / 1e6}


def started(stack, server):
    stack.callback(server.discard)
    return server


def times(done):
    firsts = [client["first"] - client["started"] for client in done["clients"] if client["first"] is not None]
    return {"seconds": done["seconds"], "first": max(firsts, default=done["seconds"])}


def size(count):
    return f"{count // GIB} GiB" if count >= GIB else f"{count // MIB} MiB"


def clients(count):
    return f"{count} client{'s' if count > 1 else ''}"


ALL_CACHES = ("nginx", "Varnish", "Squid", "Traffic Server", "olah")
FIRST_BYTE = after("first", "origin", 0.005)
FAST = (faster("nginx", 1.1),)
FAST_CROWD = (faster("nginx", 2.0), exactly("origin_bytes", 1.0), FIRST_BYTE)
LIMITED = (at_most("seconds", "origin", 1.02), FIRST_BYTE)
RANGES = (at_most("seconds", "Traffic Server", 1.0), exactly("origin_bytes", 1.0))
FAR = {"round_trip": 50, "rate_connection": 20_000_000, "rate_total": 200_000_000}
FAR_GOALS = (faster("origin", 5.0),)

ROWS = {
    "hit-1": Hit(1),
    "hit-8": Hit(8),
    "hit-32": Hit(32),
    "hit-small": SmallHit(),
    "tls-h1": TlsHit("HTTP/1.1", small=False),
    "tls-h2": TlsHit("HTTP/2", small=False),
    "tls-small-h1": TlsHit("HTTP/1.1", small=True),
    "tls-small-h2": TlsHit("HTTP/2", small=True),
    "cold-1": Cold("cold", 1, ALL_CACHES, FAST),
    "cold-8": Cold("cold", 8, (*ALL_CACHES, "origin"), FAST_CROWD),
    "cold-100MB": Cold(
        "cold, origin of 100 MB/s", 8, ("origin", "nginx", "Varnish"), LIMITED, shape={"rate_total": 100_000_000}
    ),
    "cold-ranges": Cold("cold, in 8 ranges at once", 1, ("Traffic Server",), RANGES, ranges=8),
    "dying": Dying(
        "cold, origin dies at half", 8, ("nginx", "Varnish"), (exactly("complete", 8), within("origin_bytes", 1.01))
    ),
    "far": Cold("cold, far origin", 1, ("origin",), FAR_GOALS, shape=FAR, bytes_of="far_bytes"),
    "memory": Memory(),
    "index": Index(),
    "idle": Idle(),
    "crowd": Crowd(),
    "store-write": StoreWrite(),
}
