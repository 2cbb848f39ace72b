"""Traffic of known shape. Prints what it did as one JSON object per line; `go` on stdin where a step waits."""
import ctypes, json, mmap, os, socket, struct, sys, threading

libc = ctypes.CDLL(None, use_errno=True)


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Msghdr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.POINTER(Iovec)),
                ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
                ("flags", ctypes.c_int)]


class Mmsghdr(ctypes.Structure):
    _fields_ = [("header", Msghdr), ("length", ctypes.c_uint)]


def say(**what):
    print(json.dumps({"pid": os.getpid(), **what}), flush=True)


def go():
    sys.stdin.readline()


def pair(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.bind((host, 0))
    listener.listen()
    client = socket.socket(family)
    client.connect(listener.getsockname())
    server, _ = listener.accept()
    for s in (client, server):
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    say(port=listener.getsockname()[1], client_port=client.getsockname()[1])
    listener.close()
    return client, server


def vector_of(buffers):
    vector = (Mmsghdr * len(buffers))()
    keep = []
    for i, b in enumerate(buffers):
        iov = (Iovec * 1)(Iovec(ctypes.cast(b, ctypes.c_void_p), len(b)))
        keep.append(iov)
        vector[i].header.iov, vector[i].header.iovlen = iov, 1
    return vector, keep


def mmsg(call, s, buffers, flags=0):
    vector, keep = vector_of(buffers)
    n = call(s.fileno(), vector, len(buffers), flags, *([None] if call is libc.recvmmsg else []))
    assert n > 0, ctypes.get_errno()
    return [vector[i].length for i in range(n)]


def variants():
    """Every system call, one message each way."""
    c, s = pair()
    buf = lambda data: ctypes.create_string_buffer(data, len(data))
    os.write(c.fileno(), b"write"); os.read(s.fileno(), 100)
    os.writev(c.fileno(), [b"wri", b"", b"tev"]); os.readv(s.fileno(), [bytearray(2), bytearray(3), bytearray(50)])
    c.send(b"sendto"); s.recvfrom(100)
    c.sendmsg([b"send", b"msg"]); s.recvmsg_into([bytearray(1), bytearray(100)])
    mmsg(libc.sendmmsg, c, [buf(b"sendmmsg")]); mmsg(libc.recvmmsg, s, [buf(bytes(100))])
    big = bytes(range(256)) * 40
    c.sendall(big); got = 0
    while got < len(big):
        got += s.recv_into(bytearray(20000), 20000)
    head, tail = b"h" * 5000, b"t" * 6000 + b"0\r\n\r\n"
    os.writev(c.fileno(), [head, tail]); s.recv(20000, socket.MSG_WAITALL) if False else s.recv_into(bytearray(11005), 11005, socket.MSG_WAITALL)
    c.close(); s.close()


def multiple():
    c, s = pair()
    buf = lambda data: ctypes.create_string_buffer(data, len(data))
    both = [buf(b"first"), buf(b"second!")]
    # The same places again, so that only counting tells where a call begins.
    vector, keep = vector_of(both)
    def send(wanted=2, flags=0):
        n = libc.sendmmsg(c.fileno(), vector, 2, flags)
        assert n == wanted, (n, os.strerror(ctypes.get_errno()))
    send(); s.recv(100)
    send(); s.recv(100)
    # Ends after its first message.
    long = vector[1].header.iov[0].base
    vector[1].header.iov[0].base = 8
    send(wanted=1); s.recv(100)
    vector[1].header.iov[0].base = long
    send(); s.recv(100)
    # Reads several: those that are there, and then without waiting.
    c.send(b"answer")
    assert mmsg(libc.recvmmsg, s, [buf(bytes(2)), buf(bytes(3)), buf(bytes(100))], socket.MSG_DONTWAIT) == [2, 3, 1]
    c.send(b"more")
    assert mmsg(libc.recvmmsg, s, [buf(bytes(3)), buf(bytes(3)), buf(bytes(3))], socket.MSG_DONTWAIT) == [3, 1]
    c.close(); s.close()


def multiple_older():
    """By a thread that is older than the capture."""
    c, s = pair()
    say(ready=True); go()
    vector, keep = vector_of([ctypes.create_string_buffer(data, len(data)) for data in (b"first", b"second!")])
    send = lambda: libc.sendmmsg(c.fileno(), vector, 2, 0)
    assert send() == 2
    s.recv(100)
    place = vector[1].header.iov[0].base
    vector[1].header.iov[0].base = 8
    assert send() == 1
    s.recv(100)
    vector[1].header.iov[0].base = place
    assert send() == 2
    s.recv(100)
    c.close(); s.close()


def peek():
    c, s = pair()
    c.send(b"peeked"); s.recv(100, socket.MSG_PEEK); s.recv(100)
    c.send(b"discarded"); s.recv(100, socket.MSG_TRUNC)
    c.send(b"after"); s.recv(100)
    c.close(); s.close()


def descriptors():
    c, s = pair()
    number = c.fileno()
    twin = os.dup(number)
    os.write(number, b"own"); os.write(twin, b"dup")
    child = os.fork()
    if child == 0:
        os.write(number, b"fork"); os._exit(0)
    os.waitpid(child, 0)
    got = 0
    while got < 10:
        got += len(s.recv(100))
    os.close(twin); c.close(); s.close()
    say(child=child)
    c, s = pair()
    say(reused=c.fileno() == number)
    c.send(b"again"); s.recv(100)
    c.close(); s.close()


def existing():
    c, s = pair()
    say(ready=True)
    go()
    c.send(b"question"); s.recv(100); s.send(b"answer"); c.recv(100)
    c.close(); s.close()


def ipv6():
    c, s = pair("::1")
    c.send(b"six"); s.recv(100)
    c.close(); s.close()


def mapped():
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", 0)); listener.listen()
    c = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
    s, _ = listener.accept()
    say(port=listener.getsockname()[1], client_port=c.getsockname()[1])
    c.send(b"four in six"); s.recv(100)
    c.close(); s.close()


def ends():
    c, s = pair()
    c.send(b"last"); c.shutdown(socket.SHUT_WR); s.recv(100); s.recv(100)
    s.send(b"reply"); c.recv(100); s.close(); c.close()
    c, s = pair()
    c.send(b"x"); s.recv(100)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); s.close()
    try:
        c.recv(100)
    except ConnectionResetError:
        pass
    c.close()


