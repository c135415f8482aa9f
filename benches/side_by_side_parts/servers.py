"""How hubcache, its peers and the origins are started. Each server has a directory of its own."""

import hashlib
import json
import os
import pathlib
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

from .machine import GIB, TARGET, Process, Unavailable, first_line

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PLACE = f"/acme/bench/resolve/{COMMIT}"
START_SECONDS = 60
# Room for what a peer caches; more than any file that it is asked for.
CACHE_BYTES = 4 * GIB
OLAH = "olah==0.5.4"

# Programs, their packages of Debian, and the peers that they are.
PROGRAMS = {
    "nginx": ("nginx-light", "nginx"),
    "varnishd": ("varnish", "Varnish"),
    "squid": ("squid", "Squid"),
    "traffic_server": ("trafficserver", "Traffic Server"),
    "wrk": ("wrk", None),
    "h2load": ("nghttp2-client", None),
    "openssl": ("openssl", None),
}

NGINX = """
{user}
daemon off;
worker_processes {workers};
pid {dir}/pid;
events {{ worker_connections 4096; }}
http {{
    log_format counted '$request_method $body_bytes_sent';
    access_log {log};
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
    proxy_cache_path {dir}/cache keys_zone=cold:10m max_size=16g use_temp_path=off;
    server {{
        listen 127.0.0.1:{port} {tls}reuseport backlog=4096;
        {server}
    }}
}}
"""

# Of the hub's header fields those that say what the file is and what its bytes must hash to.
NGINX_ORIGIN = """
        root {files};
        add_header X-Repo-Commit {commit};
        # olah asks this before it fetches.
        location /api/models/acme/bench/paths-info/ {{
            default_type application/json;
            return 200 '{listing}';
        }}
        {places}
"""

NGINX_ORIGIN_FILE = """
        location = {place}/{name} {{
            add_header X-Repo-Commit {commit};
            add_header X-Linked-Etag '"{sha256}"';
            add_header X-Linked-Size {size};
        }}
"""

NGINX_CACHE = """
        location / {{
            proxy_pass {origin};
            proxy_http_version 1.1;
            proxy_cache cold;
            proxy_cache_valid 200 1h;
            proxy_cache_lock on;
            proxy_cache_lock_age 600s;
            proxy_cache_lock_timeout 600s;
        }}
"""

VARNISH = """
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{port}"; }}
sub vcl_backend_response {{ set beresp.ttl = 1h; }}
"""

SQUID = """
http_port 127.0.0.1:{port} accel defaultsite=127.0.0.1 no-vhost
cache_peer 127.0.0.1 parent {origin} 0 no-query no-digest originserver name=origin
acl everything src all
http_access allow everything
collapsed_forwarding on
cache_dir aufs {dir}/cache {mib} 16 256
cache_mem 64 MB
maximum_object_size 16 GB
refresh_pattern . 60 100% 60 override-expire ignore-reload
shutdown_lifetime 1 seconds
pid_filename {dir}/pid
coredump_dir {dir}
access_log none
cache_log {dir}/log
cache_store_log none
"""

TRAFFIC_SERVER = """
CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.http.cache.http INT 1
CONFIG proxy.config.http.cache.required_headers INT 0
CONFIG proxy.config.http.cache.heuristic_min_lifetime INT 3600
CONFIG proxy.config.cache.enable_read_while_writer INT 1
CONFIG proxy.config.http.background_fill_active_timeout INT 0
CONFIG proxy.config.http.background_fill_completed_threshold FLOAT 0.0
CONFIG proxy.config.cache.max_doc_size INT 0
CONFIG proxy.config.cache.ram_cache.size INT 67108864
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.url_remap.remap_required INT 1
CONFIG proxy.config.diags.debug.enabled INT 0
"""


