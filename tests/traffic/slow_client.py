#!/usr/bin/env python3
"""A client that sends its request in three pieces and reads the response in small ones, with pauses."""
import argparse
import socket
import time

from ground_truth import now, record
from raw_http import Responses

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--count", type=int, default=1)
parser.add_argument("--path", default="/")
parser.add_argument("--pause-ms", type=int, default=20, help="between two pieces of the request")
parser.add_argument("--read-pause-ms", type=int, default=1, help="after each 4 KiB of the response")
arguments = parser.parse_args()

with socket.socket() as connection:
    # A small window, so that the server has to wait for this client.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    connection.settimeout(60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.connect((arguments.host, arguments.port))
    responses = Responses(connection)
    for _ in range(arguments.count):
        request = f"GET {arguments.path} HTTP/1.1\r\nHost: slow\r\nX-Padding: {'p' * 64}\r\n\r\n".encode()
        start = now()
        # Cut in the method's line, and in the header block.
        for piece in (request[:7], request[7:40], request[40:]):
            connection.sendall(piece)
            time.sleep(arguments.pause_ms / 1000)
        status, body = responses.read(slow=lambda _: time.sleep(arguments.read_pause_ms / 1000))
        record("GET", arguments.path, status, start, now(), 0, len(body))
