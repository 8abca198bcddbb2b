"""Every option that is live: it is changed by a reload, and its effect is looked for (issue 8, point 20).

The manual says which options are live; each needs a row here. A row is what is seen before and after the change. Where an
effect takes long or needs a peer of its own, other tests show it, and the row sees that the option is in force in the
running process (`in_force`): what it was set to reaches the code through the snapshot that each exchange begins with.
Options that are copied when something is opened (a listener, a pool, a connection's limits) are looked at by what they do."""

import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess

import pytest
from harness import Client, Gate, Reply, call, eventually, free_port, handoff
from harness.h2client import H2Client

MANUAL = pathlib.Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
SLOW_PING = "1h"


def live_options():
    """(section, option) of the manual's tables."""
    section, found = None, set()
    for line in MANUAL.read_text().splitlines():
        if line.startswith("### "):
            section = line.split()[1] if not line.startswith("### Outside") else "top"
        row = re.match(r"\| `([a-z0-9_]+)` \|", line)
        if row and "A change takes effect when Tarry is started again" not in line:
            found.add((section, row[1]))
    return found


class Site:
    """Two pools, an upstream, a gateway route, a TLS listener and a control socket."""

    def __init__(self, bed):
        self.bed, self.gate = bed, Gate()
        self.upstream = bed.upstream(self.serve)
        self.worker = bed.worker(self.work)
        self.other = bed.worker(lambda r, c: Reply(200, b"other"))
        self.conf = conf = bed.conf(self.worker, self.upstream)
        self.control = bed.folder / "control"
        self.admin = f"127.0.0.1:{free_port()}"
        conf.admins = {f"unix:{self.control}": {"control": True}, self.admin: {}}
        cert, key = bed.authority.leaf("one", names=("DNS:one.example",))
        self.tls = f"127.0.0.1:{free_port()}"
        conf.listens[self.tls] = {"certificate": str(cert), "private_key": str(key)}
        conf.identities = {"two": dict(zip(("certificate", "private_key"), map(str, bed.authority.leaf("two", names=("DNS:two.example",)))))}
        conf.pools["other"] = ({}, {self.other.address: {"slots": 1}})
        conf.upstreams["twin"] = {"origin": self.upstream.origin.replace("127.0.0.1", "localhost")}
        conf.routes += [("/gw/", {"upstream": "up"}), ("/other/", {"workers": "other"})]
        conf.top["http2_ping_interval"] = SLOW_PING
        self.tarry = None

    def serve(self, r, c):
        if "slow" in r.target:
            self.gate.wait()
        if "status" in r.target:
            return Reply(int(r.target.rpartition("/")[2]), b"failed")
        return Reply(200, b"x" * 3000, {"X-Extra": "1"})

    def work(self, r, c):
        if r.target.startswith("/slow"):
            self.gate.wait()
        if r.target.startswith("/interim"):
            c.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        if r.target.startswith("/handoff"):
            n = int(r.target.rpartition("/")[2])
            return handoff("relay", [call(self.upstream.origin, b"b" * 100)]) if n == 1 else handoff("resume /done", [call(self.upstream.origin)] * n, state="s" * 100)
        if r.target.startswith("/replay"):
            return handoff("replay", [call(self.upstream.origin)]) if r.kind == "request" else Reply(200, b"replayed")
        if r.target.startswith("/park"):
            return handoff("relay", [call(self.upstream.origin + "/slow")])
        return Reply(200, b"text " * 1000, {"Content-Type": "text/plain"})

    def start(self, section, option, value):
        self.set(section, option, value)
        self.tarry = self.bed.tarry(self.conf, env={"LIVE_KEY": "from the process"})

    def options(self, section):
        conf = self.conf
        return {"top": conf.top, "listen": conf.listens[conf.address], "workers": conf.pool, "upstream": conf.up, "log": conf.log,
                "access_log": conf.access_log, "admin": conf.admins[self.admin], "server": conf.servers[self.worker.address],
                "route": conf.routes[0][1], "compression": conf.sections.setdefault("compression", {"types": ["text/*"]}),
                "identity": conf.identities["two"]}[section]

    def set(self, section, option, value):
        if value is None:
            self.options(section).pop(option, None)
        elif section == "endpoint":
            self.conf.up.pop("origin", None)
            self.inner("up", f'endpoint "e" {{ origin = "{self.upstream.origin}"  {option} = {as_text(value)} }}')
        elif section == "limit":
            more = "  in_flight = 3" if option in ("key", "window") else ""
            self.inner("up", f"limit {{ {option} = {as_text(value)}{more} }}")
        else:
            self.options(section)[option] = value

    def inner(self, upstream, text):
        """A section inside an upstream: harness.Conf knows none."""
        whole = self.conf.text
        self.conf.text = lambda: re.sub(rf'(upstream "{upstream}" {{\n)', lambda m: m[1] + "    " + text + "\n", whole())

    def get(self, target="/", **more):
        return self.tarry.get(target, **more)

    def shown(self):
        return subprocess.run([str(pathlib.Path(os.environ.get("TARRYCTL") or find_tarryctl())), "-s", str(self.control), "show", "conf"],
                              capture_output=True, text=True, check=True).stdout


