"""The command, its options, its signals, and what it says."""

import json
import os
import re
import pathlib
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from harness import Client, Gate, Reply, by_kind, call, eventually, free_port, handoff
from harness.base import DEADLINE
from harness.tarry import READY, check_conf, find_binary, run_command

OK = Reply(200, b"ok")
ROOT = pathlib.Path(__file__).resolve().parents[2]


# --- options ---

@pytest.mark.parametrize("option", ["-V", "--version"])
def test_V_prints_the_version(option):
    """With the commit, where it was built from a checkout."""
    code, out, err = run_command(option)
    assert code == 0 and re.match(r"tarry \d+\.\d+\.\d+( \(commit [0-9a-f]{12}(, changed)?\))?\n", out) and err == ""


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_h_prints_the_usage(option):
    code, out, err = run_command(option)
    assert code == 0 and all(option in out for option in ("-c", "-t", "-V", "-h")) and err == ""


@pytest.mark.parametrize("args", [["-x"], ["-c"], ["extra"]])
def test_a_wrong_option_is_an_error_with_the_usage(args):
    code, out, err = run_command(*args)
    assert code not in (0, None) and "usage" in err.lower() and out == ""


@pytest.mark.parametrize("option", [["-t"], []])
def test_a_missing_file_is_named(tmp_path, option):
    code, _, err = run_command(*option, "-c", tmp_path / "nowhere.conf")
    assert code == 1 and str(tmp_path / "nowhere.conf") in err and "No such file" in err


