"""The admin listeners: who may ask, whole pages, readiness, and metrics of all processes (issue 8, points 21 and 22)."""

import grp
import os
import re
import resource
import signal
import stat

import pytest
from harness import Client, Gate, Reply, call, eventually, free_port, handoff
from harness.tarry import run_command


def admin_of(bed, conf=None, **options):
    conf = conf or bed.conf(bed.worker())
    conf.admins = {f"127.0.0.1:{free_port()}": options}
    return bed.tarry(conf), next(iter(conf.admins))


def ask(address, page, method="GET", headers=(), **more):
    with Client(address) as c:
        return c.request(method, page, headers, **more)


@pytest.mark.parametrize("host, status", [
    ("127.0.0.1:9180", 200), ("[::1]", 200), ("localhost:9180", 200), ("tarry", 200), ("tarry.monitoring.svc", 200),
    ("Tarry.Example.COM:9180", 200), ("tarry.internal", 200),
    ("attacker.example", 403), ("attacker.example:9180", 403), ("127.0.0.1.attacker.example", 403), ("tarry.example.com.evil", 403),
    ("1.2.3.4.example", 403), ("internal.example", 403)])
def test_a_strange_host_is_refused(bed, host, status):
    _, address = admin_of(bed, hosts=["tarry.example.com"])
    for method in ("GET", "POST", "DELETE"):
        for page in ("/metrics", "/status", "/readyz", "/nothing"):
            got = ask(address, page, method, host=host).status
            assert got == (403 if status == 403 else 405 if method != "GET" else 404 if page == "/nothing" else 200), (method, page)


def test_over_a_unix_socket_the_host_does_not_matter(bed):
    conf = bed.conf(bed.worker())
    conf.admins = {f"unix:{bed.folder}/admin": {}}
    bed.tarry(conf)
    assert ask(next(iter(conf.admins)), "/status", host="attacker.example").status == 200


@pytest.mark.parametrize("output_max", ["4K", "64K"])
def test_a_page_larger_than_output_max_is_whole(bed, output_max):
    conf = bed.conf(bed.worker())
    conf.top["output_max"] = output_max
    for i in range(600):
        conf.upstreams[f"an-upstream-with-a-long-name-{i:04}"] = {"origin": f"http://127.0.0.1:{1000 + i}"}
    tarry, address = admin_of(bed, conf)
    for page, last in (("/status", '"landlock":'), ("/metrics", "tarry_certificate_expiry")):
        for _ in range(2):
            got = ask(address, page)
            assert got.status == 200 and len(got.body) == int(got.headers.get("Content-Length")) > 40000
            assert last in got.text[-400:]
    head = ask(address, "/metrics", "HEAD")
    assert head.status == 200 and head.body == b"" and int(head.headers.get("Content-Length")) > 40000
    # A client that reads slowly does not hold the page up for others.
    with Client(address) as slow:
        slow.send_request("GET", "/metrics")
        assert ask(address, "/status").status == 200
        assert slow.read_response().status == 200


def test_metrics_as_openmetrics(bed):
    tarry, address = admin_of(bed)
    tarry.get("/")
    plain = ask(address, "/metrics")
    assert plain.headers.get("Content-Type").startswith("text/plain; version=0.0.4") and "# EOF" not in plain.text
    got = ask(address, "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"})
    assert got.headers.get("Content-Type").startswith("application/openmetrics-text; version=1.0.0")
    assert got.text.endswith("# EOF\n") and "# TYPE tarry_requests counter\n" in got.text and "\ntarry_requests_total 1\n" in got.text


def test_the_page_names_the_build(bed):
    conf = bed.conf(bed.worker())
    conf.admins = {f"unix:{bed.folder}/admin": {}}
    tarry = bed.tarry(conf)
    version = run_command("-V")[1].split()[1]
    assert tarry.metric_lines("tarry_build_info") and f'version="{version}"' in tarry.metric_lines("tarry_build_info")[0]


# --- livez, readyz ---

def test_readiness_while_it_drains(bed):
    """readyz is 503 at once, while listeners stay open for drain_delay; livez stays good."""
    conf = bed.conf(bed.worker())
    conf.top.update(drain_delay="1h", shutdown_timeout="60s")
    tarry, address = admin_of(bed, conf)
    for page in ("/livez", "/readyz", "/healthz"):
        assert ask(address, page).status == 200
    tarry.signal(signal.SIGTERM)
    eventually(lambda: ask(address, "/readyz").status == 503, "readyz to say so")
    assert ask(address, "/livez").status == 200 and ask(address, "/readyz").body == b"stopping\n"
    assert tarry.get("/").status == 200
    tarry.kill()
    tarry.process = None


