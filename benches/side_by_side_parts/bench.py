"""What all rows share: the programs, the files, the scratch directory, and how a download is run."""

import dataclasses
import json
import pathlib
import re
import subprocess
import time

from . import servers
from .machine import GIB, MIB, Unavailable

SMALL_BYTES = 2048
LOAD_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    peers: tuple
    hit_bytes: int
    cold_bytes: int
    far_bytes: int
    memory_bytes: int
    crowd: int
    entries: int
    idle: int
    wrk_seconds: int
    written_bytes: int
    tls_requests: int


FULL = Scale(
    rounds=5, peers=("nginx", "Varnish", "Squid", "Traffic Server", "olah"), hit_bytes=GIB, cold_bytes=512 * MIB,
    far_bytes=512 * MIB, memory_bytes=4 * GIB, crowd=500, entries=1_000_000, idle=10_000, wrk_seconds=5,
    written_bytes=GIB, tls_requests=100_000,
)
SHORT = Scale(
    rounds=3, peers=("nginx", "Varnish", "Traffic Server"), hit_bytes=256 * MIB, cold_bytes=256 * MIB,
    far_bytes=128 * MIB, memory_bytes=512 * MIB, crowd=500, entries=100_000, idle=10_000, wrk_seconds=2,
    written_bytes=512 * MIB, tls_requests=20_000,
)


class Bench:
    """The programs and the scratch directory; starts servers in directories of their own."""

    def __init__(self, binary, wire, scratch, scale):
        self.binary, self.wire, self.scratch, self.scale = binary, wire, scratch, scale
        self.started = 0
        self.made = {}

    def place(self):
        self.started += 1
        return self.scratch / str(self.started)

    def files(self, size):
        """A directory with one file of this length at `PLACE`, made once, and what an origin must know of it."""
        if size not in self.made:
            root = self.scratch / f"files-{size}"
            path = pathlib.Path(f"{root}{servers.PLACE}") / "file-0.bin"
            path.parent.mkdir(parents=True)
            sha256 = self.ask("make", path, "--size", size)["sha256"]
            self.made[size] = (root, [(path.name, size, sha256)])
        return self.made[size]

    def nginx_origin(self, size):
        return servers.nginx_origin(self.place(), self.files(size))

    def wire_origin(self, size, **shape):
        """An origin of the given shape: `files=8`, `round_trip=50`, `die_at=1000`."""
        arguments = ["--size", size]
        for name, value in shape.items():
            arguments += [f"--{name.replace('_', '-')}", value]
        return servers.wire_origin(self.wire, self.place(), arguments)

    def hubcache(self, origin, data=None, tls=False):
        return servers.hubcache(self.binary, self.place(), origin, data, tls)

    def cache(self, who, origin):
        """Whoever it is, with nothing cached, before the origin."""
        if who == "hubcache":
            return self.hubcache(origin.root)
        return servers.CACHES[who](self.place(), origin.root)

    def command(self, command, *arguments):
        return [str(word) for word in (self.wire, command, *arguments)]

    def ask(self, command, *arguments, timeout=LOAD_SECONDS):
        done = subprocess.run(
            self.command(command, *arguments), stdout=subprocess.PIPE, text=True, timeout=timeout, check=False
        )
        if done.returncode:
            raise Unavailable(f"wire {command} failed")
        return json.loads(done.stdout)

    def load(self, url, size, clients=1, check="sample", may_fail=False, **more):
        """Downloads, and tells how it went; see `wire load --help` for what else can be said."""
        arguments = ["--size", size, "--clients", clients, "--check", check]
        for name, value in more.items():
            arguments += [f"--{name}", value]
        done = self.ask("load", url, *arguments)
        if done["failed"] and not may_fail:
            why = next(client["error"] for client in done["clients"] if client["error"])
            raise Unavailable(f"{done['failed']} of {len(done['clients'])} downloads failed: {why}")
        return done

    def small_requests(self, server, connections):
        """wrk on one small file: requests a second, latencies, and the server's CPU."""
        url = server.url("file-0.bin")
        seconds = self.scale.wrk_seconds
        before = server.process.cpu_seconds()
        said = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url],
            stdout=subprocess.PIPE, text=True, check=True, timeout=seconds + 60,
        ).stdout
        cpu = server.process.cpu_seconds() - before
        if "Non-2xx" in said or "Socket errors" in said:
            raise Unavailable(f"wrk had errors: {said.splitlines()[-3:]}")
        requests = int(re.search(r"(\d+) requests in", said)[1])
        return {
            "requests": float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]),
            "cpu_request": cpu / requests * 1e6,
            "p50": microseconds(said, "50%"),
            "p99": microseconds(said, "99%"),
        }


    def over_tls(self, server, protocol, size, requests, connections):
        """h2load on one file over TLS: throughput, requests a second, and the server's CPU."""
        command = ["h2load", "-n", requests, "-c", connections, "-m", 1, "-t", 1, server.url("file-0.bin")]
        if protocol == "HTTP/1.1":
            command.append("--h1")
        before, began = server.process.cpu_seconds(), time.monotonic()
        said = subprocess.run(
            [str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True, timeout=LOAD_SECONDS
        ).stdout
        took, cpu = time.monotonic() - began, server.process.cpu_seconds() - before
        spoken = re.search(r"Application protocol: (\S+)", said)
        if f" {requests} succeeded" not in said or spoken[1] != {"HTTP/1.1": "http/1.1", "HTTP/2": "h2"}[protocol]:
            raise Unavailable(f"h2load had errors: {said.splitlines()[-8:]}")
        gib = requests * size / GIB
        return {
            "speed": gib / took, "cpu_gib": cpu / gib, "requests": requests / took, "cpu_request": cpu / requests * 1e6,
        }


def microseconds(said, percentile):
    number, unit = re.search(rf"^\s+{percentile}\s+([\d.]+)(us|ms|s)$", said, re.M).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]
