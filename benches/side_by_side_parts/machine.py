"""Processes of this machine: starting and stopping them, and what they use of processors and memory."""

import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute()
GIB = 1 << 30
MIB = 1 << 20
STOP_SECONDS = 20
SAMPLE_SECONDS = 0.1
# Descriptors that clients and servers of ten thousand connections need.
FILES = 20_000

running = []


class Unavailable(Exception):
    """Why something cannot be measured."""


class Process:
    """A program in a group of its own, with whatever it starts."""

    def __init__(self, command, log, env=None, cwd=None, **pipes):
        with open(log, "ab") as errors:
            output = {"stdout": errors, "stderr": errors} | pipes
            command = [str(word) for word in command]
            self.popen = subprocess.Popen(command, env=env, cwd=cwd, start_new_session=True, **output)
        self.log = log
        running.append(self)

    def pids(self):
        found = [self.popen.pid]
        for pid in found:
            for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                found += read(children).split()
        return found

    def cpu_seconds(self):
        ticks = 0
        for pid in self.pids():
            fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:13])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self, field):
        """Bytes, of all processes together: RssAnon, VmRSS."""
        kib = [re.search(rf"^{field}:\s+(\d+)", read(f"/proc/{pid}/status"), re.M) for pid in self.pids()]
        return sum(int(found[1]) for found in kib if found) * 1024

    def said(self):
        """The last line of the log."""
        lines = pathlib.Path(self.log).read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def stop(self):
        if self in running:
            running.remove(self)
        self.popen.terminate()
        try:
            self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        # What it started, and itself if it did not end.
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait(STOP_SECONDS)
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe:
                pipe.close()


def read(path):
    """What a file of /proc says; nothing when its process has ended."""
    try:
        return pathlib.Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def stop_all():
    for process in reversed(list(running)):
        process.stop()


class Watch:
    """Samples what a process holds of anonymous memory while something runs."""

    def __init__(self, process):
        self.process, self.samples, self.done = process, [], threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)

    def sample(self):
        while not self.done.wait(SAMPLE_SECONDS):
            self.samples.append(self.process.memory("RssAnon"))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        self.samples.append(self.process.memory("RssAnon"))

    def peak(self):
        return max(self.samples)

    def growth(self):
        """The peak of the second half of the time as a multiple of the first half's."""
        half = len(self.samples) // 2
        return max(self.samples[half:]) / max(self.samples[:half] or self.samples)


def allow_many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))


def require_disk(directory, size):
    free = shutil.disk_usage(directory).free
    if free < size:
        raise Unavailable(f"it needs {size / GIB:.0f} GiB of disk and {free / GIB:.0f} GiB are free")


def install(programs):
    """Brings programs from Debian; a map from each program to its package."""
    missing = sorted({package for program, package in programs.items() if not shutil.which(program)})
    if not missing:
        return
    print(f"installing {' '.join(missing)}", file=sys.stderr)
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    quiet = {"check": False, "stdout": sys.stderr, "timeout": 600}
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*as_root, "apt-get", "update", "-qq"], env=environment, **quiet)
    # One by one: what cannot be had is one peer less.
    for package in missing:
        command = [*as_root, "apt-get", "install", "-qq", "-y", "--no-install-recommends", package]
        subprocess.run(command, env=environment, **quiet)
        # Debian starts what it installs; only the program is wanted.
        service = package.removesuffix("-light")
        if pathlib.Path("/run/systemd/system").exists():
            subprocess.run([*as_root, "systemctl", "disable", "--quiet", "--now", service], **quiet)


def first_line(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    return (done.stdout.strip().splitlines() or [""])[0]


def circumstances():
    model = re.search(r"model name\s*: (.*)", read("/proc/cpuinfo"))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
        "processors": os.cpu_count(),
        "processor": model[1] if model else platform.machine(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        "kernel": platform.release(),
    }


def add_to_path(*directories):
    os.environ["PATH"] = ":".join([os.environ["PATH"], *directories])