class Server:
    """A process that serves files at `root`."""

    def __init__(self, process, address, directory, scheme="http"):
        self.process, self.root, self.directory = process, f"{scheme}://{address}", directory

    def url(self, name):
        return f"{self.root}{PLACE}/{name}"

    def stop(self):
        self.process.stop()

    def discard(self):
        """Stops it, removes what it holds, and lets the disk come to rest."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        os.sync()


class NginxOrigin(Server):
    """nginx with the files of a hub; what it sent is read from its log."""

    def counts(self, reset=False):
        log = self.directory / "access.log"
        # A line is written when its response has ended, which may be just after that of what passes it on.
        time.sleep(0.05)
        lines = [line.split() for line in log.read_text().splitlines()]
        if reset:
            os.truncate(log, 0)
        sent = [int(size) for method, size in lines if method == "GET"]
        return {"requests": len(sent), "bytes": sum(sent)}


class WireOrigin(Server):
    """The shaped origin, which counts by itself."""

    def counts(self, reset=False):
        with urllib.request.urlopen(f"{self.root}/stats{'?reset' if reset else ''}", timeout=10) as answer:
            return json.load(answer)


def digest(url):
    """The SHA-256 of what is there, whoever vouches for the server."""
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    with urllib.request.urlopen(url, timeout=START_SECONDS, context=anyone) as answer:
        found = hashlib.sha256()
        while piece := answer.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def listening(process, port, directory, kind=Server):
    """Waits until a connection is accepted."""
    deadline = time.monotonic() + START_SECONDS
    while process.popen.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return kind(process, f"127.0.0.1:{port}", directory)
        except OSError:
            time.sleep(0.01)
    why = process.said()
    process.stop()
    raise Unavailable(f"it did not start: {why}")


def line_of(process, what):
    """The line of JSON that a program prints when it is ready."""
    if select.select([process.popen.stdout], [], [], START_SECONDS)[0]:
        line = process.popen.stdout.readline()
        if line:
            return json.loads(line)
    why = process.said()
    process.stop()
    raise Unavailable(f"{what} did not start: {why}")


def programs(peers):
    """The programs of these peers and those that measure, each with its package."""
    return {program: package for program, (package, peer) in PROGRAMS.items() if peer in (None, *peers)}


def require(program):
    path = shutil.which(program)
    if not path:
        raise Unavailable(f"{PROGRAMS[program][0]} could not be installed")
    return path


def certificate(directory):
    """A certificate for this machine and its key, as files of PEM."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = [require("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=60)
    key.chmod(0o600)
    return cert, key


def hubcache(binary, directory, hub, data=None, tls=False):
    directory.mkdir()
    command = [binary, "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    # All clients of a bench have one address.
    command += ["--listen-max-connections-per-client", "100000"]
    command += ["--data", data or directory / "data"]
    command += ["--hub", f"huggingface={hub}", "--hub", f"mozilla={hub}"]
    if tls:
        cert, key = certificate(directory)
        command += ["--listen-tls", "127.0.0.1:0", "--cert", cert, "--key", key]
    # A home of its own, so that nobody's settings count.
    env = {"HOME": str(directory)}
    process = Process(command, directory / "log", env=env, stdout=subprocess.PIPE)
    ready = line_of(process, "hubcache")
    if tls:
        return Server(process, ready["listen_tls"], directory, "https")
    return Server(process, ready["listen"], directory)


def wire_origin(wire, directory, arguments):
    directory.mkdir()
    process = Process([wire, "origin", *arguments], directory / "log", stdout=subprocess.PIPE)
    return WireOrigin(process, line_of(process, "the origin")["listen"], directory)


def nginx(directory, workers, server, log="off", kind=Server, tls=False):
    program = require("nginx")
    directory.mkdir()
    if tls:
        cert, key = certificate(directory)
        # The ciphers that both would choose anyway, and tickets, as hubcache has them.
        server += f" ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;"
        kind = lambda *arguments: Server(*arguments, "https")
    port = free_port()
    # Workers of another user could not read what is below a private directory.
    user = "user root;" if os.geteuid() == 0 else ""
    conf = directory / "nginx.conf"
    spoken = "ssl http2 " if tls else ""
    conf.write_text(
        NGINX.format(dir=directory, workers=workers, user=user, port=port, server=server, log=log, tls=spoken)
    )
    process = Process([program, "-p", directory, "-c", conf, "-e", directory / "log"], directory / "log")
    return listening(process, port, directory, kind)


def nginx_origin(directory, files):
    """`files`: a directory that has `PLACE`, and of each file its name, length and digest."""
    root, described = files
    places = [
        NGINX_ORIGIN_FILE.format(place=PLACE, commit=COMMIT, name=name, size=size, sha256=sha256)
        for name, size, sha256 in described
    ]
    listing = [
        {
            "type": "file", "path": name, "size": size, "oid": COMMIT,
            "lfs": {"oid": sha256, "size": size, "pointerSize": 134},
        }
        for name, size, sha256 in described
    ]
    server = NGINX_ORIGIN.format(
        files=root, commit=COMMIT, places="".join(places), listing=json.dumps(listing)
    )
    return nginx(directory, 1, server, f"{directory}/access.log counted", NginxOrigin)


def nginx_static(directory, root, tls=False):
    return nginx(directory, os.cpu_count(), f"root {root};", tls=tls)


def nginx_cache(directory, origin):
    return nginx(directory, os.cpu_count(), NGINX_CACHE.format(origin=origin))


def varnish(directory, origin):
    program = require("varnishd")
    directory.mkdir()
    port = free_port()
    vcl = directory / "default.vcl"
    vcl.write_text(VARNISH.format(port=origin.rpartition(":")[2]))
    command = [program, "-F", "-n", directory / "work", "-a", f"127.0.0.1:{port}", "-f", vcl]
    command += ["-s", f"file,{directory}/storage,{CACHE_BYTES}"]
    if os.geteuid() == 0:
        # Its worker would become a user that may not read here.
        command += ["-j", "none"]
    return listening(Process(command, directory / "log"), port, directory)


def squid(directory, origin):
    program = require("squid")
    directory.mkdir()
    port = free_port()
    conf = directory / "squid.conf"
    mib = CACHE_BYTES >> 20
    conf.write_text(SQUID.format(port=port, origin=origin.rpartition(":")[2], dir=directory, mib=mib))
    if os.geteuid() == 0:
        # It refuses to work as root.
        shutil.chown(directory, "proxy")
    prepare = Process([program, "-N", "-z", "-f", conf], directory / "log")
    try:
        prepare.popen.wait(START_SECONDS)
    finally:
        prepare.stop()
    return listening(Process([program, "-N", "-f", conf], directory / "log"), port, directory)


def traffic_server(directory, origin):
    program = require("traffic_server")
    directory.mkdir()
    port = free_port()
    places = {"sysconfdir": "etc", "runtimedir": "run", "logdir": "logs", "cachedir": "cache"}
    etc = directory / "etc"
    shutil.copytree("/etc/trafficserver", etc)
    for place in ("run", "logs", "cache"):
        (directory / place).mkdir()
    layout = [f"{name}: {directory}/{place}\n" for name, place in places.items()]
    (directory / "runroot.yaml").write_text(f"prefix: {directory}\n" + "".join(layout))
    with open(etc / "records.config", "a") as records:
        records.write(TRAFFIC_SERVER.format(port=port))
    (etc / "storage.config").write_text(f"{directory}/cache {CACHE_BYTES >> 20}M\n")
    (etc / "remap.config").write_text(f"map http://127.0.0.1:{port}/ {origin}/\n")
    process = Process([program, f"--run-root={directory}/runroot.yaml"], directory / "log")
    return listening(process, port, directory)


def olah_environment():
    """olah with what it needs, below the directory of builds; made once."""
    place = TARGET / "side_by_side" / OLAH
    if not (place / "done").exists():
        print(f"installing {OLAH}", file=sys.stderr)
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        quiet = {"check": True, "timeout": 600, "stdout": sys.stderr}
        try:
            subprocess.run([sys.executable, "-m", "venv", place], **quiet)
            pip = [place / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, OLAH], **quiet)
        except (subprocess.SubprocessError, OSError) as e:
            raise Unavailable(f"{OLAH} could not be installed: {e}") from e
        (place / "done").touch()
    return place