def late():
    """Reads after both sides have sent their FINs."""
    c, s = pair()
    c.shutdown(socket.SHUT_WR); s.recv(1); s.send(b"unread"); s.close()
    import time
    time.sleep(0.05)
    c.recv(100); c.close()


def again():
    """A socket that connects to another server when it has left the first."""
    c, s = pair()
    c.send(b"one"); s.recv(100); s.send(b"first"); c.recv(100)
    nowhere = struct.pack("H14x", socket.AF_UNSPEC)
    assert libc.connect(c.fileno(), nowhere, len(nowhere)) == 0, ctypes.get_errno()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0)); listener.listen()
    c.connect(listener.getsockname())
    t, _ = listener.accept()
    say(port=listener.getsockname()[1], client_port=c.getsockname()[1])
    c.send(b"another"); t.recv(100); t.send(b"second"); c.recv(100)
    c.close(); t.recv(100); t.close(); s.close()


def shut_while_writing():
    """A thread waits until the peer takes more of its bytes, and another one shuts the socket."""
    c, s = pair()
    writer = threading.Thread(target=lambda: say(sent=c.send(b"x" * (64 << 20))))
    writer.start()
    s.recv(1)
    while open(f"/proc/self/task/{writer.native_id}/stat").read().rsplit(") ")[-1][0] != "S":
        pass
    c.shutdown(socket.SHUT_RDWR)
    writer.join()
    c.close(); s.close()


def denied():
    c, s = pair()
    c.send(b"one"); s.recv(100)
    say(ready=True); go()
    c.send(b"two"); s.recv(100)
    say(ready=True); go()
    c.send(b"three"); s.recv(100)
    c.close(); s.close()