def test_t_neither_binds_nor_resolves_nor_logs(tmp_path):
    """A conf whose port is taken and whose upstream has no address is sound."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        path = tmp_path / "t.conf"
        path.write_text(text(listen=f'listen "127.0.0.1:{taken.getsockname()[1]}" {{ }}\n', more=(
            f'upstream "u" {{ origin = "https://no-such-name.invalid" }}\nlog {{ target = "{tmp_path}/t.log" }}\n'
            f'access_log {{ target = "{tmp_path}/a.log" }}\n')))
        assert check_conf(path) == (0, "")
    assert not (tmp_path / "a.log").exists()


# --- mistakes of the conf ---

LISTEN = 'listen "127.0.0.1:8080" { }\n'
POOL = 'workers "app" { server "127.0.0.1:8001" { } }\n'
ROUTE = 'route "/" { workers = "app" }\n'


def text(listen=LISTEN, pool=POOL, route=ROUTE, more=""):
    return listen + pool + route + more


def up(line):
    return text(more='upstream "u" {\n    origin = "https://h.example"\n    ' + line + " #!\n}\n")


def top(line):
    return text() + line + " #!\n"


# The line with the mark #! is the wrong one; the words must stand in what is said of it: what is wrong, and what would be right.
MISTAKES = {
    "unknown option": (top("max_conections = 5"), "max_conections", "max_connections"),
    "unknown option in a section": (text(pool='workers "app" {\n  queue_maxx = 5 #!\n  server "127.0.0.1:1" { }\n}\n'), "queue_maxx", "queue_max"),
    "option of another section": (text(pool='workers "app" {\n  retries = 5 #!\n  server "127.0.0.1:1" { }\n}\n'), "retries", "upstream"),
    "unknown section": (text() + 'upstraem "u" { #!\n origin = "https://h.example"\n}\n', "upstraem", "upstream"),
    "no unit": (up("connect_timeout = 5"), "connect_timeout", "5s"),
    "no unit, in quotes": (up('connect_timeout = "5"'), "connect_timeout", "5s"),
    "wrong unit": (up('connect_timeout = "5x"'), "connect_timeout", "5x", "ms"),
    "size for a duration": (up('connect_timeout = "5K"'), "connect_timeout", "ms"),
    "duration for a size": (up('response_max = "5s"'), "response_max", "64K"),
    "negative duration": (up('connect_timeout = "-5s"'), "connect_timeout"),
    "number that is a word": (up('retries = "many"'), "retries", "digits"),
    "number too large": (up("retries = 101"), "retries", "100"),
    "number too small": (text(pool='workers "app" {\n  max_calls = 0 #!\n  server "127.0.0.1:1" { }\n}\n'), "max_calls", "1"),
    "slots 0": (text(pool='workers "app" {\n  server "127.0.0.1:1" { slots = 0 } #!\n}\n'), "slots", "1"),
    "header_max too small": (top('header_max = "1"'), "header_max", "256"),
    "boolean that is none": (up('http2 = "perhaps"'), "http2", "true"),
    "word that is none": (text() + 'log { level = "loud" } #!\n', "loud", "info"),
    "format that is none": (text() + 'access_log { format = "xml" } #!\n', "xml", "json"),
    "underscore policy that is none": (top('underscore_headers = "keep"'), "keep", "drop"),
    "route to no pool": (text(route='route "/" { workers = "ap" } #!\n'), '"ap"', "name one that exists"),
    "route to no upstream": (text(route=ROUTE + 'route "/u/" { upstream = "u" } #!\n'), '"u"', "upstream"),
    "route to both": (text(route='route "/" { workers = "app" upstream = "u" } #!\n', more='upstream "u" { origin = "https://h.example" }\n'),
                      "workers", "upstream"),
    "route to nothing": (text(route='route "/" { } #!\n'), "workers", "upstream"),
    "internal route to an upstream": (text(route=ROUTE + 'route "/u/" { upstream = "u" internal = true } #!\n',
                                           more='upstream "u" { origin = "https://h.example" }\n'), "internal", "workers"),
    "prefix without a slash": (text(route='route "api" { workers = "app" } #!\n'), '"api"', 'begin with "/"'),
    "the same route twice": (text(route=ROUTE + 'route "/" { workers = "app" } #!\n'), "twice", ":3"),
    "the same listener twice": (text(listen=LISTEN + 'listen "127.0.0.1:8080" { } #!\n'), "twice", ":1"),
    "the same pool twice": (text(pool=POOL + 'workers "app" { server "127.0.0.1:2" { } } #!\n'), "twice", ":2"),
    "the same upstream twice": (text(more='upstream "u" { origin = "https://a.example" }\nupstream "u" { origin = "https://b.example" } #!\n'),
                                "twice", ":4"),
    "the same server twice": (text(pool='workers "app" {\n server "127.0.0.1:1" { }\n server "127.0.0.1:1" { } #!\n}\n'), "twice", ":3"),
    "the same option twice": (text() + "processes = 1\nprocesses = 2 #!\n", "processes", "twice"),
    "pool without a server": (text(pool='workers "app" { #!\n}\n'), "server"),
    "upstream without an origin": (text(more='upstream "u" { #!\n}\n'), "origin"),
    "origin without a scheme": (text(more='upstream "u" {\n origin = "api.example.com" #!\n}\n'), "api.example.com", "https://"),
    "origin with a path": (text(more='upstream "u" {\n origin = "https://api.example.com/v1" #!\n}\n'), "/v1"),
    "origin with a user": (text(more='upstream "u" {\n origin = "https://u:p@api.example.com" #!\n}\n'), "origin"),
    "origin of another scheme": (text(more='upstream "u" {\n origin = "ftp://api.example.com" #!\n}\n'), "https://"),
    "origin with port 0": (text(more='upstream "u" {\n origin = "https://api.example.com:0" #!\n}\n'), "65535"),
    "plain http to a public address": (text(more='upstream "u" {\n origin = "http://8.8.8.8" #!\n}\n'), "insecure", "https"),
    "address without a port": (text(listen='listen "127.0.0.1" { } #!\n'), "127.0.0.1", "HOST:PORT"),
    "address with a bad port": (text(listen='listen "127.0.0.1:99999" { } #!\n'), "65535"),
    "address with a name": (text(listen='listen "app.example:80" { } #!\n'), "app.example"),
    "IPv6 without brackets": (text(listen='listen "::1:8080" { } #!\n'), "[::1]"),
    "unix path too long": (text(listen='listen "unix:/' + "a" * 200 + '" { } #!\n'), "unix", "107"),
    # The file is no certificate either.
    "certificate without a key": (text(listen='listen "127.0.0.1:8443" {\n certificate = "/etc/hostname" #!\n}\n'), "private_key"),
    "ca_file that is not there": (up('ca_file = "/nowhere/ca.pem"'), "/nowhere/ca.pem", "No such file"),
    "ca_file that is no certificate": (up('ca_file = "/etc/hostname"'), "/etc/hostname"),
    "secret_file that is not there": (text(pool='workers "app" {\n  secret_file = "/nowhere/secret" #!\n  server "127.0.0.1:1" { }\n}\n'),
                                      "/nowhere/secret"),
    "temp_dir that is not there": (top('temp_dir = "/nowhere"'), "/nowhere"),
    "temp_dir that is a file": (top('temp_dir = "/etc/hostname"'), "folder"),
    "log in a folder that is not there": (text() + 'log { target = "/nowhere/t.log" } #!\n', "/nowhere"),
    "header without a colon": (up('set_header = { "Authorization" }'), "set_header", ":"),
    "header with a bad name": (up('set_header = { "A b: c" }'), "set_header"),
    "header that frames": (up('set_header = { "Transfer-Encoding: chunked" }'), "Transfer-Encoding"),
    "header Host": (up('set_header = { "Host: evil" }'), "Host"),
    "header of Tarry": (up('set_header = { "Tarry-Kind: x" }'), "Tarry-"),
    "header with a line end": (up('set_header = { "A: b\\r\\nX: y" }'), "set_header"),
    "relay header that frames": (up('relay_headers = { "transfer-encoding" }'), "transfer-encoding"),
    "relay header of Tarry": (up('relay_headers = { "tarry-then" }'), "tarry-then"),
    "user that is none": (top('user = "no-such-user"'), "no-such-user", "adduser"),
    "group that is none": (text() + 'user = "root"\n' + 'group = "no-such-group" #!\n', "no-such-group", "addgroup"),
    "group without a user": (top('group = "root"'), "group", "user"),
    "sandbox that is half up": (top('seccomp = "perhaps"'), "perhaps", "required"),
    "network that is none": (top('trusted_proxies = { "10.0.0.0/33" }'), "10.0.0.0/33", "32"),
    "network with host bits": (top('trusted_proxies = { "10.0.0.300" }'), "10.0.0.300"),
    "missing environment variable": (up('set_header = { "Authorization: Bearer ${E2E_MISSING_KEY}" }'), "E2E_MISSING_KEY", "environment"),
    "include that is not there": (text() + 'include("/nowhere/x.conf") #!\n', "/nowhere/x.conf"),
    "list for a single value": (up('retries = { "1", "2" }'), "retries"),
    "string that does not end": (text() + 'temp_dir = "/tmp #!\n', '"'),
    "equals sign missing": (top("processes 2"), "processes", "="),
    "section without a title": (text() + "upstream { #!\n origin = \"https://h.example\"\n}\n", "upstream"),
    "empty pool name": (text(pool='workers "" { server "127.0.0.1:1" { } } #!\n' + POOL), "name"),
    "host that is none": (text(route=ROUTE + 'route "/h/" { host = "a b" workers = "app" } #!\n'), "a b"),
    "call larger than the handoff": (text(pool='workers "app" {\n  call_max = "2M" #!\n  handoff_max = "1M"\n  server "127.0.0.1:1" { }\n}\n'),
                                     "call_max", "handoff_max"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_named_with_file_line_and_remedy(tmp_path, what):
    conf, *words = MISTAKES[what]
    path = tmp_path / "t.conf"
    path.write_text(conf)
    number = next(i for i, line in enumerate(conf.splitlines(), 1) if "#!" in line)
    code, err = check_conf(path)
    lines = err.splitlines()
    assert code == 1 and lines
    assert all(re.match(re.escape(str(path)) + r":\d+: \S", line) for line in lines), err
    about = [line for line in lines if line.startswith(f"{path}:{number}: ")]
    assert about, err
    for word in words:
        assert word.lower() in " ".join(about).replace(str(path), "FILE").lower(), (word, about)
    assert len(lines) == (2 if what == "certificate without a key" else 1), "one mistake, one line:\n" + err


def test_a_brace_that_is_missing(tmp_path):
    path = tmp_path / "t.conf"
    path.write_text(LISTEN + 'workers "app" {\n  server "127.0.0.1:8001" { }\n' + ROUTE)
    code, err = check_conf(path)
    assert code == 1 and re.match(re.escape(str(path)) + r":\d+: ", err) and "}" in err


@pytest.mark.parametrize("conf, word", [("", "listen"), (POOL + ROUTE, "listen"), (LISTEN + POOL, "route"), (LISTEN + ROUTE, "workers")])
def test_what_must_be_there_is_asked_for(tmp_path, conf, word):
    path = tmp_path / "t.conf"
    path.write_text(conf)
    code, err = check_conf(path)
    assert code == 1 and word in err and all(line.startswith(f"{path}:") for line in err.splitlines())


def test_all_mistakes_are_named_at_once_in_their_order(tmp_path):
    path = tmp_path / "t.conf"
    path.write_text('processes = "many"\n'                                     # 1
                    'listen "127.0.0.1:99999" { }\n'                           # 2
                    'workers "app" {\n    queue_maxx = 5\n    queue_timeout = 30\n    server "127.0.0.1:1" { slots = 0 }\n}\n'  # 4 5 6
                    'upstream "u" {\n    origin = "api.example.com"\n    ca_file = "/nowhere"\n}\n'  # 9 10
                    'route "/" { workers = "ap" }\n'                           # 12
                    'temp_dir = "/nowhere"\nfoo = 1\n')                        # 13 14
    code, err = check_conf(path)
    numbers = [int(re.match(re.escape(str(path)) + r":(\d+): ", line)[1]) for line in err.splitlines()]
    assert code == 1 and numbers == [1, 2, 4, 5, 6, 9, 10, 12, 13, 14], err


def test_a_mistake_in_an_included_file_is_named_there(tmp_path):
    (tmp_path / "inner.conf").write_text("\n\nbody_max = \"5s\"\n")
    (tmp_path / "t.conf").write_text(text() + f'include("{tmp_path}/inner.conf")\nheader_max = "5s"\n')
    code, err = check_conf(tmp_path / "t.conf")
    lines = err.splitlines()
    assert code == 1 and len(lines) == 2, err
    assert lines[0].startswith(f"{tmp_path}/inner.conf:3: ") and lines[1].startswith(f"{tmp_path}/t.conf:5: ")


@pytest.mark.parametrize("line", ['set_header = { "Authorization Bearer ${E2E_KEY}" }', 'set_header = { "Authorization: ${E2E_KEY}\\n" }',
                                  'set_header = { "A b: ${E2E_KEY}" }', 'set_header = { "Host: ${E2E_KEY}" }'])
def test_a_mistake_does_not_tell_the_secret_in_the_line(tmp_path, line):
    path = tmp_path / "t.conf"
    path.write_text(up(line))
    code, err = check_conf(path, env={"E2E_KEY": "sk-very-secret"})
    assert code == 1 and "set_header" in err and "sk-very-secret" not in err


def test_a_broken_conf_stops_the_start_with_the_same_lines(tmp_path):
    path = tmp_path / "t.conf"
    path.write_text(top("max_conections = 5"))
    code, _, err = run_command("-c", path)
    assert code == 1 and err.startswith(f"{path}:4: ") and READY not in err


def test_a_good_conf_is_sound(tmp_path, monkeypatch):
    """Everything that the manual promises, at once."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    (tmp_path / "inner.conf").write_text('body_max = "10M"\n')
    path = tmp_path / "t.conf"
    path.write_text(f'''# a comment
processes = 2
temp_dir = "{tmp_path}"
max_connections = 1000
header_max = "16K" target_max = "4K"
trusted_proxies = {{ "127.0.0.1/32", "10.0.0.0/8", "::1/128", "unix" }}
shutdown_timeout = "5m"
underscore_headers = "refuse"
include("{tmp_path}/inner.conf")
log {{ level = "info" target = "stderr" }}
access_log {{ target = "{tmp_path}/access.log" format = "combined" }}
listen "127.0.0.1:8080" {{ }}
listen "[::1]:8080" {{ backlog = 100 }}
listen "unix:{tmp_path}/t.sock" {{ }}
workers "app" {{
    server "unix:/run/gunicorn.sock" {{ slots = 5 }}
    server "localhost:8001" {{ }}
    queue_max = 10000 queue_timeout = "30s" response_timeout = "1m"
    secret_file = "{secret}"
    replay_body_max = "10M" call_max = "32M" max_calls = 64 max_hops = 64
    resume_attempts = 3 resume_wait = "60s" notify_attempts = 8 notify_first_pause = "250ms" keep_alive_interval = "15s"
}}
upstream "openai" {{
    origin = "https://api.openai.com"
    set_header = {{ "Authorization: Bearer ${{E2E_KEY}}", "X-Team: a" }}
    connect_timeout = "5s" first_byte_timeout = "2m" idle_timeout = "60s" total_timeout = "1h"
    retries = 0
    response_max = "1G"
    relay_headers = {{ "x-request-id" }}
    ca_file = ""
    http2 = false
}}
upstream "own" {{ origin = "http://192.168.0.7:8000" }}
upstream "far" {{ origin = "http://models.example.com" insecure = true }}
route "/" {{ workers = "app" }}
route "/internal/" {{ workers = "app" internal = true }}
route "/v1/" {{ host = "llm.example.com" upstream = "openai" }}
route "/v1/" {{ upstream = "own" }}
admin "127.0.0.1:9180" {{ }}
''')
    assert check_conf(path, env={"E2E_KEY": "k"}) == (0, "")
    said = run_command("-t", "-c", path, env={"E2E_KEY": "k"})[1]
    assert said == (f"{path}: the conf is good; calls may go to https://api.openai.com, http://192.168.0.7:8000, "
                    "http://models.example.com\n")