def test_after_drain_delay_it_ends(bed):
    conf = bed.conf(bed.worker())
    conf.top["drain_delay"] = "50ms"
    tarry, address = admin_of(bed, conf)
    tarry.signal(signal.SIGTERM)
    tarry.wait_end(0)


@pytest.mark.parametrize("required", [True, False])
def test_readiness_without_a_worker(bed, required):
    conf = bed.conf()
    conf.servers = {f"127.0.0.1:{free_port()}": {"slots": 1}}
    conf.routes = [("/", {"workers": "app"})]
    conf.pool.update(required_for_ready=required, queue_timeout="100ms", unreachable_first_pause="1h", unreachable_max_pause="1h")
    tarry, address = admin_of(bed, conf)
    assert ask(address, "/readyz").status == 200
    assert tarry.get("/").status >= 500
    got = ask(address, "/readyz")
    assert got.status == (503 if required else 200)
    assert not required or got.body == b'no server of the pool "app" can be reached\n'


# --- unix sockets ---

def access_of(path):
    st = os.stat(path)
    return stat.S_IMODE(st.st_mode), st.st_gid


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("umask", [0o022, 0o077, 0])
def test_a_unix_socket_has_the_mode_of_the_conf(bed, processes, umask):
    conf = bed.conf(bed.worker())
    conf.top["processes"] = processes
    paths = {mode: bed.folder / f"l{mode or ''}.sock" for mode in (None, "0666", "0600")}
    for mode, path in paths.items():
        conf.listens[f"unix:{path}"] = {"mode": mode} if mode else {}
    conf.admins = {f"unix:{bed.folder}/admin": {"mode": "0640"}}
    bed.tarry(conf, preexec=lambda: os.umask(umask))
    assert {mode: access_of(path)[0] for mode, path in paths.items()} == {None: 0o660, "0666": 0o666, "0600": 0o600}
    assert access_of(bed.folder / "admin")[0] == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("processes", [1, 2])
def test_a_unix_socket_has_the_group_of_the_conf(bed, processes):
    group = grp.getgrnam("users")
    conf = bed.conf(bed.worker())
    conf.top["processes"] = processes
    path = bed.folder / "l.sock"
    conf.listens[f"unix:{path}"] = {"group": "users"}
    bed.tarry(conf)
    assert access_of(path) == (0o660, group.gr_gid)


@pytest.mark.parametrize("section, line, message", [
    ("listen", 'mode = "0660"', "mode is for unix sockets; leave it out"),
    ("admin", 'group = "users"', "group is for unix sockets; leave it out"),
    ("admin", 'mode = "0999"', 'mode: write the permissions in octal, as in "0660"'),
    ("listen", 'mode = "rw"', 'mode: write the permissions in octal'),
    ("listen", 'group = "no-such-group-here"', "group: there is no group"),
    ("admin", 'hosts = { "a b" }', "hosts:")])
def test_a_mistake_in_mode_group_or_hosts_is_named(tmp_path, section, line, message):
    path = tmp_path / "tarry.conf"
    path.write_text('workers "app" { server "127.0.0.1:1" { slots = 1 } }\nroute "/" { workers = "app" }\n'
                    + ('listen "127.0.0.1:80" { }\n' if section == "admin" else "") + f'{section} "127.0.0.1:81" {{\n    {line}\n}}\n')
    code, _, err = run_command("-t", "-c", path)
    assert code == 1 and message in err and f"{path}:{5 if section == 'admin' else 4}:" in err, err


# --- several processes ---

