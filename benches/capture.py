#!/usr/bin/env python3
"""What capture costs on this machine, as figures and ratios of paired runs.

Prints rows of a Markdown table. Needs root, nginx, redis-server, redis-benchmark, wrk and gcc; loads 127.0.0.1 only.
The agent exports what it sees over OTLP/HTTP to a second nginx, which throws it away.
"""

import argparse
import contextlib
import json
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
    long n = 1000000;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    for (long i = 0; i < n; i++) syscall(SYS_getppid);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
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
def nginx(folder, name):
    """An nginx with one worker; gives its port and the worker's process id."""
    port = free_port()
    own = folder / name
    own.mkdir()
    conf = own / "nginx.conf"
    conf.write_text(
        f"""daemon off; worker_processes 1; pid {own}/nginx.pid; error_log {own}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; client_max_body_size 64m; client_body_buffer_size 16m;
  client_body_temp_path {own}/b; proxy_temp_path {own}/p; fastcgi_temp_path {own}/f;
  uwsgi_temp_path {own}/u; scgi_temp_path {own}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello, world\n"; }}
    location /v1/ {{ default_type application/x-protobuf; return 200 ""; }} }} }}
"""
    )
    with process(["nginx", "-c", str(conf), "-e", str(own / "error.log")]) as master:
        wait_for_port(port)
        children = pathlib.Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text()
        yield port, int(children.split()[0])


@contextlib.contextmanager
def redis(folder):
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)]
    with process(command, stdout=subprocess.DEVNULL) as server:
        wait_for_port(port)
        yield port, server.pid


class Agent:
    """A running agent, and its ledger once it has ended."""

    def __init__(self, pid):
        self.pid = pid
        self.ledger = None


@contextlib.contextmanager
def agent(options, folder, sink, port=None, backend="auto"):
    """The agent as it runs in production; with a port, both ends of its connections are captured and nothing else."""
    include = f'      selectors: {{ include: [{{ port: "{port}" }}] }}\n' if port else ""
    config, ledger = folder / "spandrel.yaml", folder / "ledger.json"
    exporter = "{{ otlp_http: {{ endpoint: 'http://127.0.0.1:{0}/v1/{1}' }} }}"
    config.write_text(
        'file_format: "1.1"\n'
        f"tracer_provider:\n  processors:\n    - batch: {{ exporter: {exporter.format(sink, 'traces')} }}\n"
        "meter_provider:\n  readers:\n"
        f"    - periodic: {{ interval: 1000, exporter: {exporter.format(sink, 'metrics')} }}\n"
        'distribution:\n  spandrel:\n    version: "1.0"\n'
        f"    capture:\n      backend: {backend}\n{include}"
    )
    command = [options.binary, "run", "--config", str(config), "--ledger", str(ledger)]
    log = folder / "agent.log"
    with log.open("w") as errors, process(command, stdout=subprocess.DEVNULL, stderr=errors) as child:
        deadline = time.monotonic() + 30
        while not re.search(r"^ready", log.read_text(), re.MULTILINE):
            if child.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the agent did not become ready:\n{log.read_text()}")
            time.sleep(0.02)
        running = Agent(child.pid)
        yield running
    running.ledger = json.loads(ledger.read_text())


def on_cpu_ns(pid):
    """Time the threads of a process have been on a CPU."""
    total = 0
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += int((thread / "schedstat").read_text().split()[0])
    return total


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
    """Both in turn, the first one alternating. Each gives a list of figures; so does this, by figure and round."""
    base, traced = [], []
    for turn in range(rounds):
        order = [(base, without), (traced, with_agent)]
        for results, run in order if turn % 2 == 0 else reversed(order):
            results.append(run())
    return list(zip(*base)), list(zip(*traced))


def ratios(numerators, denominators):
    return [a / b for a, b in zip(numerators, denominators)]