def as_nobody(*args):
    """The command as a user with few rights."""
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", find_binary(), *map(str, args)],
                          capture_output=True, text=True, timeout=DEADLINE)
    return done.returncode, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_log_that_the_user_cannot_write_is_a_mistake():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # pytest's own folders are closed to other users
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        log, path = folder / "root.log", folder / "t.conf"
        log.touch(0o644)
        path.write_text(f'''temp_dir = "/var/tmp"
listen "127.0.0.1:8080" {{ }}
workers "app" {{ server "127.0.0.1:8001" {{ }} }}
route "/" {{ workers = "app" }}
access_log {{ target = "{log}" }}
''')
        code, err = as_nobody("-t", "-c", path)
    assert code == 1 and f'{path}:5: target: "{log}" cannot be written: Permission denied' in err, err


def test_an_expired_certificate_is_a_warning(bed):
    """A restart must not fail over it."""
    certificate, key = bed.authority.leaf("old", days=-1)
    conf = bed.conf(bed.worker())
    conf.listens[f"127.0.0.1:{free_port()}"] = {"certificate": str(certificate), "private_key": str(key)}
    path = bed.folder / "old.conf"
    path.write_text(conf.text())
    code, err = check_conf(path)
    assert code == 0 and re.search(r"old\.conf:\d+: warning: certificate: it expired \d+ days ago", err), err


