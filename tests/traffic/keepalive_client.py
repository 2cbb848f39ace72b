#!/usr/bin/env python3
"""Requests over kept-alive connections with http.client: --count in all, spread over --connections. SIGTERM ends it early."""
import argparse
import http.client
import signal
import socket
import threading

from ground_truth import now, record

lock = threading.Lock()
asked_to_end = threading.Event()


def body_of(arguments):
    if arguments.body == 0:
        return None
    if not arguments.chunked:
        return b"x" * arguments.body
    size = 4096
    return (b"x" * min(size, arguments.body - at) for at in range(0, arguments.body, size))


def multipath(address, timeout, _source):
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    connection.settimeout(timeout)
    connection.connect(address)
    return connection


def run(arguments, first, count):
    connection = http.client.HTTPConnection(arguments.host, arguments.port, timeout=30)
    if arguments.mptcp:
        connection._create_connection = multipath
    paths = arguments.path or ["/"]
    for number in range(first, first + count):
        if asked_to_end.is_set():
            break
        path = paths[number % len(paths)].replace("{n}", str(number))
        filled = (header.replace("{id}", f"{number + 1:016x}") for header in arguments.header)
        headers = dict(header.split(": ", 1) for header in filled)
        method = arguments.method[number % len(arguments.method)]
        start = now()
        connection.request(method, path, body=body_of(arguments), headers=headers, encode_chunked=arguments.chunked)
        status = error = None
        content = b""
        try:
            response = connection.getresponse()
            status = response.status
            content = response.read()
        except (http.client.HTTPException, OSError) as problem:
            error = type(problem).__name__
            content = getattr(problem, "partial", b"")
            # The next request opens a new one.
            connection.close()
        end = now()
        with lock:
            record(method, path, status, start, end, arguments.body, len(content), error=error)
    if arguments.hold:
        asked_to_end.wait()
    connection.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--method", action="append", default=[])
    parser.add_argument("--path", action="append", help="taken in turn; {n} becomes the request's number")
    parser.add_argument("--header", action="append", default=[], help="'Name: value'; {id} becomes 16 hexadecimal digits, one more than the request's number")
    parser.add_argument("--hold", action="store_true", help="keeps idle connections open until SIGTERM")
    parser.add_argument("--body", type=int, default=0, help="bytes of the request's body")
    parser.add_argument("--chunked", action="store_true", help="send the body with Transfer-Encoding: chunked")
    parser.add_argument("--mptcp", action="store_true", help="connect by MPTCP")
    arguments = parser.parse_args()
    if arguments.chunked:
        arguments.header.append("Transfer-Encoding: chunked")
    arguments.method = arguments.method or ["GET"]
    signal.signal(signal.SIGTERM, lambda *_: asked_to_end.set())
    threads = []
    first = 0
    for index in range(arguments.connections):
        count = arguments.count // arguments.connections + (index < arguments.count % arguments.connections)
        threads.append(threading.Thread(target=run, args=(arguments, first, count)))
        first += count
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
