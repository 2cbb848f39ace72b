#!/usr/bin/env python3
"""Connections that end with an RST (SO_LINGER 0), one request each, cut off --when."""
import argparse
import socket
import struct

from ground_truth import now, record

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--count", type=int, default=1)
parser.add_argument("--path", default="/")
parser.add_argument("--when", choices=["in-request", "before-response", "in-response"], default="before-response")
arguments = parser.parse_args()

request = f"GET {arguments.path} HTTP/1.1\r\nHost: reset\r\n\r\n".encode()
for _ in range(arguments.count):
    connection = socket.create_connection((arguments.host, arguments.port), timeout=30)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    start = now()
    status = None
    read = 0
    if arguments.when == "in-request":
        connection.sendall(request[: len(request) // 2])
    else:
        connection.sendall(request)
    if arguments.when == "in-response":
        first = connection.recv(64)
        read = len(first)
        status = int(first.split(b" ")[1])
    connection.close()
    record("GET", arguments.path, status, start, now(), 0, read, error="reset")