def test_T_prints_the_whole_conf_without_keys(tmp_path):
    """What it prints is a conf itself, and the same."""
    path, again = tmp_path / "t.conf", tmp_path / "again.conf"
    path.write_text('''listen "127.0.0.1:8080" { }
workers "app" { server "127.0.0.1:8001" { slots = 3 }  queue_timeout = "90s" }
upstream "o" { origin = "https://a.example"  set_header = { "Authorization: Bearer sk-SECRET", "X-A: b" } }
route "/v1/" { upstream = "o" }
route "/" { workers = "app" }
route "/" { host = "b.example"  workers = "app"  internal = true }
''')
    code, out, err = run_command("-T", "-c", path)
    assert (code, err) == (0, "") and "SECRET" not in out
    lines = [line.strip() for line in out.splitlines()]
    for line in ('slots = 3', 'queue_timeout = "90s"', '# queue_max = 10000', '# shutdown_timeout = "5m"', 'host = "b.example"',
                 'set_header = { "Authorization: (not shown)", "X-A: (not shown)" }'):
        assert line in lines, line
    again.write_text(out)
    assert run_command("-T", "-c", again) == (0, out, "")


@pytest.mark.parametrize("url, code, parts", [
    ("http://b.example/v1/chat", 0, ['route "/v1/"', 'upstream "o"', "# retries = 2", "# body_max"]),
    ("/v1/chat", 0, ['route "/"', 'workers "app"', 'queue_timeout = "90s"', "slots = 3"]),
    ("http://b.example:8080/", 0, ['route "/"']),
    ("/internal/x", 1, ["404 for clients", 'route "/internal/"']),
    ("//x/internal/x", 1, ["404 for clients"]),
    ("/../../etc", 1, ["400: the path climbs above the root"]),
])
def test_explain_says_where_a_request_goes(tmp_path, url, code, parts):
    path = tmp_path / "t.conf"
    path.write_text('''listen "127.0.0.1:8080" { }
workers "app" { server "127.0.0.1:8001" { slots = 3 }  queue_timeout = "90s" }
upstream "o" { origin = "https://a.example"  set_header = { "Authorization: Bearer sk-SECRET" } }
route "/v1/" { host = "b.example"  upstream = "o" }
route "/" { workers = "app" }
route "/internal/" { workers = "app"  internal = true }
''')
    got, out, err = run_command("-c", path, "--explain", url)
    assert (got, err) == (code, "") and "SECRET" not in out
    for part in parts:
        assert part in out, out


def test_init_writes_a_conf_to_begin_with(tmp_path):
    path = tmp_path / "tarry.conf"
    code, out, err = run_command("--init", "-c", path)
    assert code == 0 and str(path) in out and err == ""
    assert path.read_text() == (ROOT / "conf" / "tarry.conf").read_text()
    path.write_text("mine\n")
    code, out, err = run_command("--init", "-c", path)
    assert code == 1 and "exists already" in err and path.read_text() == "mine\n"


def test_runs_without_a_conf_file(bed):
    """And is reloaded, with the sandbox around it."""
    worker, address = bed.worker(), f"127.0.0.1:{free_port()}"
    tarry = bed.tarry(None, address=address,
                      args=["--listen", address, "--backend", f"{worker.address},4", "--upstream", "http://127.0.0.1:1"])
    for _ in range(2):
        with Client(address) as c:
            assert c.request(host="a").status == 200
        tarry.reload(None)


@pytest.mark.parametrize("args, part", [
    (["--backend", "127.0.0.1:1"], "--listen ADDRESS is missing"),
    (["--listen", "127.0.0.1:1"], "--backend ADDRESS is missing"),
    (["--listen", "127.0.0.1:1", "-c", "x"], "take the place of a conf file"),
    (["--listen", "127.0.0.1:1", "--backend", "it's"], "write a conf file instead"),
])
def test_a_conf_of_the_command_line_that_is_incomplete(args, part):
    code, out, err = run_command(*args)
    assert code == 2 and part in err and out == ""


# --- starting ---

def test_ready_means_that_every_listener_accepts(bed):
    conf = bed.conf(bed.worker())
    for i in range(10):
        conf.listens[f"127.0.0.1:{free_port()}"] = {}
        conf.listens[f"unix:{bed.folder}/l{i}.sock"] = {}
    tarry = bed.tarry(conf)
    for address in conf.listens:
        with Client(address) as c:
            assert c.request(host="a").status == 200
    assert [line.strip() for line in tarry.lines].count(READY) == 1


@pytest.mark.parametrize("level", ["error", "warn"])
@pytest.mark.parametrize("target", ["stderr", "file"])
def test_ready_is_said_on_standard_error_whatever_the_log_is(bed, level, target):
    conf = bed.conf(bed.worker())
    conf.log = {"level": level, "target": "stderr" if target == "stderr" else str(bed.folder / "t.log")}
    assert bed.tarry(conf).get("/").status == 200


def test_an_address_in_use_is_an_error(bed):
    worker = bed.worker()
    conf = bed.conf(worker)
    taken = bed.worker()
    conf.listens = {f"127.0.0.1:{free_port()}": {}, taken.address: {}}
    path = bed.folder / "t.conf"
    path.write_text(conf.text())
    code, _, err = run_command("-c", path)
    assert code == 1 and taken.address in err and "in use" in err and READY not in err


