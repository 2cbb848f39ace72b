#!/usr/bin/env python3
"""What capture costs on this machine, as figures and ratios of paired runs.

Prints a Markdown table. Needs root, nginx, redis-server, redis-benchmark, wrk and gcc; loads 127.0.0.1 only.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

SYSCALL_LOOP = r"""
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int main(void) {
    struct timespec a, b;
    long n = 3000000;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (long i = 0; i < n; i++) syscall(SYS_getppid);
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%.2f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / n);
    return 0;
}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.02)
    sys.exit(f"nothing listens on 127.0.0.1:{port} after {seconds} s")


@contextlib.contextmanager
def process(command, **options):
    child = subprocess.Popen(command, **options)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextlib.contextmanager
def nginx(folder):
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(
        f"""daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello, world\\n"; }} }} }}
"""
    )
    with process(["nginx", "-c", str(conf), "-e", str(folder / "error.log")]):
        wait_for_port(port)
        yield port


@contextlib.contextmanager
def redis(folder):
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)]
    with process(command, stdout=subprocess.DEVNULL):
        wait_for_port(port)
        yield port


@contextlib.contextmanager
def agent(binary, port, *extra):
    command = [binary, "trace", "--output", "json", *extra]
    if port:
        command += ["--port", str(port)]
    with process(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        for line in child.stderr:
            if line.startswith("ready"):
                break
        else:
            sys.exit("the agent did not become ready")
        yield child


def wrk(port, seconds):
    text = subprocess.run(
        ["wrk", "-t1", "-c32", f"-d{seconds}s", f"http://127.0.0.1:{port}/"],
        capture_output=True, text=True, check=True,
    ).stdout
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))


def redis_benchmark(port, requests):
    text = subprocess.run(
        ["redis-benchmark", "-p", str(port), "-c", "20", "-n", str(requests), "-t", "get", "--csv"],
        capture_output=True, text=True, check=True,
    ).stdout
    return float(re.search(r'"GET","([\d.]+)"', text).group(1))


def programs(pid):
    """Run time and run count of each BPF program of a process, by the kernel's own statistics."""
    found = {}
    for fd in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):
            text = fd.read_text()
            if "prog_id" in text and "run_cnt" in text:
                fields = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
                found[fields["prog_id"]] = (int(fields["run_time_ns"]), int(fields["run_cnt"]))
    return found


def resident(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return {key: int(re.search(rf"{key}:\s+(\d+)", text).group(1)) / 1024 for key in ("VmRSS", "VmHWM")}


def paired(rounds, without, with_agent):
    base, traced, ratios = [], [], []
    for _ in range(rounds):
        base.append(without())
        traced.append(with_agent())
        ratios.append(traced[-1] / base[-1])
    return base, traced, ratios


def row(what, figure, goal):
    print(f"| {what} | {figure} | {goal} |", flush=True)


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", default="target/release/spandrel")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=3)
    options = arguments.parse_args()
    for tool in ("nginx", "redis-server", "redis-benchmark", "wrk", "gcc"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is not installed: run scripts/setup")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="spandrel-bench-"))
    print("| what | median (min–max) | goal |\n|---|---|---|")
    try:
        bench(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bench(options, folder):
    stats = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")
    with nginx(folder) as port:
        def traced():
            with agent(options.binary, port):
                return wrk(port, options.seconds)

        base, kept, ratios = paired(options.rounds, lambda: wrk(port, options.seconds), traced)
        row("nginx throughput kept, both ends traced, 32 connections", spread(ratios), "≥ 0.90")
        row("nginx requests/s without, with", f"{spread(base, 0)}, {spread(kept, 0)}", "")
        before = stats.read_text()
        stats.write_text("1")
        try:
            for backend in ("auto", "syscall"):
                config = folder / f"{backend}.yaml"
                config.write_text(
                    'file_format: "1.1"\ndistribution:\n  spandrel:\n    version: "1.0"\n'
                    f"    capture:\n      backend: {backend}\n"
                )
                with agent(options.binary, port, "--config", str(config)) as child:
                    rate = wrk(port, options.seconds)
                    used = programs(child.pid).values()
                    messages = rate * options.seconds * 4
                    time_ns = sum(run_time for run_time, _ in used)
                    memory = resident(child.pid)
                row(
                    f"BPF run time per message, backend {backend} (all programs, the kernel's clock reads included)",
                    f"{time_ns / messages:.0f} ns", "≤ 300 ns",
                )
                row(
                    f"RSS at {rate:.0f} requests/s, backend {backend}",
                    f"{memory['VmRSS']:.1f} MB (peak {memory['VmHWM']:.1f})", "≤ 40 MB",
                )
        finally:
            stats.write_text(before)
    with redis(folder) as port:
        def traced_redis():
            with agent(options.binary, port):
                return redis_benchmark(port, 200_000)

        _, _, ratios = paired(options.rounds, lambda: redis_benchmark(port, 200_000), traced_redis)
        row("redis GET throughput kept, both ends seen, 20 connections", spread(ratios), "≥ 0.90")
    source, loop = folder / "loop.c", folder / "loop"
    source.write_text(SYSCALL_LOOP)
    subprocess.run(["gcc", "-O2", "-o", str(loop), str(source)], check=True)

    def getppid():
        return float(subprocess.run([str(loop)], capture_output=True, text=True, check=True).stdout)

    for backend in ("auto", "syscall"):
        config = folder / f"{backend}.yaml"

        def getppid_traced(config=config):
            with agent(options.binary, None, "--config", str(config)):
                return getppid()

        base, traced_ns, _ = paired(options.rounds, getppid, getppid_traced)
        added = [after - before for after, before in zip(traced_ns, base)]
        row(
            f"added to an unrelated syscall (getppid, {statistics.median(base):.0f} ns), backend {backend}",
            f"{spread(added, 1)} ns", "0 (≤ 40 ns with syscall)",
        )


if __name__ == "__main__":
    os.chdir(pathlib.Path(__file__).resolve().parent.parent)
    main()
