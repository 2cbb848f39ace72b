#!/usr/bin/env python3
"""A threaded HTTP/1.1 server that prints its own ground truth.

The first line is {"listening": PORT} (or the path of the unix socket); then one line for each request. Routes:
  /bytes/N           N bytes with a Content-Length      /chunked?chunks=N&size=M   a chunked response
  /status/CODE       that status                        /trailers                  chunked, with a trailer
  /slow?ms=N         answers after N ms                 /cut                       closes in the middle of the body
  /until-close/N     N bytes up to the close
  POST /upload       {"received": N}; takes Content-Length and chunked bodies; anything else: "ok"
"""
import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from ground_truth import now, record

lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and a small body leave in one write, as a careful server does it.
    wbufsize = 65536

    def log_message(self, *_):
        pass

    def address_string(self):
        return "peer"

    def handle_any(self):
        start = now()
        self.cut = False
        error = None
        received = sent = 0
        status = None
        try:
            received = self.read_body()
            status, sent = self.answer(received)
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError) as problem:
            error = type(problem).__name__
            self.close_connection = True
        if self.cut:
            error = "cut"
            self.close_connection = True
        with lock:
            record(self.command, self.path, status, start, now(), received, sent, error=error)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_HEAD = handle_any

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            total = 0
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                if size == 0:
                    while self.rfile.readline() not in (b"\r\n", b"\n", b""):
                        pass
                    return total
                total += len(self.rfile.read(size))
                self.rfile.readline()
        length = int(self.headers.get("Content-Length") or 0)
        return len(self.rfile.read(length)) if length else 0

    def answer(self, received):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        parts = url.path.strip("/").split("/")
        if parts[0] == "bytes":
            return self.sized(200, b"b" * int(parts[1]))
        if parts[0] == "status":
            return self.sized(int(parts[1]), b"" if parts[1] in ("204", "304") else b"status\n")
        if parts[0] == "slow":
            time.sleep(int(query.get("ms", "100")) / 1000)
            return self.sized(200, b"slow\n")
        if parts[0] == "chunked":
            return self.chunked(int(query.get("chunks", "4")), int(query.get("size", "100")))
        if parts[0] == "trailers":
            return self.chunked(2, 10, trailer="X-Checksum: 1234\r\n")
        if parts[0] == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"c" * 100)
            self.cut = True
            return 200, 100
        if parts[0] == "until-close":
            self.close_connection = True
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"u" * int(parts[1]))
            return 200, int(parts[1])
        if parts[0] == "upload":
            return self.sized(201, json.dumps({"received": received}).encode())
        return self.sized(200, b"ok\n")

    def sized(self, status, body):
        self.send_response(status)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return status, 0
        self.wfile.write(body)
        return status, len(body)

    def chunked(self, chunks, size, trailer=""):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(chunks):
            self.wfile.write(b"%x\r\n%s\r\n" % (size, b"k" * size))
            self.wfile.flush()
        self.wfile.write(b"0\r\n" + trailer.encode() + b"\r\n")
        return 200, chunks * size


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, arguments):
        if arguments.unix:
            self.address_family = socket.AF_UNIX
            address = arguments.unix
        else:
            self.address_family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
            address = (arguments.host, arguments.port)
        super().__init__(address, Handler)

    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "server", 0

    def handle_error(self, request, client_address):
        """A peer that went away is in the ground truth already."""

    def get_request(self):
        connection, peer = self.socket.accept()
        if self.address_family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, peer or ("unix", 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--unix", help="listen on this path instead")
    arguments = parser.parse_args()
    server = Server(arguments)
    listening = arguments.unix or server.server_address[1]
    print(json.dumps({"listening": listening}), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