def olah(directory, origin):
    place = olah_environment()
    directory.mkdir()
    port = free_port()
    netloc = origin.removeprefix("http://")
    command = [place / "bin" / "olah-cli", "--host", "127.0.0.1", "--port", port]
    command += ["--hf-scheme", "http", "--hf-netloc", netloc, "--hf-lfs-netloc", netloc]
    command += ["--mirror-scheme", "http", "--mirror-netloc", f"127.0.0.1:{port}"]
    command += ["--repos-path", directory / "repos", "--log-path", directory / "logs"]
    env = {"HOME": str(directory), "PATH": os.environ["PATH"]}
    return listening(Process(command, directory / "log", env=env, cwd=directory), port, directory)


# What answers a cold request, but for hubcache itself.
CACHES = {
    "nginx": nginx_cache,
    "Varnish": varnish,
    "Squid": squid,
    "Traffic Server": traffic_server,
    "olah": olah,
}


def versions(binary):
    """Of every program that takes part, as far as it is there."""
    asked = {
        "nginx": ("nginx", "-v"),
        "Varnish": ("varnishd", "-V"),
        "Squid": ("squid", "-v"),
        "Traffic Server": ("traffic_server", "-V"),
        "wrk": ("wrk", "-v"),
        "h2load": ("h2load", "--version"),
    }
    found = {"hubcache": first_line(str(binary), "--version").rpartition(" ")[2]}
    for name, command in asked.items():
        if shutil.which(command[0]):
            version = re.search(r"\d+\.\d[\w.+~-]*", first_line(*command))
            found[name] = version[0] if version else "unknown"
    if (TARGET / "side_by_side" / OLAH / "done").exists():
        found["olah"] = OLAH.partition("==")[2]
    return found