def replaced():
    """Another program takes the place of this one, with its connection."""
    c, s = pair()
    c.send(b"one"); s.recv(100)
    say(ready=True); go()
    for _ in range(2):
        c.send(b"two"); s.recv(100)
    c.set_inheritable(True)
    os.execv(sys.executable, [sys.executable, "-c", f"import os; os.write({c.fileno()}, b'three')"])


def policy():
    c, s = pair()
    for _ in range(4):
        c.send(b"a" * 6000); s.recv_into(bytearray(6000), 6000, socket.MSG_WAITALL)
        say(ready=True); go()
    c.close(); s.close()


def join():
    """Goes into the cgroup that the test names, if it names one."""
    if len(sys.argv) > 2 and sys.argv[2]:
        with open(sys.argv[2] + "/cgroup.procs", "w") as procs:
            procs.write(str(os.getpid()))


def neighbour():
    """Few messages, while another container floods."""
    join()
    c, s = pair()
    for n in range(50):
        c.send(b"%03d" % n); s.recv(100)
    c.close(); s.close()


def flood():
    join()
    c, s = pair()
    data = b"f" * 2000
    for _ in range(20000):
        c.send(data); s.recv_into(bytearray(2000), 2000, socket.MSG_WAITALL)
    c.close(); s.close()


def serve():
    """Reads one message on ADDRESS,PORT."""
    address, port = sys.argv[2].split(",")
    listener = socket.create_server((address, int(port)))
    say(ready=True)
    s, _ = listener.accept()
    s.recv(100); s.send(b"answer"); s.recv(100)
    s.close()


def both_ends():
    """Both ends of the connection ADDRESS,PORT,ADDRESS,PORT, the server's first."""
    address, port, client, client_port = sys.argv[2].split(",")
    listener = socket.create_server((address, int(port)))
    c = socket.create_connection((address, int(port)), source_address=(client, int(client_port)))
    s, _ = listener.accept()
    c.send(b"theirs"); s.recv(100)
    c.close(); s.close()


def flood_on():
    """Fills the ring, then goes on for three seconds."""
    import time
    join()
    c, s = pair()
    data = b"f" * 2000
    def once():
        c.send(data); s.recv_into(bytearray(2000), 2000, socket.MSG_WAITALL)
    for _ in range(6000):
        once()
    full = time.monotonic_ns()
    say(full_ns=full)
    while time.monotonic_ns() - full < 3_000_000_000:
        once()


def flood_short():
    """Fills the ring, then makes connections of one message for three seconds."""
    import time
    join()
    c, s = pair()
    data = b"f" * 2000
    for _ in range(20000):
        c.send(data); s.recv_into(bytearray(2000), 2000, socket.MSG_WAITALL)
    listener = socket.create_server(("127.0.0.1", 0))
    full = time.monotonic_ns()
    say(full_ns=full)
    while time.monotonic_ns() - full < 3_000_000_000:
        with socket.create_connection(listener.getsockname()) as c:
            s, _ = listener.accept()
            c.send(b"short"); s.recv(100); s.close()
        # A thousand a second: what tells of opens and closes must not fill the ring on a fast machine.
        time.sleep(0.001)


def undecided():
    """More messages than the test's budget, twice, with a second between."""
    import time
    c, s = pair()
    for _ in range(2):
        for _ in range(1000):
            c.send(b"u"); s.recv(100)
        time.sleep(1.1)
    c.send(b"u"); s.recv(100)
    c.close(); s.close()


def sendfile():
    c, s = pair()
    with open(__file__, "rb") as f:
        n = os.sendfile(c.fileno(), f.fileno(), 0, 1000)
    s.recv_into(bytearray(1000), 1000, socket.MSG_WAITALL)
    c.send(b"behind"); s.recv(100)
    c.close(); s.close()


def unix_listener():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[2]); listener.listen()
    return listener


def unix_pair():
    listener = unix_listener()
    c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[2])
    return c, listener.accept()[0]


def read_by_splice(s, pipe, length):
    got = 0
    while got < length:
        got += os.splice(s.fileno(), pipe[1], length - got)
    os.read(pipe[0], length)