def find_tarryctl():
    from harness.tarry import find_binary
    return pathlib.Path(find_binary()).parent / "tarryctl"


def as_text(value):
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else \
        "{ " + ", ".join(map(as_text, value)) + " }" if isinstance(value, (list, tuple)) else f'"{value}"'


# --- what is seen ---

def in_force(site, option, value):
    """Whether the running process has the option set so."""
    return any(re.match(rf"\s*{option} = ", line) and same(line.split(" = ", 1)[1], value) for line in site.shown().splitlines())


def same(text, value):
    return text.replace('"', "") == as_text(value).replace('"', "")


def status(target="/", method="GET", **request):
    return lambda site: site.tarry.request(method, target, **request).status


def raw_status(data):
    def see(site):
        with site.tarry.client() as c:
            c.send(data)
            return c.read_response().status
    return see


def cut_after(data, tls=False, where=None):
    """Whether a client that sends this and then nothing is answered or cut before a gate of half a second: "cut" or "kept"."""
    def see(site):
        with Client(where(site) if where else site.tls if tls else site.tarry.address) as c:
            c.send(data)
            c.sock.settimeout(0.6)
            try:
                while c.sock.recv(65536):
                    pass
                return "cut"
            except (socket.timeout, TimeoutError):
                return "kept"
            except OSError:
                return "cut"
    return see


def header(name, target="/", request=(), **more):
    return lambda site: site.get(target, headers=request, **more).headers.get(name)


def worker_sees(name, request=()):
    def see(site):
        site.get("/", headers=request)
        return site.worker.requests[-1].headers.get(name)
    return see


def upstream_sees(name):
    def see(site):
        site.get("/gw/x")
        return site.upstream.requests[-1].headers.get(name)
    return see


def metric(name):
    return lambda site: next((float(line.rpartition(" ")[2]) for line in client_text(site, "/metrics").splitlines() if line.startswith(name)), None)


def client_text(site, page):
    with Client(f"unix:{site.control}") as c:
        return c.request("GET", page).text


def certificate(name):
    def see(site):
        context = ssl.create_default_context(cafile=str(site.bed.authority.ca))
        context.check_hostname = False
        with socket.create_connection(("127.0.0.1", int(site.tls.rpartition(":")[2]))) as s, context.wrap_socket(s, server_hostname=name) as t:
            return [n for kind, n in t.getpeercert()["subjectAltName"]][0]
    return see


def tls_works(version=None):
    def see(site):
        context = site.bed.authority.client_context()
        context.check_hostname = False
        if version:
            context.maximum_version = version
        try:
            with socket.create_connection(("127.0.0.1", int(site.tls.rpartition(":")[2]))) as s, context.wrap_socket(s, server_hostname="one.example") as t:
                t.sendall(b"GET / HTTP/1.1\r\nHost: one.example\r\nConnection: close\r\n\r\n")
                return t.recv(12)
        except (ssl.SSLError, OSError):
            return None
    return see


def second_connection(site):
    """Whether a second connection beside an idle one is served."""
    with site.tarry.client() as first:
        assert first.request().status == 200
        try:
            return site.get("/").status
        except (OSError, AssertionError):
            return None


def new_connection(site):
    """Whether a second connection is served beside one without a request."""
    with socket.create_connection(("127.0.0.1", site.tarry.port)):
        try:
            return site.get("/").status
        except (OSError, AssertionError):
            return None