def test_one_scrape_is_the_sum_of_all_processes_and_never_runs_backwards(bed):
    gate = Gate()
    upstream = bed.upstream(lambda r, c: (gate.wait(), b"answer")[1])
    worker = bed.worker(lambda r, c: handoff("relay", [call(upstream.origin)]) if r.target == "/park" else Reply(200, b"ok"))
    conf = bed.conf(worker, upstream, slots=20)
    conf.top.update(processes=3, shutdown_timeout="60s")
    conf.admins = {f"unix:{bed.folder}/admin": {}}
    tarry = bed.tarry(conf)
    for i in range(30):
        assert tarry.get(f"/{i}").status == 200
    assert tarry.metric("tarry_requests_total") == 30

    parked = [bed.add(tarry.client()) for _ in range(12)]
    for c in parked:
        c.stop = c.close
        c.send_request("GET", "/park")
    upstream.wait_for(12)
    eventually(lambda: tarry.metric('tarry_exchanges{state="parked"}') == 12, "all to be seen by whichever process is asked")
    assert tarry.metric("tarry_processes") == 3
    seen = tarry.metrics()
    for pid in tarry.children():
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(tarry.children()) == 3 and pid not in tarry.children(), "another process")

        def all_there():
            """None of the counters has gone back meanwhile."""
            nonlocal seen
            now = tarry.metrics()
            assert [n for n in seen if n.partition("{")[0].endswith(("_total", "_bucket", "_count", "_sum")) and now[n] < seen[n]] == []
            seen = now
            return now["tarry_processes"] == 3
        eventually(all_there, "three processes")
    assert tarry.metric("tarry_processes_replaced_total") == 3
    eventually(lambda: tarry.metric('tarry_exchanges{state="parked"}') == 0, "those of the dead to be gone")
    assert tarry.metric("tarry_requests_total") == 42
    gate.open()


def test_levels_of_what_a_reload_takes_away_are_zero(bed):
    conf = bed.conf(bed.worker())
    conf.pools["other"] = ({}, {f"127.0.0.1:{free_port()}": {"slots": 7}})
    conf.admins = {f"unix:{bed.folder}/admin": {}}
    tarry = bed.tarry(conf)
    assert tarry.metric('tarry_pool_slots{pool="other",which="all"}') == 7
    conf.pools.clear()
    tarry.reload(conf)
    assert tarry.metric('tarry_pool_slots{pool="other",which="all"}') == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_unix_socket_that_a_reload_adds_has_its_group(bed):
    """The process is within its sandbox then."""
    group = grp.getgrnam("users")
    conf = bed.conf(bed.worker())
    conf.listens[f"unix:{bed.folder}/first.sock"] = {}
    tarry = bed.tarry(conf)
    path = bed.folder / "second.sock"
    conf.listens[f"unix:{path}"] = {"group": "users", "mode": "0600"}
    tarry.reload(conf)
    assert access_of(path) == (0o600, group.gr_gid)


@pytest.mark.parametrize("landlock", ["auto", "off"])
def test_a_reload_logs_and_admin_have_descriptors_when_all_others_are_taken(bed, landlock):
    """Each client sends a body that goes to a file: two descriptors each (issue 8, point 13)."""
    conf = bed.conf(bed.worker(lambda r, c: Reply(200, b"ok")))
    conf.top.update(body_memory_max="4K", landlock=landlock)
    conf.log["target"] = str(bed.folder / "tarry.log")
    conf.admins = {f"unix:{bed.folder}/admin": {}}
    log = bed.folder / "tarry.log"
    tarry = bed.tarry(conf, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300)))
    clients = []
    for _ in range(300):
        c = bed.add(tarry.client())
        c.stop = c.close
        clients.append(c)
        c.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50000)
    eventually(lambda: tarry.descriptors() >= 290, "all descriptors to be taken")
    for i in range(3):
        assert ask(f"unix:{bed.folder}/admin", "/healthz").status == 200
        conf.pool["queue_max"] = 100 + i
        tarry.write(conf)
        tarry.signal(signal.SIGHUP)
        eventually(lambda: "reloaded" in log.read_text(), "the reload")
        log.rename(bed.folder / f"tarry.log.{i}")
        tarry.signal(signal.SIGUSR1)
        eventually(lambda: log.exists() and "logs reopened" in log.read_text(), "the new log")
    for c in clients:
        c.close()
    eventually(lambda: tarry.get("/").status == 200, "a client to be served")


# --- upstreams ---

@pytest.mark.parametrize("status, outcome", [(200, "2xx"), (429, "429"), (500, "5xx"), (401, "401"), (529, "529"), (404, "4xx")])
def test_an_outage_of_an_upstream_is_seen(bed, status, outcome):
    """It answers each call, with nothing but errors: counters and the log say so (issue 8, point 22)."""
    site = bed.site(lambda r, c: handoff("relay", [call(site.upstream.origin)]), lambda r, c: Reply(status, b"no"), up={"retries": 0}, admin=True)
    for _ in range(5):
        assert site.tarry.get("/").status == status
    seen = site.tarry.metrics()
    assert seen[f'tarry_upstream_calls_total{{upstream="up",outcome="{outcome}"}}'] == 5
    assert [v for n, v in seen.items() if n.startswith("tarry_upstream_attempts_total") and f'outcome="{outcome}"' in n] == [5]
    assert seen['tarry_upstream_call_seconds_count{upstream="up"}'] == 5
    assert seen['tarry_upstream_first_content_seconds_count{upstream="up"}'] == 5
    lines = [line for line in site.tarry.lines if 'upstream "up" failed a call' in line]
    assert len(lines) == (0 if status in (200, 404) else 1), lines
    assert not lines or f"status {status}" in lines[0] and "exchange=" in lines[0]


