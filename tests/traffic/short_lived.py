#!/usr/bin/env python3
"""A process that lives about 300 ms from its first instruction and makes three requests, each on a new connection."""
import time

BORN = time.monotonic()

import argparse
import http.client

from ground_truth import now, record

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--count", type=int, default=3)
parser.add_argument("--path", default="/short/{n}")
parser.add_argument("--life-ms", type=int, default=300)
arguments = parser.parse_args()

for number in range(arguments.count):
    path = arguments.path.replace("{n}", str(number))
    connection = http.client.HTTPConnection(arguments.host, arguments.port, timeout=10)
    start = now()
    connection.request("GET", path)
    response = connection.getresponse()
    content = response.read()
    record("GET", path, response.status, start, now(), 0, len(content))
    connection.close()
    time.sleep(max(0.0, BORN + arguments.life_ms / 1000 * (number + 1) / arguments.count - time.monotonic()))