def kept_alive(where=lambda site: site.tarry.address, page="/"):
    def see(site):
        with Client(where(site)) as c:
            assert c.request("GET", page).status == 200
            c.sock.settimeout(0.6)
            try:
                return c.sock.recv(1) == b""
            except (socket.timeout, TimeoutError):
                return False
    return see


def backlog(site):
    text = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout
    return next(int(line.split()[2]) for line in text.splitlines() if f":{site.tarry.port} " in line)


def debug_lines(site):
    since = len(site.tarry.lines)
    site.get("/")
    site.tarry.signal(signal.SIGUSR1)
    site.tarry.wait_log("logs reopened", since=since) if site.conf.log["level"] not in ("error", "warn") else site.get("/")
    return any("debug" in line for line in site.tarry.lines[since:])


def log_file(name):
    return lambda site: site.get("/").status == 200 and (site.bed.folder / name).exists()


def access_line(site):
    target = f"/seen/{len(site.worker.requests)}/"
    site.get(target)
    path = pathlib.Path(site.conf.access_log["target"])
    return eventually(lambda: path.exists() and [line for line in path.read_text().splitlines() if target in line], "a line")[-1][:5]


def h2_settings(name):
    def see(site):
        with H2Client(site.tarry.address) as c:
            c.request()
            return c.settings.get(name)
    return see


def tarry_ends(seconds_kept):
    """SIGTERM with a parked call: "ended" or "kept" half a second later."""
    def see(site):
        with site.tarry.client() as c:
            c.send_request("GET", "/park")
            site.upstream.wait_for(1)
            site.tarry.signal(signal.SIGTERM)
            try:
                site.tarry.process.wait(1.5)
                return "ended"
            except subprocess.TimeoutExpired:
                return "kept"
    return see


POST20 = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n" + b"b" * 20
HALF = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\nhalf"
CHUNKS = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;%s\r\nx\r\n" % (b"e" * 100) + b"0\r\n\r\n"
MANY = {f"X-{i}": "1" for i in range(20)}
LONG = {"X-Long": "l" * 1000}
UNDERSCORE = b"GET / HTTP/1.1\r\nHost: a\r\nX_Y: 1\r\n\r\n"
GZIP = {"Accept-Encoding": "gzip, zstd"}
FROM = {"X-Forwarded-For": "192.0.2.7"}

