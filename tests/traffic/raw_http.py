"""Reads HTTP/1.1 responses with a Content-Length from a socket, for clients that http.client is too polite for."""


class Responses:
    def __init__(self, connection):
        self.connection = connection
        self.held = b""

    def read(self, slow=None):
        """Status and body of the next response; `slow(bytes)` is called after each read."""
        while b"\r\n\r\n" not in self.held:
            self._more(slow)
        head, _, self.held = self.held.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        status = int(lines[0].split(b" ")[1])
        length = 0
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(self.held) < length:
            self._more(slow)
        body, self.held = self.held[:length], self.held[length:]
        return status, body

    def _more(self, slow):
        data = self.connection.recv(4096 if slow else 65536)
        if not data:
            raise EOFError("the server closed the connection in the middle of a response")
        self.held += data
        if slow:
            slow(data)
