#!/usr/bin/env python3
"""The service of the demo: nginx calls it, and it calls nginx over one connection that it keeps open.

  GET  /orders/ID      asks nginx for /stock/ID, then answers
  GET  /orders/missing 404
  POST /orders         201
  GET  /report         slow: 120 ms
  GET  /broken         500
"""
import http.client
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NGINX_PORT = int(sys.argv[1])
PORT = int(sys.argv[2])

stock = threading.local()


def stock_of(order):
    if not hasattr(stock, "connection"):
        stock.connection = http.client.HTTPConnection("127.0.0.1", NGINX_PORT, timeout=5)
    stock.connection.request("GET", f"/stock/{order}")
    return json.loads(stock.connection.getresponse().read())


class Orders(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def log_message(self, *_):
        pass

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        if self.path.startswith("/orders/") and name.isdigit():
            self.answer(200, {"order": int(name), "stock": stock_of(name)})
        elif self.path == "/report":
            time.sleep(0.12)
            self.answer(200, {"report": "done"})
        elif self.path == "/broken":
            self.answer(500, {"error": "no database"})
        else:
            self.answer(404, {"error": "no such order"})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(201, {"order": 1})


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


Server(("127.0.0.1", PORT), Orders).serve_forever()
