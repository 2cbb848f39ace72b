"""What every client and server here prints: one JSON line for each request."""
import json
import sys
import time


def now():
    return time.time_ns()


def record(method, path, status, start_ns, end_ns, request_body=0, response_body=0, error=None, **more):
    """One request as its own program saw it; status is None when no status line was read or sent."""
    line = {
        "method": method,
        "path": path,
        "status": status,
        "start_ns": start_ns,
        "end_ns": end_ns,
        "request_body": request_body,
        "response_body": response_body,
    }
    if error is not None:
        line["error"] = error
    line.update(more)
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
