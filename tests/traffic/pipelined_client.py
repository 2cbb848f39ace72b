#!/usr/bin/env python3
"""All requests in one write on one connection, then all responses."""
import argparse
import socket

from ground_truth import now, record
from raw_http import Responses

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--count", type=int, default=1)
parser.add_argument("--path", default="/pipelined/{n}")
arguments = parser.parse_args()

paths = [arguments.path.replace("{n}", str(number)) for number in range(arguments.count)]
with socket.create_connection((arguments.host, arguments.port), timeout=30) as connection:
    start = now()
    connection.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: {arguments.host}\r\n\r\n".encode() for path in paths))
    responses = Responses(connection)
    for path in paths:
        status, body = responses.read()
        record("GET", path, status, start, now(), 0, len(body))