def unix():
    c, s = unix_pair()
    c.send(b"over a path"); s.recv(100); s.send(b"back"); c.recv(100)
    c.close(); s.close()


def unix_splice():
    """Reads of a Unix stream by splice, then by read while more waits."""
    c, s = unix_pair()
    pipe = os.pipe()
    for _ in range(2):
        c.send(b"head"); s.recv(4)
        c.send(b"b" * 1000); read_by_splice(s, pipe, 1000)
        c.send(b"next"); c.send(b"waits")
        s.recv(2); s.recv(2); s.recv(100)
    c.close(); s.close()


def unix_origins():
    """A Unix stream that is older than the capture, then new ones: one whose ends are both bound, one accepted late, a pair."""
    path = sys.argv[2]
    listener = unix_listener()

    def connect(bound=None):
        c = socket.socket(socket.AF_UNIX)
        if bound:
            c.bind(bound)
        c.connect(path)
        return c

    def talk(c, s, text):
        c.send(text); s.recv(100); s.send(b"answer to " + text); c.recv(100)

    old = connect(); old_server, _ = listener.accept()
    waiting = connect()
    waiting.send(b"sent before")
    pair = socket.socketpair()
    say(ready=True); go()
    talk(old, old_server, b"old")
    accepted, _ = listener.accept()
    accepted.recv(100); talk(waiting, accepted, b"accepted")
    talk(*pair, b"old pair")
    new = connect(path + ".bound"); server, _ = listener.accept()
    talk(new, server, b"bound")
    talk(*socket.socketpair(), b"pair")


def unix_ended():
    """Unix streams, of which who is told the end reads it; one end is only shut at first."""
    c, s = socket.socketpair()
    c.send(b"first"); s.recv(100); c.close()
    assert s.recv(100) == b""
    s.close()
    c, s = socket.socketpair()
    c.send(b"second"); c.shutdown(socket.SHUT_WR); s.recv(100)
    assert s.recv(100) == b""
    s.send(b"answer"); c.recv(100); s.close()
    assert c.recv(100) == b""
    c.close()


class Uring:
    """The smallest io_uring that sends and receives."""
    SEND, RECV = 26, 27

    def __init__(self):
        params = (ctypes.c_uint32 * 30)()
        self.fd = libc.syscall(425, 4, params)
        assert self.fd >= 0, os.strerror(ctypes.get_errno())
        entries, cq_entries = params[0], params[1]
        self.sq, self.cq = params[10:20], params[20:30]
        area = lambda size, offset: mmap.mmap(self.fd, size, mmap.MAP_SHARED, offset=offset)
        self.sq_ring = area(self.sq[6] + entries * 4, 0)
        self.cq_ring = area(self.cq[5] + cq_entries * 16, 0x8000000)
        self.sqes = area(entries * 64, 0x10000000)
        self.mask, self.cq_mask = entries - 1, cq_entries - 1

    def submit(self, op, s, buffer, wait=0, flags=0):
        tail, = struct.unpack_from("I", self.sq_ring, self.sq[1])
        slot = tail & self.mask
        entry = struct.pack("BBHiQQII", op, 0, 0, s.fileno(), 0, ctypes.addressof(buffer), len(buffer), flags)
        self.sqes[slot * 64:slot * 64 + 64] = entry.ljust(64, b"\0")
        struct.pack_into("I", self.sq_ring, self.sq[6] + slot * 4, slot)
        struct.pack_into("I", self.sq_ring, self.sq[1], tail + 1)
        assert libc.syscall(426, self.fd, 1, wait, 1 if wait else 0, None, 0) == 1, ctypes.get_errno()
        return self.result() if wait else None

    def result(self):
        head, = struct.unpack_from("I", self.cq_ring, self.cq[0])
        while struct.unpack_from("I", self.cq_ring, self.cq[1])[0] == head:
            libc.syscall(426, self.fd, 0, 1, 1, None, 0)
        _, result, _ = struct.unpack_from("QiI", self.cq_ring, self.cq[5] + (head & self.cq_mask) * 16)
        struct.pack_into("I", self.cq_ring, self.cq[0], head + 1)
        return result