def test_an_address_of_another_machine_is_an_error(bed):
    conf = bed.conf(bed.worker())
    conf.listens = {"192.0.2.1:8080": {}}
    path = bed.folder / "t.conf"
    path.write_text(conf.text())
    code, _, err = run_command("-c", path)
    assert code == 1 and "192.0.2.1:8080" in err and READY not in err


# --- SIGHUP ---

def test_a_reload_brings_a_new_route(bed):
    one, two = bed.worker(lambda r, c: b"one"), bed.worker(lambda r, c: b"two")
    conf = bed.conf(one)
    tarry = bed.tarry(conf)
    with tarry.client() as kept:
        assert kept.request("GET", "/new/x").body == b"one"
        conf.pools["two"] = ({}, {two.address: {}})
        conf.routes.append(("/new/", {"workers": "two"}))
        tarry.reload(conf)
        assert tarry.get("/new/x").body == b"two" and tarry.get("/x").body == b"one"
        assert kept.request("GET", "/new/x").body == b"two"  # the connection lives on under the new conf
        conf.routes.pop()
        tarry.reload(conf)
        assert kept.request("GET", "/new/x").body == b"one"


def test_a_broken_conf_changes_nothing_and_is_logged_with_file_and_line(bed):
    conf = bed.conf(bed.worker())
    tarry = bed.tarry(conf)
    since = len(tarry.lines)
    lines = conf.text().splitlines()
    tarry.reload("\n".join(lines) + '\nfoo = 1\nroute "/x" { workers = "nobody" }\n', refused=True)
    said = "\n".join(tarry.lines[since:])
    assert f"{tarry.path}:{len(lines) + 1}: " in said and f"{tarry.path}:{len(lines) + 2}: " in said
    assert tarry.get("/").status == 200 and tarry.get("/x").status == 200
    tarry.reload("", refused=True)
    tarry.path.unlink()
    since = len(tarry.lines)
    tarry.signal(signal.SIGHUP)
    tarry.wait_log("No such file", since=since)
    assert tarry.get("/").status == 200
    tarry.reload(conf)
    assert tarry.get("/").status == 200


def test_a_listener_that_cannot_be_had_refuses_the_whole_reload(bed):
    conf = bed.conf(bed.worker())
    tarry = bed.tarry(conf)
    taken, free = bed.worker(), f"127.0.0.1:{free_port()}"
    conf.listens = {conf.address: {}, free: {}, taken.address: {}}
    conf.routes = [("/only/", {"workers": "app"})]
    since = len(tarry.lines)
    tarry.reload(conf, refused=True)
    assert taken.address in "\n".join(tarry.lines[since:])
    assert tarry.get("/").status == 200
    with pytest.raises(ConnectionRefusedError):
        Client(free)


def test_listeners_come_and_go(bed):
    conf = bed.conf(bed.worker())
    first, second = conf.address, f"127.0.0.1:{free_port()}"
    path = bed.folder / "l.sock"
    tarry = bed.tarry(conf)
    conf.listens = {first: {}, second: {}, f"unix:{path}": {}}
    tarry.reload(conf)
    for address in conf.listens:
        with Client(address) as c:
            assert c.request(host="a").status == 200
    with Client(first) as kept:
        assert kept.request().status == 200
        conf.listens = {second: {}}
        tarry.reload(conf)
        with pytest.raises(ConnectionRefusedError):  # those in the backlog are served first
            eventually(lambda: Client(first).close())
        with Client(second) as c:
            assert c.request().status == 200
        assert not path.exists()


def test_a_kept_listener_refuses_not_one_connection(bed):
    conf = bed.conf(bed.worker())
    tarry = bed.tarry(conf)
    stop, results = threading.Event(), []

    def knock():
        while not stop.is_set():
            try:
                with tarry.client() as c:
                    results.append(c.request().status)
            except (OSError, AssertionError) as e:
                results.append(e)
    tasks = [bed.background(knock) for _ in range(3)]
    extra = f"127.0.0.1:{free_port()}"
    for i in range(20):
        conf.listens = {conf.address: {}, extra: {}} if i % 2 else {conf.address: {}}
        conf.pool["queue_max"] = 100 + i
        tarry.reload(conf)
    stop.set()
    for t in tasks:
        t.result()
    assert len(results) > 20 and set(results) == {200}


def test_servers_of_a_pool_come_and_go(bed):
    gate = Gate()
    old = bed.worker(lambda r, c: (gate.wait(), b"old")[1] if r.target == "/slow" else b"old")
    new = bed.worker(lambda r, c: b"new")
    conf = bed.conf(old)
    tarry = bed.tarry(conf)
    slow = bed.background(tarry.get, "/slow")
    old.wait_for(1)
    conf.servers = {old.address: {"slots": 4}, new.address: {"slots": 4}}
    tarry.reload(conf)
    assert {tarry.get("/").body for _ in range(8)} >= {b"new"}
    conf.servers = {new.address: {"slots": 4}}
    tarry.reload(conf)
    seen = len(old.requests)
    assert {tarry.get("/").body for _ in range(8)} == {b"new"} and len(old.requests) == seen
    gate.open()
    assert slow.result().body == b"old"  # what it was working on is finished
    eventually(lambda: all(c.closed or c.peer_is_gone() for c in old.conns), "its connections are closed")


def test_fewer_slots_hold_at_once(bed):
    gate = Gate()
    worker = bed.worker(lambda r, c: (gate.wait(), OK)[1])
    conf = bed.conf(worker, slots=1)
    tarry = bed.tarry(conf)
    tasks = [bed.background(tarry.get, "/") for _ in range(4)]
    worker.wait_for(1)
    conf.servers = {worker.address: {"slots": 3}}
    tarry.reload(conf)
    worker.wait_for(3)
    gate.open()
    assert [t.result().status for t in tasks] == [200] * 4 and worker.peak == 3