def test_calls_without_an_answer_are_counted_by_what_failed(bed):
    closed = f"http://127.0.0.1:{free_port()}"
    conf = bed.conf(bed.worker(lambda r, c: handoff("relay", [call(closed)])))
    conf.upstreams["down"] = {"origin": closed, "retries": 1, "retry_first_pause": "1ms"}
    conf.admins = {f"unix:{bed.folder}/admin": {}}
    tarry = bed.tarry(conf)
    assert tarry.get("/").status == 502
    assert tarry.metric('tarry_upstream_calls_total{upstream="down",outcome="connection_refused"}') == 1
    assert sum(v for n, v in tarry.metrics().items() if n.startswith('tarry_upstream_attempts_total{upstream="down"')) == 2
    assert tarry.metric('tarry_refusals_total{reason="connection_refused"}') == 1
    assert tarry.metric('tarry_responses_total{class="5xx"}') == 1
    assert any('upstream "down" failed a call: connection_refused' in line for line in tarry.lines)


def test_a_request_that_the_queue_refuses_is_no_failed_visit(bed):
    gate = Gate()
    site = bed.site(lambda r, c: (gate.wait(), Reply(200, b"ok"))[1], slots=1, pool={"queue_max": 0}, admin=True)
    with site.tarry.client() as c:
        c.send_request("GET", "/")
        site.worker.wait_for(1)
        assert site.tarry.get("/").status == 503
        gate.open()
        assert c.read_response().status == 200
    assert site.tarry.metric('tarry_visit_seconds_count{pool="app"}') == 2
    assert site.tarry.metric("tarry_visits_failed_total") == 0 and site.tarry.metric("tarry_visits_total") == 1
    assert site.tarry.metric('tarry_refusals_total{reason="connection_limit_reached"}') == 1


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_text_of_the_metrics_is_well_formed(bed, openmetrics):
    """As promtool and Prometheus read it: families in one piece, with help and type, no series twice, buckets that add up."""
    site = bed.site(lambda r, c: handoff("relay", [call(site.upstream.origin)]), lambda r, c: Reply(200, b"yes"), admin=True)
    for _ in range(3):
        assert site.tarry.get("/").status == 200
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"} if openmetrics else {}
    lines = ask(next(iter(site.conf.admins)), "/metrics", headers=accept).text.splitlines()
    if openmetrics:
        assert lines.pop() == "# EOF"
    families, series, family = {}, set(), None
    for line in lines:
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in families and re.fullmatch(r"tarry_[a-z0-9_]+", family) and len(line.split()) > 3, line
            continue
        if line.startswith("# TYPE "):
            assert line.split()[2] == family, line
            families[family] = line.split()[3]
            continue
        found = re.fullmatch(r'([a-z0-9_]+)(\{(?:[a-z_]+="(?:[^"\\]|\\.)*",?)+\})? (-?[0-9.]+)', line)
        assert found, line
        name, labels, value = found.groups()
        kind = families[family]
        ends = {"counter": ["_total"] if openmetrics else [""], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[kind]
        assert name in [family + end for end in ends], line
        assert kind != "counter" or name.endswith("_total"), line
        assert (name, labels) not in series and float(value) >= 0, line
        series.add((name, labels))
    text = "\n".join(lines)
    for name in [f for f, kind in families.items() if kind == "histogram"]:
        for labels in {s[1] for s in series if s[0] == name + "_count"}:
            inner = (labels or "{}")[1:-1]
            counts = [int(v) for v in re.findall(rf'^{name}_bucket\{{{re.escape(inner)},?le="[^"]+"\}} (\d+)$', text, re.M)]
            assert counts == sorted(counts) and len(counts) == 18
            assert counts[-1] == int(re.search(rf"^{name}_count{re.escape(labels or '')} (\d+)$", text, re.M)[1])
