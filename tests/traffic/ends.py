#!/usr/bin/env python3
"""Exchanges that end without a whole answer, in a network namespace of its own whose link goes down in the end.

Prints its process id, waits for a line, and prints one JSON line for each end: between which two times it came. Keeps its
sockets until another line comes.
"""
import fcntl
import json
import os
import socket
import struct
import sys
import threading
import time

IFF_UP = 1
SIOCSIFFLAGS = 0x8914
PART = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart"
kept = []


def link(up):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP if up else 0))


def say(path, kind, error, start, end):
    print(json.dumps({"path": path, "kind": kind, "error": error, "from_ns": start, "to_ns": end}), flush=True)


def ask(listener, path):
    """A client and its server, which has read the request."""
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
    server.recv(4096)
    kept.extend([client, server])
    return client, server


def answer_in_part(client, server):
    server.sendall(PART)
    client.recv(4096)


def timed(close):
    start = time.time_ns()
    close()
    return start, time.time_ns()


def close_with_reset(one):
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


def read_to_end(client, found):
    """Until the end of the connection, as a thread that waits for it."""
    try:
        while client.recv(4):
            pass
    except ConnectionResetError:
        pass
    found.append(time.time_ns())


def server_ends(listener, path, part, close, error):
    """The server ends it while the client waits; the client keeps its socket."""
    client, server = ask(listener, path)
    if part:
        answer_in_part(client, server)
    found = []
    reader = threading.Thread(target=read_to_end, args=(client, found))
    reader.start()
    start, end = timed(lambda: close(server))
    reader.join()
    say(path, "server", error, start, end)
    say(path, "client", error, start, found[0])
    return client


def reset_before_all_is_read(listener, path):
    client, server = ask(listener, path)
    server.sendall(PART)
    client.recv(10)
    start, end = timed(lambda: close_with_reset(server))
    say(path, "server", "connection_reset", start, end)
    # The rest, and then the error.
    found = []
    read_to_end(client, found)
    say(path, "client", "connection_reset", start, found[0])


def main():
    link(True)
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    listener = socket.create_server(("127.0.0.1", 0))
    server_ends(listener, "/reset", False, close_with_reset, "connection_reset")
    server_ends(listener, "/reset-in-body", True, close_with_reset, "connection_reset")
    reset_before_all_is_read(listener, "/reset-unread")
    # Who has read the end of the answers may still close much later.
    fin = server_ends(listener, "/fin", True, socket.socket.close, "connection_closed")
    none = server_ends(listener, "/fin-without-answer", False, socket.socket.close, "connection_closed")
    both = server_ends(listener, "/shut", True, lambda one: one.shutdown(socket.SHUT_WR), "connection_closed")
    threading.Event().wait(0.3)
    for client in (fin, none, both):
        client.close()
    waiting = [ask(listener, "/client-leaves"), ask(listener, "/client-leaves-body"), ask(listener, "/server-leaves")]
    answer_in_part(*waiting[1])
    answer_in_part(*waiting[2])
    # Now nobody hears of the other's end.
    link(False)
    say("/client-leaves", "client", "connection_closed", *timed(waiting[0][0].close))
    say("/client-leaves-body", "client", "connection_closed", *timed(waiting[1][0].close))
    say("/server-leaves", "server", "connection_closed", *timed(waiting[2][1].close))
    print("{}", flush=True)
    sys.stdin.readline()


main()