def many():
    """More connections at a time than the capture's table has room for; then each speaks again."""
    import resource
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen(64)
    ends = []
    for n in range(1000):
        c = socket.create_connection(listener.getsockname()); s, _ = listener.accept()
        ends.append((c, s))
        c.send(b"first %d" % n); s.recv(100)
    for n, (c, s) in enumerate(ends):
        c.send(b"again %d" % n); s.recv(100)
    for c, s in ends:
        c.close(); s.close()


def unix_again():
    """Unix streams one after the other: the kernel uses the memory of a closed socket for the next one."""
    for n in range(200):
        c, s = socket.socketpair()
        c.send(b"connection %d" % n); s.recv(100)
        c.close(); s.close()


def uring():
    """Sent and read by io_uring, then by system calls."""
    ring = Uring()
    c, s = pair()
    sent = ctypes.create_string_buffer(b"u" * 1000, 1000)
    assert ring.submit(ring.SEND, c, sent, wait=1) == 1000
    assert ring.submit(ring.RECV, s, ctypes.create_string_buffer(1000), wait=1) == 1000
    c.send(b"behind"); s.recv(100)
    c.close(); s.close()


def counted(length):
    """Bytes that say where they are."""
    return bytes((n * 2654435761 >> 13) & 255 for n in range(length))


def uring_pieces():
    """io_uring reads parts of packets, and one read has several; some it looks at first."""
    ring = Uring()
    c, s = pair()
    data, at, n = counted(200000), 0, 0
    sender = threading.Thread(target=c.sendall, args=(data,))
    sender.start()
    while at < len(data):
        buffer = ctypes.create_string_buffer(2999 if at < 100000 else 90000)
        if n % 5 == 0:
            assert ring.submit(ring.RECV, s, buffer, wait=1, flags=socket.MSG_PEEK) > 0
        got = ring.submit(ring.RECV, s, buffer, wait=1)
        assert got > 0 and buffer.raw[:got] == data[at:at + got]
        at, n = at + got, n + 1
        s.send(b"."); c.recv(1)
    sender.join()
    c.close(); s.close()


def uring_unix():
    """A Unix stream by io_uring, read in parts."""
    ring = Uring()
    c, s = socket.socketpair()
    sent = ctypes.create_string_buffer(b"u" * 400 + b"v" * 600, 1000)
    assert ring.submit(ring.SEND, c, sent, wait=1) == 1000
    for size in (400, 600):
        assert ring.submit(ring.RECV, s, ctypes.create_string_buffer(size), wait=1) == size
    c.send(b"behind"); s.recv(100)
    c.close(); s.close()


def uring_meanwhile():
    """io_uring reads one connection for a thread that is in a call about another one."""
    import time
    ring = Uring()
    c, s = pair()
    other_c, other_s = pair()
    ring.submit(ring.RECV, s, ctypes.create_string_buffer(300))

    def send():
        time.sleep(0.1); c.send(b"u" * 300)
        time.sleep(0.1); other_c.send(b"other")

    sender = threading.Thread(target=send)
    sender.start()
    other_s.recv_into(bytearray(b"GET / HTTP/1.1\r\n" * 100))
    sender.join()
    assert ring.result() == 300
    for one in (c, s, other_c, other_s):
        one.close()


def two_arrivals():
    """Two segments come one after the other before anything is read."""
    import time
    c, s = pair()
    c.send(b"first"); time.sleep(0.1); c.send(b"last"); time.sleep(0.05); s.recv(100)
    c.close(); s.close()


def queue():
    """Data waits; then half of it is read, and the rest."""
    import time
    c, s = pair()
    c.send(b"12345678"); time.sleep(0.05); s.recv(4); s.recv(100)
    c.send(b"next"); s.recv(100)
    c.close(); s.close()