def row(what, figure, goal):
    print(f"| {what} | {figure} | {goal} |", flush=True)


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", default=os.environ.get("CARGO_TARGET_DIR", "target") + "/release/spandrel")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=2)
    options = arguments.parse_args()
    for tool in ("nginx", "redis-server", "redis-benchmark", "wrk", "gcc"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is not installed: run scripts/setup")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="spandrel-bench-"))
    try:
        bench(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bench(options, folder):
    with nginx(folder, "sink") as (sink, _):
        with nginx(folder, "server") as (port, worker):
            throughput(
                "nginx, 32 keep-alive connections", options, folder, sink, port, worker,
                lambda: wrk(port, options.seconds),
            )
            with bpf_statistics():
                for backend in ("auto", "syscall"):
                    cost_of_messages(options, folder, sink, port, backend)
        with redis(folder) as (port, server):
            throughput(
                "redis GET, 20 connections (not HTTP: ignored once that is known)", options, folder, sink, port,
                server, lambda: redis_benchmark(port, 60_000 * options.seconds),
            )
        other_calls(options, folder, sink)


def throughput(what, options, folder, sink, port, server, load):
    def without():
        began = on_cpu_ns(server), time.monotonic()
        rate = load()
        used, took = on_cpu_ns(server) - began[0], time.monotonic() - began[1]
        return rate, used / (rate * took)

    def traced():
        with agent(options, folder, sink, port) as running:
            result = without()
        dropped.append(lost(running.ledger))
        return result

    dropped = []
    (base, base_cpu), (rates, cpu) = paired(options.rounds, without, traced)
    row(f"throughput kept by {what}", spread(ratios(rates, base)), "≥ 0.90")
    row("… requests per second without and with", f"{spread(base, 0)}, {spread(rates, 0)}", "")
    row("… CPU time of the server per request, without ÷ with", spread(ratios(base_cpu, cpu)), "")
    row("… messages lost, share of those seen", f"{max(dropped):.4f} at most", "")


def lost(ledger):
    """Share of the messages that were lost, not left out on purpose."""
    messages = ledger["messages"]
    on_purpose = ("ignored", "filtered", "denied", "self")
    count = sum(n for reason, n in messages["dropped"].items() if not any(word in reason for word in on_purpose))
    return count / max(messages["seen"], 1)


@contextlib.contextmanager
def bpf_statistics():
    switch = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")
    before = switch.read_text()
    switch.write_text("1")
    try:
        yield
    finally:
        switch.write_text(before)


def cost_of_messages(options, folder, sink, port, backend):
    times, agent_times, memories, rates, losses = [], [], [], [], []
    for _ in range(options.rounds):
        with agent(options, folder, sink, port, backend) as running:
            began = on_cpu_ns(running.pid)
            rates.append(wrk(port, options.seconds))
            used = sum(run_time for run_time, _ in programs(running.pid).values())
            agent_time = on_cpu_ns(running.pid) - began
            memories.append(resident(running.pid))
        seen = running.ledger["messages"]["seen"]
        if not seen:
            sys.exit(f"backend {backend} saw no message")
        times.append(used / seen)
        agent_times.append(agent_time / seen)
        losses.append(lost(running.ledger))
    row(f"BPF run time per message, backend {backend}, all programs", f"{spread(times, 0)} ns", "≤ 300 ns")
    row(f"CPU time of the agent per message, backend {backend}, all threads", f"{spread(agent_times, 0)} ns", "")
    row(
        f"RSS at {statistics.median(rates):.0f} requests/s seen from both ends, backend {backend}",
        f"{spread([memory['VmHWM'] for memory in memories], 1)} MB at its peak", "≤ 40 MB",
    )


def other_calls(options, folder, sink):
    source, loop = folder / "loop.c", folder / "loop"
    source.write_text(SYSCALL_LOOP)
    subprocess.run(["gcc", "-O2", "-o", str(loop), str(source)], check=True)

    def getppid():
        return [float(subprocess.run([str(loop)], capture_output=True, text=True, check=True).stdout)]

    for backend in ("auto", "syscall"):
        def getppid_traced(backend=backend):
            with agent(options, folder, sink, backend=backend):
                return getppid()

        (base,), (traced,) = paired(options.rounds, getppid, getppid_traced)
        added = [after - before for after, before in zip(traced, base)]
        row(
            f"added to an unrelated call (getppid, {statistics.median(base):.0f} ns), backend {backend}",
            f"{spread(added, 1)} ns", "≤ 40 ns" if backend == "syscall" else "0",
        )


if __name__ == "__main__":
    os.chdir(pathlib.Path(__file__).resolve().parent.parent)
    main()