def test_what_is_in_flight_finishes_under_the_old_conf(bed):
    """Even if its upstream, its pool and its route are gone."""
    gate = Gate()
    upstream = bed.upstream(lambda r, c: (gate.wait(), b"answer")[1])
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /done", [call(upstream.origin)]), resume=lambda r, c: Reply(200, r.enclosed[0].body)))
    other, elsewhere = bed.upstream(), bed.worker(lambda r, c: Reply(200, r.headers.get("Tarry-Origins")))
    conf = bed.conf(worker, upstream)
    tarry = bed.tarry(conf)
    parked = bed.background(tarry.get, "/")
    upstream.wait_for(1)
    conf.servers = {elsewhere.address: {}}
    conf.upstreams = {"other": {"origin": other.origin}}
    conf.pool = {"max_calls": 1}
    tarry.reload(conf)
    assert tarry.get("/").text == other.origin
    gate.open()
    got = parked.result()
    assert got.status == 200
    # The answer was paid for: some worker of the pool got it.
    assert got.body in (b"answer", upstream.origin.encode())


def test_a_changed_upstream_holds_for_new_calls(bed):
    one, two = bed.upstream(lambda r, c: Reply(200, "one " + r.headers.get("X-Key", "-"))), bed.upstream(lambda r, c: Reply(200, "two " + r.headers.get("X-Key", "-")))
    worker = bed.worker(lambda r, c: handoff("relay", [call("tarry://up/x")]))
    conf = bed.conf(worker, one)
    tarry = bed.tarry(conf)
    assert tarry.get("/").body == b"one -"
    conf.up["set_header"] = ["X-Key: k"]
    tarry.reload(conf)
    assert tarry.get("/").body == b"one k"
    conf.up["origin"] = two.origin
    tarry.reload(conf)
    assert tarry.get("/").body == b"two k"


def test_hundred_reloads_leak_nothing(bed):
    worker, upstream = bed.worker(lambda r, c: handoff("relay", [call("tarry://up/")])), bed.upstream()
    conf = bed.conf(worker, upstream)
    tarry = bed.tarry(conf)

    def reloads(n):
        for i in range(n):
            conf.pool["queue_max"] = 100 + i
            conf.up["connect_timeout"] = f"{i + 1}s"
            tarry.reload(conf)
            assert tarry.get("/").status == 200
    reloads(20)
    before = tarry.descriptors(), tarry.private_memory()
    reloads(80)
    assert tarry.descriptors() <= before[0] + 2
    assert tarry.sanitized or tarry.private_memory() <= before[1] + (1 << 20)


@pytest.mark.slow
def test_reloads_under_load_fail_no_request(bed):
    """SIGHUP every 100 ms for 10 s, with plain requests, relays and resumes all the while."""
    upstream = bed.upstream(lambda r, c: (c.server.stopping.wait(0.02), Reply(200, r.target))[1])

    def work(r, c):
        if r.kind == "resume":
            return Reply(200, r.enclosed[0].body)
        if r.target.startswith("/plain"):
            return Reply(200, r.target)
        return handoff("relay" if r.target.startswith("/relay") else "resume /done", [call(upstream.origin + r.target)])
    workers = [bed.worker(work), bed.unix_worker(work, keep_alive=False)]
    conf = bed.conf(workers, upstream)
    conf.up["retries"] = 0
    tarry = bed.tarry(conf)
    stop, failed, done = threading.Event(), [], [0]

    def client(kind, keep):
        n, c = 0, None
        while not stop.is_set():
            n += 1
            try:
                c = c if keep and c else tarry.client()
                got = c.request("GET", f"/{kind}/{n}")
                if got.status != 200 or got.body != f"/{kind}/{n}".encode():
                    failed.append(got)
                if not keep:
                    c.close()
                elif got.headers.get("Connection") == "close":
                    c.close()
                    c = None
            except (OSError, AssertionError) as e:
                failed.append(e)
                c = None
            done[0] += 1
    tasks = [bed.background(client, kind, keep) for kind in ("plain", "relay", "resume") for keep in (True, False)]
    extra = f"127.0.0.1:{free_port()}"
    end = time.monotonic() + 10
    sent = 0
    while time.monotonic() < end:
        sent += 1
        conf.pool["queue_timeout"] = f"{30 + sent % 7}s"
        conf.up["connect_timeout"] = f"{1 + sent % 5}s"
        conf.listens = {conf.address: {}, extra: {}} if sent % 2 else {conf.address: {}}
        conf.servers = {w.address: {"slots": 3 + sent % 3} for w in (workers if sent % 3 else workers[:1])}
        tarry.path.with_suffix(".new").write_text(conf.text())
        tarry.path.with_suffix(".new").rename(tarry.path)
        tarry.signal(signal.SIGHUP)
        time.sleep(0.1)
    stop.set()
    for t in tasks:
        t.result()
    assert failed == [], failed[:5]
    reloaded = sum("reloaded" in line for line in tarry.lines)
    assert reloaded >= 50 and done[0] >= 500, (reloaded, done)


# --- SIGTERM ---

def parked_site(bed, **top):
    gate = Gate()
    upstream = bed.upstream(lambda r, c: (gate.wait(), b"answer")[1])
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /done", [call(upstream.origin)]) if r.target == "/park" else OK,
                                resume=lambda r, c: Reply(200, r.enclosed[0].body)))
    return gate, bed.site(worker, upstream, top=top)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_SIGTERM_finishes_what_is_in_flight_and_exits_0(bed, number):
    gate, site = parked_site(bed, shutdown_timeout="60s")
    idle, parked = site.tarry.client(), site.tarry.client()
    assert idle.request().status == 200
    parked.send_request("GET", "/park")
    site.upstream.wait_for(1)
    site.tarry.signal(number)
    assert idle.wait_closed() == "eof"
    with pytest.raises(ConnectionRefusedError):
        eventually(lambda: site.tarry.client().close())
    assert site.tarry.alive
    gate.open()
    got = parked.read_response()
    assert got.body == b"answer" and got.headers.get("Connection") == "close" and parked.wait_closed() == "eof"
    site.tarry.wait_end(0)