def head(n, cookies, body=0, line=None):
    line = line or b"POST /%d HTTP/1.1" % n
    fields = b"".join(b"x-%d: %s\r\n" % (i, b"c" * 100) for i in range(cookies // 108))
    return line + b"\r\n" + fields + b"cOnTent-lEngth:  %d\r\ntraceparent: %032x\r\n\r\n" % (body, n)


def exchange(parts, read, write=None, wait=False):
    """Sends heads and bodies in one write or as `write` does, and reads them with reads of this size."""
    c, s = pair()
    if wait:
        c.send(b"POST / HTTP/1.1\r\n\r\n"); s.recv(100)
        say(ready=True); go()
    stream, heads, at = b"".join(parts), [], 19 if wait else 0
    for part in parts:
        if b" HTTP/" in part[:40] or part.startswith(b"HTTP/"):
            heads.append([at, part.decode()])
        at += len(part)
    say(heads=heads)
    sender = threading.Thread(target=write or (lambda c: c.sendall(stream)), args=(c,))
    sender.start()
    left = len(stream)
    buffer = bytearray(read)
    while left:
        # Full reads, so that reads end at the same places each time.
        left -= s.recv_into(buffer, min(read, left), socket.MSG_WAITALL)
    sender.join()
    c.close(); s.close()


def bodies(count, body, cookies=0):
    return [part for n in range(count) for part in (head(n, cookies, body), b"b" * body)]


def segments():
    """One writev and one readv of a thousand segments."""
    c, s = pair()
    text = bytes(range(48, 122)) * 200
    pieces = [text[i * 10:i * 10 + 10] for i in range(1000)]
    assert os.writev(c.fileno(), pieces) == 10000
    s.recv_into(bytearray(1), 1, socket.MSG_PEEK)
    assert os.readv(s.fileno(), [bytearray(10) for _ in range(1000)]) == 10000
    c.close(); s.close()


def long_head():
    exchange([head(0, 12000), head(1, 12000, 50000), b"b" * 50000], 200000)


def long_head_known():
    exchange([head(0, 12000), head(1, 1300, 50000), b"b" * 50000], 200000, wait=True)


def longest_head():
    exchange([head(0, 27000)], 200000, wait=True)


def long_head_segments():
    """Two segments for each field."""
    def write(c):
        for text in (one, two):
            lines = text.split(b"\r\n")
            os.writev(c.fileno(), [segment for line in lines[:-1] for segment in (line, b"\r\n")])
    one, two = head(0, 12000), head(1, 6000)
    exchange([one, two], 200000, write, wait=True)


def split_head():
    """Heads over many reads, the second one's first byte in a read with the body before it."""
    exchange([head(0, 5000, 70000), b"b" * 70000, head(1, 5000)], 700, wait=True)


def answered(pieces):
    """On a connection with requests and answers: one more head, sent and read in these pieces."""
    c, s = pair()
    c.send(b"POST / HTTP/1.1\r\n\r\n"); s.recv(100)
    s.send(b"HTTP/1.1 204 No Content\r\n\r\n"); c.recv(100)
    say(ready=True); go()
    one = head(0, 5000)
    say(heads=[[19, one.decode()]])
    at = 0
    for end in pieces + [len(one)]:
        c.send(one[at:end]); s.recv_into(bytearray(end - at), end - at, socket.MSG_WAITALL); at = end
    s.send(b"HTTP/1.1 204 No Content\r\n\r\n"); c.recv(100)
    c.close(); s.close()


def first_byte_ahead():
    answered([1])


def first_kilobyte_ahead():
    answered([900, 1900])


def split_at_end():
    """The next head's first two bytes stand at the end of a short message."""
    first = head(0, 0, 100) + b"b" * 100
    second, at = head(1, 3000), len(first) + 2
    def write(c):
        c.sendall((first + second)[:at]); c.sendall(second[2:])
    exchange([first[:-100], first[-100:], second], at, write, wait=True)


def split_sign():
    first = head(0, 0, 100000)
    exchange([first, b"b" * 100000, head(1, 3000)], len(first) + 100001, wait=True)


def split_everywhere():
    """Each read ends one byte further into a head than the one before it."""
    parts = [part for n in range(10, 100) for part in (head(n, 0, 20000), b"b" * 20000)]
    def write(c):
        for part in parts:
            c.sendall(part)
    exchange(parts, len(parts[0]) + 20001, write, wait=True)


def pipelined_bodies():
    exchange(bodies(20, 100000), 16384, wait=True)


def pipelined_near_starts():
    """Each head begins a little later in its read than the one before it."""
    exchange(bodies(20, 100000), 99800, wait=True)


def pipelined_large_reads():
    exchange(bodies(20, 100000), 1 << 20, wait=True)


def pipelined_heads():
    exchange([head(n, 0) for n in range(200)], 1 << 20, wait=True)


def early_answers():
    """Each request with its body in a write of its own, read in pieces."""
    parts = bodies(10, 300000)
    def write(c):
        for i in range(0, len(parts), 2):
            c.sendall(parts[i]); c.sendall(parts[i + 1])
    exchange(parts, 4096, write, wait=True)


def long_body():
    c, s = pair()
    c.send(b"POST / HTTP/1.1\r\n\r\n"); s.recv(100)
    say(ready=True); go()
    buffer = bytearray(8192)
    for _ in range(500):
        c.send(b"b" * 8192); s.recv_into(buffer, 8192, socket.MSG_WAITALL)
    c.close(); s.close()


def splice():
    """Reads by splice, which no tracepoint tells of, then by read; the last bytes again by splice."""
    c, s = pair()
    pipe = os.pipe()
    c.send(b"head"); s.recv(4)
    c.send(b"b" * 1000); read_by_splice(s, pipe, 1000)
    c.send(b"next"); s.recv(100)
    c.send(b"tail" * 10); c.shutdown(socket.SHUT_WR)
    s.recv(1, socket.MSG_PEEK)
    while os.splice(s.fileno(), pipe[1], 4096):
        pass
    s.close(); c.close()


def zero_copy():
    """Reads by TCP_ZEROCOPY_RECEIVE: whole pages into a mapping, what is left by a copy."""
    import time
    c, s = pair()
    c.send(b"head"); s.recv(4)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    area = libc.mmap(None, 1 << 16, mmap.PROT_READ, mmap.MAP_SHARED, s.fileno(), 0)
    assert area not in (None, ctypes.c_void_p(-1).value), os.strerror(ctypes.get_errno())
    c.send(b"z" * 3000); time.sleep(0.05)
    copy = ctypes.create_string_buffer(4096)
    # address, length, hint, unread, error, copy buffer, its length
    asked = struct.pack("QIIIiQi", area, 1 << 16, 0, 0, 0, ctypes.addressof(copy), 4096).ljust(64, b"\0")
    buffer = ctypes.create_string_buffer(asked, 64)
    size = ctypes.c_uint(64)
    assert libc.getsockopt(s.fileno(), socket.IPPROTO_TCP, 35, buffer, ctypes.byref(size)) == 0, ctypes.get_errno()
    _, mapped, _, _, _, _, copied = struct.unpack_from("QIIIiQi", buffer.raw)
    say(read=mapped + copied)
    assert mapped + copied == 3000, (mapped, copied)
    c.send(b"next"); s.recv(100)
    c.close(); s.close()


def last_and_fin():
    """The last bytes and the end of the connection in one read; before it, and with more than one read behind."""
    c, s = pair()
    s.send(b"whole"); s.close()
    c.recv(1, socket.MSG_PEEK)
    import time
    time.sleep(0.05)
    assert c.recv(100) == b"whole" and c.recv(100) == b""
    c.close()
    c, s = pair()
    s.send(b"in two"); s.close()
    time.sleep(0.05)
    c.recv(3); c.recv(3); c.close()


def aborted():
    """Closed without waiting, with bytes unread and unsent."""
    c, s = pair()
    c.send(b"question"); s.recv(100)
    s.send(b"unread"); c.recv(1, socket.MSG_PEEK)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); c.close()
    try:
        s.recv(100)
    except ConnectionResetError:
        pass
    s.close()


def reset_after_fin():
    """This end has said that it is done, the other one has taken note, and resets."""
    import time
    c, s = pair()
    c.send(b"x"); s.recv(100)
    c.shutdown(socket.SHUT_WR); s.recv(100)
    while c.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != b"\x05":
        time.sleep(0.01)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); s.close()
    try:
        c.recv(100)
    except ConnectionResetError:
        pass
    c.close()


