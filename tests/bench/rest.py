"""For scripts/bench: what a client's connection at rest costs Tarry and the proxies it is compared with, one process each."""

import shutil
import signal
import subprocess
import time

KINDS = {"http1": "HTTP/1.1", "tls-http1": "TLS + HTTP/1.1", "h2c": "HTTP/2 in the clear", "tls-h2": "TLS + HTTP/2"}
WARM = 20

TARRY = """
listen "{listen}" {{ {tls} }}
max_connections    = 16000
keep_alive_timeout = "10m"
{room}
workers "app" {{ server "{server}" {{ slots = 64 }} }}
route "/" {{ workers = "app" }}
"""

NGINX = """
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/nginx.err;
events {{ worker_connections 16384; }}
http {{
    access_log off; keepalive_timeout 10m; ssl_certificate {crt}; ssl_certificate_key {key};
    client_body_temp_path {dir}/n1; proxy_temp_path {dir}/n2; fastcgi_temp_path {dir}/n3;
    uwsgi_temp_path {dir}/n4; scgi_temp_path {dir}/n5;
    upstream app {{ server {server}; keepalive 64; }}
    server {{
        listen {listen} {flags};
        location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
    maxconn 16000
    no strict-limits
defaults
    mode http
    timeout client 10m
    timeout http-keep-alive 10m
    timeout server 60s
    timeout connect 5s
    http-reuse always
frontend front
    bind {listen} {flags}
    default_backend app
backend app
    server one {server}
"""


def find(name):
    return shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")


def certificate(stage):
    crt, key = stage.folder / "site.crt", stage.folder / "site.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=rest.test", "-addext", "subjectAltName=DNS:rest.test", "-keyout", key, "-out", crt],
                   check=True, stderr=subprocess.DEVNULL)
    (stage.folder / "both.pem").write_text(crt.read_text() + key.read_text())
    return crt, key


def command_of(name, kind, stage, server, listen, room):
    """The proxy's command line for this kind of client."""
    crt, key = certificate(stage)
    tls = kind.startswith("tls")
    if name == "tarry":
        text = TARRY.format(listen=listen, server=server, room=room,
                            tls=f'certificate = "{crt}"  private_key = "{key}"' if tls else "")
        return [stage.program("proxy/tarry"), "-c", stage.file("rest.conf", text)]
    if name == "nginx":
        flags = {"http1": "", "tls-http1": "ssl", "h2c": "http2", "tls-h2": "ssl http2"}[kind]
        text = NGINX.format(dir=stage.folder, server=server, listen=listen, crt=crt, key=key, flags=flags)
        return [find("nginx"), "-p", stage.folder, "-e", stage.folder / "nginx.err", "-c", stage.file("nginx.conf", text)]
    if name == "haproxy":
        pem = f"ssl crt {stage.folder}/both.pem"
        flags = {"http1": "", "tls-http1": f"{pem} alpn http/1.1", "h2c": "proto h2", "tls-h2": f"{pem} alpn h2"}[kind]
        return [find("haproxy"), "-db", "-f", stage.file("haproxy.cfg", HAPROXY.format(server=server, listen=listen, flags=flags))]
    host, port = listen.rsplit(":", 1)
    command = [find("nghttpx"), "--single-process", "--workers=1", "--no-ocsp", "--conf=/dev/null", "--log-level=FATAL",
               "--frontend-keep-alive-timeout=10m", "--frontend-http2-read-timeout=10m", "--frontend-read-timeout=10m",
               "--accesslog-file=/dev/null", f"--errorlog-file={stage.folder}/nghttpx.err",
               f"--frontend={host},{port}" + ("" if tls else ";no-tls"), "--backend=" + server.replace(":", ",")]
    return command + ([key, crt] if tls else [])


def hold(bench, stage, kind, listen, count):
    """Clients that rest until their standard input is closed."""
    process = subprocess.Popen([stage.program("tests/bench/rest"), "--to", listen, "--kind", kind, "--count", str(count)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stage.started.append(process)
    if not process.stdout.readline().startswith("rest: ready"):
        raise bench.Trouble(f"clients at rest: {process.stderr.read()}")
    return process


def let_go(process):
    process.stdin.close()
    process.wait(60)


def one(bench, build, name, kind, count, room):
    """KiB a client, and KiB left of each after all have gone."""
    with bench.Stage(build) as stage:
        server = stage.backend("127.0.0.1:0")
        listen = f"127.0.0.1:{bench.free_port()}"
        process, _ = stage.start(name, command_of(name, kind, stage, server, listen, room), lambda: bench.accepts(listen))
        pids = bench.family(process.pid)
        let_go(hold(bench, stage, kind, listen, WARM))
        before = bench.private_kib(pids)
        clients = hold(bench, stage, kind, listen, count)
        time.sleep(0.5)
        resting = bench.private_kib(pids)
        let_go(clients)
        time.sleep(4)
        after = bench.private_kib(pids)
        process.send_signal(signal.SIGTERM)
    return {"kib": round((resting - before) / count, 2), "kib_left": round((after - before) / count, 2)}


def measure(bench, build, count, room=""):
    """All kinds, all proxies that are installed. `room`: further lines of Tarry's conf, for limits that are lower than `count`."""
    names = [name for name in ("tarry", "nginx", "haproxy", "nghttpx") if name == "tarry" or find(name)]
    result = {}
    for kind in KINDS:
        for name in names:
            bench.progress(f"{KINDS[kind]}: {name}")
            result.setdefault(kind, {})[name] = one(bench, build, name, kind, count, room)
    bench.say(f"rest: {count:,} clients that have had one answer and wait, one process each, KiB of private memory a client")
    bench.say("                       " + "".join(f"{name:>10}" for name in names) + "     Tarry's left when they have gone")
    for kind, row in result.items():
        bench.say(f"  {KINDS[kind]:21}" + "".join(f"{row[name]['kib']:10.1f}" for name in names) + f"{row['tarry']['kib_left']:12.1f}")
    for name in ("nginx", "haproxy", "nghttpx"):
        if name not in names:
            bench.say(f"  not installed: {name} (apt-get install {'nghttp2-proxy' if name == 'nghttpx' else name})")
    bench.say()
    return {"clients": count, "kinds": result}, True
