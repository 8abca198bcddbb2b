"""Secrets are planted wherever there may be any, and looked for in all that Tarry says: its logs at debug, the access log in each
format, the operators' pages, its own error bodies, and what other processes of its user may read."""

import os
import pathlib
import re
import subprocess

import pytest

from harness import Client, Reply, by_kind, call, eventually, free_port, handoff
from harness.tarry import find_binary

MARK = "s3cr3t"


def planted(name):
    return f"{MARK}-{name}"


class Planted:
    """A site that has secrets everywhere: each of its kinds of requests is sent once, and each kind of failure provoked."""

    def __init__(self, bed, format):
        self.bed = bed
        (bed.folder / "worker.secret").write_text(planted("worker") + "\n")
        (bed.folder / "included.conf").write_text(f'upstream "second" {{ origin = "http://127.0.0.1:9" set_header = {{ "X-Api-Key: {planted("in-the-file")}" }} }}\n')
        self.plain, self.secure = bed.upstream(self.model), bed.tls_upstream(self.model)
        worker = bed.worker(by_kind(request=self.work, resume=lambda r, c: Reply(200, planted("final")), notify=lambda r, c: Reply(500, planted("refused-notify"))))
        conf = bed.conf(worker)
        conf.log = {"level": "debug", "target": str(bed.folder / "t.log")}
        conf.access_log["format"] = format
        conf.pool.update(secret_file=str(bed.folder / "worker.secret"), response_timeout="500ms", notify_attempts=2, notify_first_pause="1ms",
                         abandoned_timeout="100ms")
        for name, up in (("plain", self.plain), ("secure", self.secure), ("nobody", None)):
            conf.upstreams[name] = {"origin": up.origin if up else f"http://127.0.0.1:{free_port()}", "retries": 1, "retry_first_pause": "1ms",
                                    "set_header": ["Authorization: Bearer ${E2E_KEY}"]}
        conf.upstreams["secure"]["ca_file"] = str(bed.authority.ca)
        conf.upstreams["untrusted"] = {"origin": f"https://localhost:{self.secure.address.rpartition(':')[2]}", "set_header": ["Authorization: Bearer ${E2E_KEY}"]}
        conf.routes.append(("/gateway/", {"upstream": "plain"}))
        conf.extra = f'include("{bed.folder}/included.conf")\n'
        self.admin = f"127.0.0.1:{free_port()}"
        conf.admins[self.admin] = {}
        certificate, self.key = bed.authority.leaf("leaf")
        self.tls = f"127.0.0.1:{free_port()}"
        conf.listens[self.tls] = {"certificate": str(certificate), "private_key": str(self.key)}
        self.conf, self.worker = conf, worker
        self.tarry = bed.tarry(conf, env={"E2E_KEY": planted("environment")})
        self.said = []  # bodies and heads that Tarry made itself

    def model(self, r, c):
        if r.target == "/broken":
            c.send(b"HTTP/1.1 200 OK\r\nX-Model: " + planted("model-field").encode() + b"\r\nContent-Length: 100\r\n\r\n" + planted("half-answer").encode())
            return c.close()
        if r.target == "/garbage":
            c.send(b"HTTP/1.1 " + planted("garbage").encode() + b"\r\n\r\n")
            return c.close()
        if r.target == "/fails":
            return Reply(500, planted("failure"), {"Set-Cookie": planted("model-cookie")})
        return Reply(200, planted("answer"), {"Content-Type": "text/event-stream"})

    def work(self, r, c):
        prompt = ('{"prompt": "' + planted("prompt") + '"}').encode()

        def ask(where, id=None):
            return call(where, prompt, headers=[("X-Key", planted("call"))], id=id)
        state, cookie = planted("state"), [("Set-Cookie", f"session={planted('session')}")]
        name = r.target.strip("/")
        if name in ("fails", "broken", "garbage"):
            return handoff("relay", [ask(f"tarry://plain/{name}")], notify="/saved", headers=cookie)
        if name == "resume":
            return handoff("resume /done", [ask("tarry://plain/x"), ask("tarry://nobody/y"), ask("tarry://untrusted/z"), ask("tarry://secure/a")], state=state, headers=cookie)
        if name == "malformed":
            return handoff("resume /done", b"POST http://127.0.0.1/ HTTP/1.1\r\nX-Key : " + planted("malformed").encode() + b"\r\n\r\n", state=state)
        if name == "forbidden":
            return handoff("relay", [ask("https://elsewhere.example/")], headers=cookie)
        if name == "bad-state":
            return handoff("resume /done", [ask("tarry://plain/x")], state=planted("bad state"))
        if name == "slow":
            return c.server.stopping.wait(2) and None
        if name == "bad-worker":
            c.send(b"HTTP/1.1 200 OK\r\nX-Worker: " + planted("worker-field").encode() + b"\r\nContent-Length: x\r\n\r\n")
            return c.close()
        return Reply(200, planted("page"))

    HEADERS = {"Cookie": f"id={planted('cookie')}", "Authorization": f"Basic {planted('authorization')}", "X-Api-Key": planted("field"),
               "Tarry-Auth": planted("forged")}

    def ask(self, target, tls=False, body=planted("body")):
        address, context = (self.tls, self.bed.authority.client_context()) if tls else (self.tarry.address, None)
        with Client(address, tls=context, server_name="localhost") as c:
            try:
                got = c.request("POST", target, self.HEADERS, body)
            except (AssertionError, OSError):
                return None
        if got.status >= 400 and got.headers.get("Content-Type") == "application/problem+json":
            # A cookie that the app set in its handoff is this very client's.
            head = got.raw_head.decode("latin-1").replace(f"Set-Cookie: session={planted('session')}\r\n", "")
            self.said.append(head + got.text)
        return got

    def run(self):
        for target in ("/", "/resume", "/fails", "/broken", "/garbage", "/malformed", "/forbidden", "/bad-state", "/slow", "/bad-worker", "/gateway/x"):
            self.ask(target)
            self.ask(target, tls=True)
        for raw in (f"POST / HTTP/1.1\r\nHost: a\r\nAuthorization: {planted('broken-field')}\r\nA : b\r\n\r\n",
                    f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\nCookie: {planted('smuggled')}\r\n\r\n",
                    f"POST / HTTP/1.1\r\nHost: a\r\nCookie: {planted('long')}{'x' * 40000}\r\n\r\n"):
            with self.tarry.client() as c:
                c.send(raw)
                got = c.read_response()
                self.said.append(got.raw_head.decode("latin-1") + got.text)