def with_syn():
    """Data in the SYN, in a network namespace where that is allowed."""
    assert libc.unshare(0x40000000) == 0, os.strerror(ctypes.get_errno())
    request = struct.pack("16sH22x", b"lo", 1)
    import fcntl
    fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8914, request)
    with open("/proc/sys/net/ipv4/tcp_fastopen", "w") as setting:
        setting.write("0x607")  # both sides, no cookies asked for
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0)); listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 8); listener.listen()
    client = socket.socket()
    client.sendto(b"early", socket.MSG_FASTOPEN, listener.getsockname())
    server, _ = listener.accept()
    say(port=listener.getsockname()[1], client_port=client.getsockname()[1])
    say(acknowledged=bool(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[5] & 32))
    assert server.recv(100) == b"early"
    server.send(b"answer"); client.recv(100)
    client.send(b"later"); server.recv(100)
    client.close(); server.close()


def two_senders():
    """Two threads send on one socket; what each message says is where it was in the stream."""
    c, s = pair()
    count, size = 500, 64  # fewer than are copied in one direction
    def send(name):
        for n in range(count):
            c.send((b"%s%06d" % (name, n)).ljust(size, b"."))
    threads = [threading.Thread(target=send, args=(name,)) for name in (b"a", b"b")]
    for thread in threads:
        thread.start()
    stream = b""
    while len(stream) < 2 * count * size:
        stream += s.recv(1 << 16)
    for thread in threads:
        thread.join()
    say(order=[stream[n:n + 7].decode() for n in range(0, len(stream), size)], size=size)
    c.close(); s.close()