def test_SIGTERM_waits_for_a_stream_and_for_a_worker(bed):
    gates = [Gate(), Gate()]

    def stream(r, c):
        c.send_head(headers={"Content-Type": "text/event-stream"})
        c.send_chunk("data: 1\n\n")
        gates[0].wait()
        c.send_chunk("data: 2\n\n")
        c.end_chunks()
    upstream = bed.upstream(stream)
    site = bed.site(bed.worker(lambda r, c: handoff("relay", [call(upstream.origin)]) if r.target == "/relay" else (gates[1].wait(), OK)[1]), upstream,
                    top={"shutdown_timeout": "60s"})
    relayed, slow = site.tarry.client(), site.tarry.client()
    relayed.send_request("GET", "/relay")
    response = relayed.begin()
    response.until(b"data: 1\n\n")
    slow.send_request("GET", "/slow")
    site.worker.wait_for(2)
    site.tarry.signal(signal.SIGTERM)
    site.tarry.wait_log("stopping")
    gates[0].open()
    assert response.read() == b"data: 1\n\ndata: 2\n\n"
    assert site.tarry.alive
    gates[1].open()
    assert slow.read_response().body == b"ok"
    site.tarry.wait_end(0)


def test_a_request_that_is_half_sent_at_SIGTERM_is_served(bed):
    site = bed.site(lambda r, c: Reply(200, r.body), top={"shutdown_timeout": "60s"})
    with site.tarry.client() as c:
        c.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nha")
        eventually(lambda: "reading" in site.tarry.stderr or nothing_read(site.tarry), "the head is read")
        site.tarry.signal(signal.SIGTERM)
        site.tarry.wait_log("stopping")
        c.send(b"lf")
        assert c.read_response("POST").body == b"half"
    site.tarry.wait_end(0)


def nothing_read(tarry):
    """No byte waits unread on a connection that tarry accepted: what was sent has been taken in."""
    port = f":{tarry.port:04X}"
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    mine = [row for row in rows if row[1].endswith(port) and row[3] == "01"]
    return mine and all(row[4].endswith(":00000000") for row in mine)


def test_a_second_SIGTERM_ends_it_at_once(bed):
    gate, site = parked_site(bed, shutdown_timeout="60s")
    with site.tarry.client() as parked:
        parked.send_request("GET", "/park")
        site.upstream.wait_for(1)
        site.tarry.signal(signal.SIGTERM)
        site.tarry.wait_log("stopping")
        since = time.monotonic()
        while site.tarry.process.poll() is None:  # within a second it is the same one: see test_master.py
            assert time.monotonic() - since < 60
            site.tarry.signal(signal.SIGTERM)
        site.tarry.wait_end(0, 1)
        parked.wait_closed()


def test_shutdown_timeout_bounds_the_wait(bed):
    gate, site = parked_site(bed, shutdown_timeout="300ms")
    with site.tarry.client() as parked:
        parked.send_request("GET", "/park")
        site.upstream.wait_for(1)
        site.tarry.signal(signal.SIGTERM)
        site.tarry.wait_end(0)
        parked.wait_closed()
    assert "shutdown_timeout" in site.tarry.stderr


def test_SIGHUP_while_stopping_is_ignored(bed):
    gate, site = parked_site(bed, shutdown_timeout="60s")
    with site.tarry.client() as parked:
        parked.send_request("GET", "/park")
        site.upstream.wait_for(1)
        site.tarry.signal(signal.SIGTERM)
        site.tarry.wait_log("stopping")
        site.tarry.signal(signal.SIGHUP)
        site.tarry.wait_log("SIGHUP ignored")
        with pytest.raises(ConnectionRefusedError):
            site.tarry.client()
        gate.open()
        assert parked.read_response().body == b"answer"
    site.tarry.wait_end(0)


# --- logs ---

def test_SIGUSR1_reopens_the_logs(bed):
    conf = bed.conf(bed.worker())
    conf.log["target"] = str(bed.folder / "t.log")
    tarry = bed.tarry(conf)
    log, access = bed.folder / "t.log", bed.folder / "access.log"
    assert tarry.get("/before").status == 200
    tarry.access.wait_for(lambda line: line["path"] == "/before")
    for path in (log, access):
        path.rename(path.with_suffix(".1"))
    tarry.signal(signal.SIGUSR1)
    eventually(lambda: log.exists() and access.exists(), "the new files")
    assert tarry.get("/after").status == 200
    tarry.access.wait_for(lambda line: line["path"] == "/after")
    assert [line["path"] for line in tarry.access.lines] == ["/after"]
    old = [json.loads(line)["path"] for line in access.with_suffix(".1").read_text().splitlines()]
    assert old == ["/before"]
    eventually(lambda: "exchange=" in log.read_text(), "debug lines in the new log")


def test_a_log_in_a_file_has_the_time(bed):
    conf = bed.conf(bed.worker())
    conf.log["target"] = str(bed.folder / "t.log")
    bed.tarry(conf).get("/")
    lines = (bed.folder / "t.log").read_text().splitlines()
    assert lines and all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", line) for line in lines)


def one_line(bed, format):
    """The access log's line about a resumed request."""
    upstream = bed.upstream(lambda r, c: Reply(200, b"answer"))
    conf = bed.conf(bed.worker(by_kind(request=lambda r, c: handoff("resume /done", [call(upstream.origin)] * 2), resume=OK)), upstream)
    conf.access_log["format"] = format
    tarry = bed.tarry(conf)
    tarry.post("/a?b=c", b"12345", {"User-Agent": 'an "agent"', "Referer": "http://from/"})
    path = bed.folder / "access.log"
    line, = eventually(lambda: path.exists() and path.read_text().splitlines(), "a line")
    return line