def pages(site):
    out = []
    for target in ("/metrics", "/status", "/healthz", "/", f"/status?{planted('query')}"):
        with Client(site.admin) as c:
            got = c.request("GET", target, Planted.HEADERS)
            out.append(got.raw_head.decode("latin-1") + got.text)
    return out


@pytest.mark.parametrize("format", ["json", "combined", "logfmt"])
def test_no_secret_is_told(bed, format):
    site = Planted(bed, format)
    site.run()
    site.said += pages(site)
    # A reload that is taken, and one that has mistakes right beside the secrets.
    tarry = site.tarry
    text = site.conf.text()
    broken = text.replace('"Authorization: Bearer ${E2E_KEY}"', '"Authorization Bearer ${E2E_KEY}"') + f'foo "{{ {planted("stray")}"\n'
    for conf in (text, broken):
        tarry.write(conf)
        tarry.signal(1)
        word = "reloaded" if conf == text else "reload refused"
        wait_for(bed.folder / "t.log", word)
    done = subprocess.run([find_binary(), "-t", "-c", tarry.path], env=dict(os.environ, E2E_KEY=planted("environment")), capture_output=True, text=True)
    assert done.returncode == 1
    site.said.append("\n".join(line for line in (done.stdout + done.stderr).splitlines() if planted("stray") not in line))
    # What was planted did arrive where it belongs: the test would say nothing otherwise.
    assert site.worker.requests[0].headers.get("Tarry-Auth") == planted("worker")
    assert site.plain.requests[0].headers.get("Authorization") == f"Bearer {planted('environment')}"
    assert any(planted("prompt").encode() in r.body for r in site.plain.requests)
    assert len(site.said) > 20
    tarry.stop()
    log = "\n".join(line for line in (bed.folder / "t.log").read_text().splitlines() if planted("stray") not in line)
    key = "".join(site.key.read_text().splitlines()[1:-1])
    for name, text in {"the log": log, "standard error": tarry.stderr, "the access log": (bed.folder / "access.log").read_text(),
                       **{f"answer {i}": t for i, t in enumerate(site.said)}}.items():
        found = re.findall(rf".{{0,60}}{MARK}.{{0,30}}", text)
        assert not found, (name, found[:3])
        assert key[:40] not in text and key[40:80] not in text, name
    assert "resume" in (bed.folder / "access.log").read_text() and len(log) > 10000


def wait_for(path, word):
    eventually(lambda: word in path.read_text(), word)


@pytest.mark.skipif(os.geteuid() != 0, reason="the harness lets others look into Tarry where it is not root itself")
def test_memory_and_environment_are_not_the_user_s_to_read(bed):
    """Keys are in both. A process of the same user gets neither, and no core is written."""
    site = Planted(bed, "json")
    pid = site.tarry.pid
    if site.tarry.sanitized:
        pytest.skip("a sanitizer must look into its own process")
    for pid in [pid, site.tarry.broker()]:
        for name in ("environ", "mem"):
            st = os.stat(f"/proc/{pid}/{name}")
            assert st.st_uid == 0, name
        assert re.search(r"Max core file size +0 +0 ", pathlib.Path(f"/proc/{pid}/limits").read_text())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start it as somebody else")
def test_the_user_itself_cannot_read_them(bed):
    conf = bed.conf(bed.worker(lambda r, c: Reply(200, b"ok")))
    conf.top.update(user="nobody", temp_dir="/var/tmp")
    conf.access_log = None
    tarry = bed.tarry(conf, env={"E2E_KEY": planted("environment")})
    if tarry.sanitized:
        pytest.skip("a sanitizer must look into its own process")
    for pid in (tarry.pid, tarry.broker()):
        for name in ("environ", "mem"):
            done = subprocess.run(["cat", f"/proc/{pid}/{name}"], user="nobody", capture_output=True)
            assert done.returncode != 0 and MARK.encode() not in done.stdout