def older():
    """A connection that was used before."""
    c, s = pair()
    c.send(b"o" * 777); s.recv_into(bytearray(777), 777, socket.MSG_WAITALL)
    c.send(b"half read"); s.recv(4)
    say(ready=True); go()
    s.recv(100); s.send(b"answer"); c.recv(100)
    c.send(b"question"); s.recv(100)
    c.close(); s.close()


def urgent():
    c, s = pair()
    c.send(b"before"); s.recv(100)
    c.send(b"!", socket.MSG_OOB)
    import time
    time.sleep(0.05)
    assert s.recv(1, socket.MSG_OOB) == b"!"
    c.send(b"behind"); s.recv(100)
    c.close(); s.close()


def bpf(command, layout, *values):
    attributes = ctypes.create_string_buffer(struct.pack(layout, *values).ljust(128, b"\0"), 128)
    result = libc.syscall(321, command, attributes, 128)
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result


def sockmap():
    """A program puts eight bytes before everything that the client sends: the kernel's numbers count them, too."""
    c, s = pair()
    instruction = lambda code, register=0, value=0: struct.pack("BBhi", code, register, 0, value)
    code = ctypes.create_string_buffer(b"".join([
        instruction(0xb7, 2, 0), instruction(0xb7, 3, 8), instruction(0xb7, 4, 0), instruction(0x85, 0, 90),
        instruction(0xb7, 0, 1), instruction(0x95)]))
    license = ctypes.create_string_buffer(b"GPL")
    program = bpf(5, "IIQQ", 16, 6, ctypes.addressof(code), ctypes.addressof(license))
    table = bpf(0, "IIII", 15, 4, 4, 1)
    bpf(8, "III", table, program, 7)
    key, value = ctypes.c_uint(0), ctypes.c_uint(c.fileno())
    bpf(2, "I4xQQQ", table, ctypes.addressof(key), ctypes.addressof(value), 0)
    for text in (b"first", b"second"):
        c.send(text)
        got = 0
        while got < len(text) + 8:
            got += len(s.recv(100))
    c.close(); s.close()


globals()[sys.argv[1]]()
