#!/usr/bin/env python3
"""All requests in one write on one connection, then all responses."""
import argparse
import socket

from ground_truth import now, record
from raw_http import Responses

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int)
parser.add_argument("--unix", help="connect to this path instead")
parser.add_argument("--count", type=int, default=1)
parser.add_argument("--path", default="/pipelined/{n}")
parser.add_argument("--body", type=int, default=0, help="bytes of each request's body, which makes it a POST")
arguments = parser.parse_args()

paths = [arguments.path.replace("{n}", str(number)) for number in range(arguments.count)]
if arguments.unix:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(arguments.unix)
else:
    connection = socket.create_connection((arguments.host, arguments.port), timeout=30)
with connection:
    start = now()
    method = "POST" if arguments.body else "GET"
    length = f"Content-Length: {arguments.body}\r\n" if arguments.body else ""
    connection.sendall(b"".join(
        f"{method} {path} HTTP/1.1\r\nHost: {arguments.host}\r\n{length}\r\n".encode() + b"x" * arguments.body
        for path in paths))
    responses = Responses(connection)
    for path in paths:
        status, body = responses.read()
        record(method, path, status, start, now(), arguments.body, len(body))