# (section, option): (before, after, see, seen before, seen after); before None: left out.
SEEN = {
    ("top", "address_connections_max"): (None, 1, second_connection, 200, None, {"address_limit_loopback": True}),
    ("top", "address_limit_loopback"): (False, True, second_connection, 200, None, {"address_connections_max": 1}),
    ("top", "address_newcomers_max"): (None, 1, new_connection, 200, None, {"address_limit_loopback": True}),
    ("top", "admin_keep_alive_timeout"): ("1h", "50ms", kept_alive(lambda site: site.admin, "/livez"), False, True),
    ("top", "admin_timeout"): ("1h", "50ms", cut_after(b"GET /liv", where=lambda site: site.admin), "kept", "cut"),
    ("top", "body_max"): (None, "10", raw_status(POST20), 200, 413),
    ("top", "body_timeout"): ("1h", "50ms", cut_after(HALF), "kept", "cut"),
    ("top", "chunk_line_max"): (None, "64", raw_status(CHUNKS), 200, 400),
    ("top", "chunk_overhead_max"): (None, "64", raw_status(CHUNKS), 200, 400),
    ("top", "connection_requests_max"): (None, 1, header("Connection"), None, "close"),
    ("top", "forwarded_headers"): ("replace", "pass", worker_sees("X-Forwarded-For", FROM), "127.0.0.1", "192.0.2.7"),
    ("top", "handshake_timeout"): ("1h", "50ms", cut_after(b"", tls=True), "kept", "cut"),
    ("top", "header_fields_max"): (None, 8, status(headers=MANY), 200, 431),
    ("top", "header_max"): (None, "256", status(headers=LONG), 200, 431),
    ("top", "header_timeout"): ("1h", "50ms", cut_after(b"GET / HT"), "kept", "cut"),
    ("top", "http2_max_streams"): (None, 7, h2_settings(3), 100, 7),
    ("top", "http2_stream_window"): (None, "128K", h2_settings(4), 65536, 131072),
    ("top", "interim_max"): (None, 0, status("/interim"), 200, 502),
    ("top", "keep_alive_timeout"): ("1h", "50ms", kept_alive(), False, True),
    ("top", "max_connections"): (None, 9, metric("tarry_client_connections_max"), None, 9.0),
    ("top", "shutdown_timeout"): ("1h", "50ms", tarry_ends(1), "kept", "ended"),
    ("top", "target_max"): (None, "64", status("/" + "t" * 100), 200, 414),
    ("top", "trusted_proxies"): (None, ["127.0.0.0/8"], worker_sees("X-Forwarded-For", FROM), "127.0.0.1", "192.0.2.7, 127.0.0.1"),
    ("top", "underscore_headers"): ("drop", "refuse", raw_status(UNDERSCORE), 200, 400),
    ("listen", "backlog"): (100, 7, backlog, 100, 7),
    ("listen", "http2"): (True, False, cut_after(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"), "kept", "cut"),
    ("listen", "proxy_protocol"): (False, True, cut_after(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "kept", "cut",
                                  {"trusted_proxies": ["192.0.2.0/24"]}),
    ("workers", "call_max"): (None, "50", status("/handoff/1"), 200, 502),
    ("workers", "handoff_max"): (None, "50", status("/handoff/1"), 200, 502),
    ("workers", "max_calls"): (None, 2, status("/handoff/3"), 200, 502),
    ("workers", "max_hops"): (None, 1, status("/handoff/2"), 200, 508),
    ("workers", "secret_file"): (None, "SECRET", worker_sees("Tarry-Auth"), None, "a-secret"),
    ("workers", "state_max"): (None, "50", status("/handoff/2"), 200, 502),
    ("server", "slots"): (4, 9, metric('tarry_pool_slots{pool="app",which="all"}'), 4.0, 9.0),
    ("upstream", "relay_headers"): (None, ["x-extra"], header("X-Extra", "/handoff/1"), None, "1"),
    ("upstream", "set_header"): (None, ["X-Key: new"], upstream_sees("X-Key"), None, "new"),
    ("route", "host"): (None, "named.example", status(), 200, 404),
    ("route", "internal"): (False, True, status(), 200, 404),
    ("route", "workers"): ("app", "other", lambda site: site.get("/").body[:5], b"text ", b"other"),
    ("route", "compress"): (True, False, header("Content-Encoding", request=GZIP), "zstd", None),
    ("compression", "encodings"): (None, ["gzip"], header("Content-Encoding", request=GZIP), "zstd", "gzip"),
    ("compression", "min_size"): (None, "1M", header("Content-Encoding", request=GZIP), "zstd", None),
    ("compression", "memory_max"): (None, "0", header("Content-Encoding", request=GZIP), "zstd", None),
    ("compression", "types"): (["text/*"], ["image/png"], header("Content-Encoding", request=GZIP), "zstd", None),
    ("log", "level"): ("debug", "info", debug_lines, True, False),
    ("log", "target"): ("stderr", "FOLDER/new.log", log_file("new.log"), False, True),
    ("access_log", "format"): ("json", "logfmt", access_line, '{"tim', "time="),
    ("access_log", "target"): (None, "FOLDER/new-access.log", log_file("new-access.log"), False, True),
    ("admin", "hosts"): (None, ["tarry.example"], lambda site: Client(site.admin).request("GET", "/livez", host="tarry.example").status, 403, 200),
}

# What other tests show; here that the running process has it.
IN_FORCE = {
    "top": {
        "admin_connections_max": 17, "dns_stale_max": "17m", "body_memory_max": "8K", "body_rate_min": "17", "drain_delay": "17ms", "http2_connection_window": "192K",
        "http2_controls_max": 17, "http2_early_answer_wait": "17ms", "http2_empty_frames_max": 17, "http2_glitches_max": 17,
        "http2_goaway_wait": "17ms", "http2_header_excess": 17, "http2_limits_window": "17s", "http2_ping_interval": "17s",
        "http2_ping_timeout": "17s", "http2_queue_max": 117, "http2_resets_max": 17, "http2_stalled_max": 17, "http2_stalled_timeout": "17s",
        "http2_tiny_window": "117", "http2_tiny_windows_max": 17, "http2_unread_timeout": "17s", "http2_window_updates_max": 17,
        "key_updates_max": 17, "linger_timeout": "17ms", "output_max": "17K", "http2_read_ahead_max": "17M", "rate_window": "17s", "restart_max_pause": "17s", "upgrade_timeout": "17s",
        "send_rate_min": "17", "send_timeout": "17s", "temp_dir": "FOLDER", "ticket_key_file": "TICKETS", "env_file": "ENV",
        "websocket_drain": "close"},
    "listen": {"proxy_protocol_timeout": "17ms"},
    "workers": {
        "abandoned_timeout": "17s", "connect_timeout": "17s", "exchange_max": "17m", "keep_alive_interval": "17s", "keep_alive_timeout": "17s",
        "notify_attempts": 17, "notify_first_pause": "17ms", "notify_max_pause": "17m", "piece_interval": "17ms", "piece_window": "17K",
        "queue_address_share": 17, "queue_max": 17, "queue_timeout": "17s", "replay_body_max": "17K", "required_for_ready": True,
        "response_timeout": "17s", "resume_attempts": 17, "resume_wait": "17s", "retry_idempotent": True, "spool_max": "17M", "sticky_max": "17s",
        "tunnel_idle_timeout": "17m", "unreachable_first_pause": "17ms", "unreachable_max_pause": "17s", "unreachable_wait": "17s",
        "wait_max": "17s"},
    "server": {},
    "upstream": {
        "affinity": "header:x-tenant", "api": "openai", "breaker_failures": 17, "breaker_pause": "17s", "breaker_rate": 17, "breaker_window": "17s", "connect_timeout": "17s",
        "connection_max_age": "17m", "content_idle_timeout": "17s", "fallback_on": ["context_length"], "first_byte_timeout": "17s",
        "first_content_timeout": "17s", "hold_max": "17K", "stateful": False, "hold_timeout": "17s", "http2": False, "idle_timeout": "17s", "include_usage": True, "out_pause": "17s", "retry_unstarted_within": "17ms",
        "insecure": True, "keep_alive_timeout": "17s", "max_connections": 17, "ping_interval": "17s", "ping_timeout": "17s",
        "response_max": "17K", "rest_max": "17m", "retries": 7, "retry_after_max": "17s", "retry_budget": 17, "retry_budget_min": 17, "retry_budget_window": "17s", "retry_first_pause": "17ms", "retry_max_pause": "17s",
        "retry_on": [417], "retry_unsure_within": "17ms", "stream_timeout": "17m", "streams_per_connection": 17, "streams_recovery_interval": "17m", "total_timeout": "17m",
        "tunnel_idle_timeout": "17m", "tunnel_timeout": "17h", "usage": True, "websockets_max": 17, "queue_max": 17, "queue_tenant_max": 17,
        "queue_tenants_max": 17, "queue_timeout": "17s", "rate_limit_headers": False, "tenant": "header:x-tenant", "tenant_weights": ["acme: 17"]},
    "endpoint": {"http2": False, "insecure": True, "model": "m-17", "path_prefix": "/v17", "tier": 2, "weight": 17, "in_flight": 17,
                 "requests_per_minute": 17, "tokens_per_minute": 17},
    "limit": {"in_flight": 17, "key": "header:x-tenant", "requests_per_minute": 17, "tokens_per_minute": 17, "window": "17s"},
    "route": {"body_max": "17M", "websocket": True},
    "compression": {"brotli_level": 3, "gzip_level": 3, "window": "16K", "zstd_level": 4},
    "log": {"buffer_max": "117K"},
    "access_log": {"buffer_max": "117K"},
    "admin": {},
}

# Rows whose change is more than one option's.
OF_THEIR_OWN = {("listen", n) for n in ("certificate", "private_key", "client_certificate", "client_ca_file", "client_chain_max", "misdirected",
                                        "ocsp_staple", "tls_min_version")} | \
    {("identity", n) for n in ("certificate", "private_key", "ocsp_staple")} | {("upstream", n) for n in ("origin", "ca_file", "home", "probe_after", "probe_timeout")} | \
    {(s, n) for s in ("upstream", "endpoint") for n in ("certificate", "private_key", "proxy", "proxy_authorization")} | \
    {("endpoint", n) for n in ("origin", "ca_file", "set_header")} | {("server", n) for n in ("count", "first")} | {("admin", "control")} | \
    {("route", n) for n in ("upstream", "health", "keep_alive_interval", "prefix_rewrite", "rewrite_urls", "websocket_origins")} | \
    {("tracing", n) for n in ("batch_max", "buffer_max", "finish_timeout", "flush_interval", "one_in", "path", "service", "upstream")}


def all_rows():
    return set(SEEN) | {(s, o) for s, rows in IN_FORCE.items() for o in rows} | OF_THEIR_OWN


def test_every_live_option_has_a_row():
    assert live_options() - all_rows() == set(), "live options without a row here"
    assert all_rows() - live_options() == set(), "rows of options that are gone, or not live"


@pytest.fixture
def site(bed):
    return Site(bed)


def real(site, value):
    """Names of files become files."""
    if not isinstance(value, str):
        return value
    folder = site.bed.folder
    if value in ("SECRET", "TICKETS", "ENV"):
        text = {"SECRET": "a-secret\n", "TICKETS": "t" * 64 + "\n", "ENV": "LIVE_KEY=from-the-file\n"}[value]
        path = folder / f"live-{value}"
        path.write_text(text)
        path.chmod(0o600)
        return str(path)
    if value == "FOLDER":
        (folder / "another").mkdir()
        return str(folder / "another")
    return value.replace("FOLDER", str(folder))


def reload(site):
    """Whatever the log's target and level are."""
    before = metric("tarry_reloads_total")(site), metric("tarry_reloads_failed_total")(site)
    site.tarry.write(site.conf)
    site.tarry.signal(signal.SIGHUP)
    eventually(lambda: (metric("tarry_reloads_total")(site), metric("tarry_reloads_failed_total")(site)) != before, "the reload")
    assert metric("tarry_reloads_failed_total")(site) == before[1], site.tarry.stderr[-1000:]


def stop(site):
    site.gate.open()
    if not site.tarry.alive:
        site.tarry.process = None
        return
    site.tarry.kill()
    site.tarry.process = None


@pytest.mark.parametrize("section, option", sorted(SEEN), ids=lambda v: v)
def test_its_effect_is_seen(site, section, option):
    before, after, see, seen_before, seen_after, *more = SEEN[section, option]
    for name, value in (more[0] if more else {}).items():
        site.set("top", name, value)
    if section in ("compression", "route"):
        site.options("compression")
    site.start(section, option, real(site, before))
    if option != "shutdown_timeout":
        got = see(site)
        assert got == seen_before or seen_before is None and got != seen_after, got
    site.set(section, option, real(site, after))
    reload(site)
    got = see(site)
    assert got == seen_after, got
    stop(site)


@pytest.mark.parametrize("section, option", sorted((s, o) for s, rows in IN_FORCE.items() for o in rows), ids=lambda v: v)
def test_it_is_in_force(site, section, option):
    value = real(site, IN_FORCE[section][option])
    if option == "proxy_protocol_timeout":
        site.conf.top["trusted_proxies"] = ["192.0.2.0/24"]
        site.set("listen", "proxy_protocol", True)
    site.start("top", "linger_timeout", "2s")
    assert not in_force(site, option, value)
    if section == "route":
        site.conf.routes[0][1][option] = value
    else:
        site.set(section, option, value)
    reload(site)
    assert in_force(site, option, value), [line for line in site.shown().splitlines() if option in line]
    stop(site)


# --- of their own ---

def test_certificates_are_changed(site):
    """certificate and private_key of listen and identity."""
    site.start("top", "linger_timeout", "2s")
    assert (certificate("one.example")(site), certificate("two.example")(site)) == ("one.example", "two.example")
    for options, name in ((site.conf.listens[site.tls], "one"), (site.conf.identities["two"], "two")):
        options["certificate"], options["private_key"] = map(str, site.bed.authority.leaf(f"new-{name}", names=(f"DNS:new-{name}.example", f"DNS:{name}.example")))
    reload(site)
    assert (certificate("one.example")(site), certificate("two.example")(site)) == ("new-one.example", "new-two.example")
    stop(site)


def staple(site, name):
    done = subprocess.run(["openssl", "s_client", "-connect", site.tls, "-servername", name, "-status"], input="", capture_output=True, text=True)
    return "OCSP Response Status: successful" in done.stdout


def test_staples_are_changed(site):
    """ocsp_staple of listen and identity."""
    site.start("top", "linger_timeout", "2s")
    assert not staple(site, "one.example") and not staple(site, "two.example")
    for options, name in ((site.conf.listens[site.tls], "one"), (site.conf.identities["two"], "two")):
        options["ocsp_staple"] = str(site.bed.authority.ocsp(options["certificate"], name=f"staple-{name}"))
    reload(site)
    assert staple(site, "one.example") and staple(site, "two.example")
    stop(site)


def test_the_version_of_tls_is_changed(site):
    site.start("top", "linger_timeout", "2s")
    old = tls_works(ssl.TLSVersion.TLSv1_2)
    assert old(site)
    site.conf.listens[site.tls]["tls_min_version"] = "1.3"
    reload(site)
    assert not old(site) and tls_works()(site)
    stop(site)


def test_client_certificates_are_asked_for(site):
    """client_certificate and client_ca_file; client_chain_max is in force."""
    site.start("top", "linger_timeout", "2s")
    assert tls_works()(site)
    site.conf.listens[site.tls].update(client_certificate="required", client_ca_file=str(site.bed.authority.ca), client_chain_max=3)
    reload(site)
    assert not tls_works()(site)
    assert in_force(site, "client_chain_max", 3)
    stop(site)


def test_misdirected_requests_are_served(site):
    site.start("top", "linger_timeout", "2s")

    def ask():
        with Client(site.tls, tls=site.bed.authority.client_context(), server_name="one.example") as c:
            return c.request(host="elsewhere.example").status
    assert ask() == 421
    site.conf.listens[site.tls]["misdirected"] = "serve"
    reload(site)
    assert ask() == 200
    stop(site)


def test_origins_are_changed(site):
    """origin of upstream and of endpoint, and ca_file; route's upstream."""
    second = site.bed.upstream(lambda r, c: Reply(200, b"second"))
    site.start("top", "linger_timeout", "2s")
    assert site.get("/gw/").body.startswith(b"xxx")
    site.conf.routes[1][1]["upstream"] = "twin"
    site.conf.upstreams["twin"]["origin"] = second.origin
    reload(site)
    assert site.get("/gw/").body == b"second"
    site.conf.routes[1][1]["upstream"] = "up"
    site.set("endpoint", "set_header", ["X-Key: endpoint"])
    reload(site)
    assert upstream_sees("X-Key")(site) == "endpoint"
    stop(site)


def test_authorities_are_changed(site):
    """ca_file of upstream and of endpoint."""
    tls = site.bed.tls_upstream(lambda r, c: Reply(200, b"over tls"))
    site.conf.upstreams["up"] = {"origin": tls.origin}
    site.start("top", "linger_timeout", "2s")
    assert site.get("/gw/").status == 502
    site.conf.up["ca_file"] = str(site.bed.authority.ca)
    reload(site)
    assert site.get("/gw/").body == b"over tls"
    site.conf.upstreams["up"] = {}
    site.inner("up", f'endpoint "e" {{ origin = "{tls.origin}" }}')
    reload(site)
    assert site.get("/gw/").status == 502
    site.inner("up", f'endpoint "f" {{ origin = "{tls.origin}"  ca_file = "{site.bed.authority.ca}"  weight = 100 }}')
    site.conf.text = lambda text=site.conf.text: re.sub(r'    endpoint "e" .*\n', "", text())
    reload(site)
    assert site.get("/gw/").body == b"over tls"
    stop(site)


def test_servers_by_number_come(site):
    """count and first of server."""
    workers = [site.bed.worker(address=f"unix:{site.bed.folder}/w{i}.sock") for i in (3, 4)]
    site.start("top", "linger_timeout", "2s")
    site.conf.servers = {f"unix:{site.bed.folder}/w%d.sock": {"slots": 1, "first": 3, "count": 2}}
    reload(site)
    for _ in range(8):
        assert site.get("/").status == 200
    assert all(w.requests for w in workers)
    stop(site)


def test_the_control_socket_is_opened_and_closed(site):
    site.start("top", "linger_timeout", "2s")

    def ask():
        with Client(f"unix:{site.control}") as c:
            return c.request("GET", "/process").status
    assert ask() == 200
    site.conf.admins[f"unix:{site.control}"]["control"] = False
    reload(site)
    assert ask() == 404
    stop(site)


def test_probes_are_in_force(site):
    """probe_after and probe_timeout."""
    site.start("top", "linger_timeout", "2s")
    site.conf.up.update(probe_after="17s", probe_timeout="17ms")
    reload(site)
    assert in_force(site, "probe_after", "17s") and in_force(site, "probe_timeout", "17ms")
    stop(site)