def test_access_log_as_json(bed):
    line = json.loads(one_line(bed, "json"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert (line["method"], line["path"], line["status"], line["peer"]) == ("POST", "/a?b=c", 200, "127.0.0.1")
    assert (line["bytes_in"], line["bytes_out"], line["hops"], line["calls"], line["end"]) == (5, 2, 2, 2, "complete")
    assert all(line[name] >= 0 for name in ("queue_ms", "worker_ms", "parked_ms", "total_ms")) and line["upstream"] == "up"
    assert line["queue_ms"] + line["worker_ms"] + line["parked_ms"] <= line["total_ms"] + 0.1


def test_access_log_as_combined(bed):
    line = one_line(bed, "combined")
    assert re.fullmatch(r'127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "POST /a\?b=c HTTP/1\.1" 200 2 '
                        r'"http://from/" "an \\(x22|")agent\\(x22|")"', line), line


def test_access_log_as_logfmt(bed):
    line = one_line(bed, "logfmt")
    fields = dict(re.findall(r'(\w+)=("[^"]*"|\S*)', line))
    assert fields["method"].strip('"') == "POST" and fields["path"].strip('"') == "/a?b=c" and fields["status"] == "200"
    assert fields["hops"] == "2" and fields["calls"] == "2" and fields["end"] == "complete"
    assert {"time", "exchange", "peer", "queue_ms", "worker_ms", "parked_ms", "total_ms", "bytes_in", "bytes_out"} <= set(fields)


def test_without_the_section_there_is_no_access_log(bed):
    conf = bed.conf(bed.worker())
    conf.access_log = None
    tarry = bed.tarry(conf)
    assert tarry.get("/quite/special").status == 200
    tarry.stop()
    assert not (bed.folder / "access.log").exists() and "/quite/special" not in tarry.stderr


def test_no_secret_is_logged_even_at_debug(bed):
    """Not the worker's secret, not a key of the conf, no cookie, no authorization, no body; whether it goes well or not."""
    (bed.folder / "secret").write_text("worker-s3cret\n")
    answers = [Reply(200, b"answer-s3cret", {"Set-Cookie": "upstream-s3cret"}), Reply(500, b"failure-s3cret"), None]

    def model(r, c):
        answer = answers[min(int(r.target[1:]), 2)]
        return answer or c.close()
    upstream = bed.upstream(model)
    kinds = iter(range(100))
    worker = bed.worker(by_kind(
        request=lambda r, c: handoff("resume /done", [call(f"{upstream.origin}/{next(kinds)}", b"prompt-s3cret", headers=[("X-Key", "call-s3cret")])],
                                     state="state-s3cret", headers=[("Set-Cookie", "session-s3cret=1")]) if r.target != "/bad" else
        handoff("resume /done", b"GET http://nowhere.example/ HTTP/1.1\r\nX: bad-s3cret\r\n\r\n"),
        resume=lambda r, c: Reply(200, b"final-s3cret")))
    conf = bed.conf(worker, upstream)
    conf.pool["secret_file"] = str(bed.folder / "secret")
    conf.up.update(set_header=["Authorization: Bearer conf-${E2E_KEY}"], retries=0)
    conf.access_log["format"] = "json"
    tarry = bed.tarry(conf, env={"E2E_KEY": "s3cret"})
    for target in ("/", "/", "/", "/bad"):
        tarry.post(target, b"body-s3cret", {"Cookie": "a=cookie-s3cret", "Authorization": "Basic auth-s3cret", "X-Api-Key": "header-s3cret"})
    with tarry.client() as c:
        c.send(b"POST / HTTP/1.1\r\nHost: a\r\nAuthorization: broken-s3cret\r\nA : b\r\n\r\n")
        c.read_response()
    tarry.reload(conf)
    tarry.reload(conf.text() + "foo = 1\n", refused=True)
    assert upstream.requests[0].headers.get("Authorization") == "Bearer conf-s3cret"
    assert worker.requests[0].headers.get("Tarry-Auth") == "worker-s3cret"
    tarry.stop()
    assert "s3cret" not in tarry.stderr
    assert "s3cret" not in (bed.folder / "access.log").read_text()


# --- several processes ---

@pytest.fixture
def two(bed):
    conf = bed.conf(bed.worker(lambda r, c: Reply(200, r.target)))
    conf.top["processes"] = 2
    tarry = bed.tarry(conf)
    assert len(tarry.children()) == 2
    return tarry


def serving(tarry, n=60):
    """Which children have connections of ours: with enough of them, both."""
    clients = [tarry.client() for _ in range(n)]
    for i, c in enumerate(clients):
        assert c.request("GET", f"/{i}").body == f"/{i}".encode()
    busy = {pid for pid in tarry.children() if len(os.listdir(f"/proc/{pid}/fd")) > 20}
    for c in clients:
        c.close()
    return busy


def test_two_processes_both_serve(two):
    assert serving(two) == set(two.children())
    assert [line.strip() for line in two.lines].count(READY) == 1


def test_a_process_that_dies_is_replaced(two):
    before = two.children()
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(two.children()) == 2 and before[0] not in two.children(), "another process")
    assert before[1] in two.children()
    eventually(lambda: serving(two) == set(two.children()), "both to serve")
    two.wait_log(re.compile(rf"process {before[0]} ended by signal 9"))


def test_processes_share_a_unix_socket(bed):
    path = bed.folder / "shared.sock"
    conf = bed.conf(bed.worker(lambda r, c: Reply(200, r.target)))
    conf.top["processes"] = 2
    conf.listens[f"unix:{path}"] = {}
    tarry = bed.tarry(conf)
    for i in range(20):
        with Client(f"unix:{path}") as c:
            assert c.request("GET", f"/{i}").body == f"/{i}".encode()
    tarry.stop()
    assert not path.exists()


def test_signals_reach_all_processes(two):
    conf = two.conf
    conf.routes = [("/only/", {"workers": "app"})]
    since = len(two.lines)
    two.write(conf)
    two.signal(signal.SIGHUP)
    eventually(lambda: sum("reloaded" in line for line in two.lines[since:]) == 2, "both to reload")
    assert {two.get("/x").status for _ in range(20)} == {404}
    children = two.children()
    two.signal(signal.SIGTERM)
    two.wait_end(0)
    assert not [pid for pid in children if os.path.exists(f"/proc/{pid}")]


def test_processes_do_not_outlive_a_killed_master(two):
    children = two.children()
    two.kill()
    two.process = None
    eventually(lambda: not [pid for pid in children if alive(pid)], "the processes to end")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_exchange_ids_differ_over_processes(two):
    for _ in range(40):
        assert two.get("/x").status == 200
    two.access.wait_for(n=40)
    assert len({line["exchange"] for line in two.access.lines}) == 40


def test_the_limit_of_descriptors_is_raised_to_the_hard_one(bed):
    tarry = bed.tarry(bed.conf(bed.worker()), preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024)))
    assert resource.prlimit(tarry.pid, resource.RLIMIT_NOFILE)[0] == 1024
