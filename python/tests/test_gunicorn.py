"""The parts of tarry.gunicorn that need no gunicorn; the whole of it is tried on several versions by tests/compat."""

import importlib
import os
import subprocess
import sys
import types

import pytest

from tarry.servers import binary, origins
from tarry.servers.gunicorn import arbiter, config, middleware
from tarry.servers.gunicorn.client import RestoreClient
from tarry.servers.gunicorn.conf import Site, quoted, text_of
from tarry.servers.gunicorn.proxy import text_address
from tarry.servers.gunicorn.worker import Place
from tarry.settings import settings

SECRET = "made-for-this-start"


def cfg(**more):
    """gunicorn's settings as they are by default."""
    values = dict(
        graceful_timeout=30, timeout=30, keepalive=2, backlog=2048, threads=1, loglevel="info", errorlog="-", syslog=False, uid=0, gid=0,
        certfile=None, keyfile=None, ca_certs=None, cert_reqs=0, proxy_protocol=False, proxy_allow_ips=["127.0.0.1"],
        forwarded_allow_ips=["127.0.0.1"], limit_request_fields=100, limit_request_line=4094,
        secure_scheme_headers={"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"},
    )  # fmt: skip
    return types.SimpleNamespace(**{**values, **more})


SITE = Site(["127.0.0.1:8000"], ["/run/0.sock", "/run/1.sock"], 1, "/run/secret", None, None)


# --- origins ---


def test_well_known_services_are_origins():
    found = {one.origin: one for one in origins.all_origins({})}
    assert {"https://api.openai.com", "https://api.anthropic.com", "https://generativelanguage.googleapis.com"} <= set(found)
    assert all(origins.origin_of(origin) == origin for origin in found)
    assert len({one.name for one in found.values()}) == len(found)


@pytest.mark.parametrize("text, origin", [
    ("https://LLM.example.com", "https://llm.example.com"),
    ("https://llm.example.com/v1/?x", "https://llm.example.com"),
    ("https://llm.example.com:443", "https://llm.example.com"),
    ("http://10.0.0.5:8000/v1", "http://10.0.0.5:8000"),
    ("http://[::1]:8000", "http://[::1]:8000"),
    ("llm.example.com", None),
    ("ftp://llm.example.com", None),
    ("https://", None),
    ("https://a b", None),
    ("https://a:99999", None),
    ('https://a"b', None),
])  # fmt: skip
def test_an_origin_is_read_from_a_url(text, origin):
    assert origins.origin_of(text) == origin


def test_origins_come_from_the_environment():
    environ = {"TARRY_ORIGINS": "https://a.example, http://b.example:81 https://api.openai.com", "AWS_REGION": "eu-west-1",
               "OPENAI_BASE_URL": "https://proxy.example/v1", "OLLAMA_HOST": "0.0.0.0", "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com/"}  # fmt: skip
    found = {one.origin: one.source for one in origins.all_origins(environ) if one.source != "built in"}
    assert found == {
        "https://a.example": "TARRY_ORIGINS", "http://b.example:81": "TARRY_ORIGINS", "https://proxy.example": "OPENAI_BASE_URL",
        "https://x.openai.azure.com": "AZURE_OPENAI_ENDPOINT", "https://bedrock-runtime.eu-west-1.amazonaws.com": "AWS_REGION"}  # fmt: skip


def test_a_mistake_in_the_origins_is_named():
    with pytest.raises(origins.BadOrigin, match="'api.example.com' is no origin"):
        origins.all_origins({"TARRY_ORIGINS": "api.example.com"})


def test_the_command_lists_origins():
    environ = {**os.environ, "TARRY_ORIGINS": "https://mine.example"}
    said = subprocess.run([sys.executable, "-m", "tarry", "origins"], env=environ, capture_output=True, text=True)
    assert said.returncode == 0 and "https://api.openai.com" in said.stdout and "https://mine.example" in said.stdout
    wrong = subprocess.run([sys.executable, "-m", "tarry", "origins"], env={**environ, "TARRY_ORIGINS": "x"}, capture_output=True, text=True)
    assert wrong.returncode == 1 and "no origin" in wrong.stderr
    nonsense = subprocess.run([sys.executable, "-m", "tarry", "nonsense"], capture_output=True, text=True)
    assert nonsense.returncode == 2 and "'nonsense' is no command" in nonsense.stderr


def test_the_command_helps_and_says_what_is_there():
    def run(*args):
        environ = {**os.environ, "TARRY_BINARY": "/usr/bin/true"}
        done = subprocess.run([sys.executable, "-m", "tarry", *args], env=environ, capture_output=True, text=True)
        return done.returncode, done.stdout

    code, text = run("help")
    assert code == 0 and run("--help") == run("-h") == (0, text) and run()[0] == 2
    for command in ("origins", "binary", "info", "settings"):
        assert f"\n  {command} " in text
    assert run("binary") == (0, "/usr/bin/true\n")
    code, info = run("info")
    assert code == 0 and "proxy       /usr/bin/true" in info and "suspending  " in info and "httpx" in info
    code, listed = run("settings")
    assert code == 0 and "suspend_seconds    900.0" in listed and "resume             'rerun'" in listed


# --- the binary ---


def test_a_script_of_its_own_is_not_the_binary(tmp_path, monkeypatch):
    script, real = tmp_path / "a" / "tarry", tmp_path / "b" / "tarry"
    for path, text in ((script, "#!/usr/bin/python3\n"), (real, "\x7fELF")):
        path.parent.mkdir()
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.delenv("TARRY_BINARY", raising=False)
    monkeypatch.setattr(binary, "BUNDLED", tmp_path / "none")
    monkeypatch.setattr(binary, "ALSO", ())
    monkeypatch.setenv("PATH", f"{script.parent}:{real.parent}")
    assert binary.find() == str(real)
    monkeypatch.setenv("PATH", str(script.parent))
    assert binary.find() is None
    with pytest.raises(SystemExit, match="without the compiled proxy"):
        binary.main()
    monkeypatch.setattr(binary, "BUNDLED", real)
    assert binary.find() == str(real)
    monkeypatch.setenv("TARRY_BINARY", "/elsewhere/tarry")
    assert binary.find() == "/elsewhere/tarry"


# --- the conf ---


def test_the_conf_has_what_gunicorn_says(monkeypatch):
    monkeypatch.setenv("TARRY_ORIGINS", "https://mine.example")
    text = text_of(cfg(timeout=7, graceful_timeout=9, loglevel="warning", keepalive=5), SITE._replace(access_log="-", override="/app/tarry.conf"))
    for line in ('shutdown_timeout = "9s"', 'response_timeout = "12s"', 'keep_alive_timeout = "5s"', 'listen "127.0.0.1:8000" {',
                 'server "unix:/run/1.sock" { slots = 1 }', 'log { level = "warn" target = "stderr" }',
                 'access_log { target = "stdout" format = "combined" }', '{ origin = "https://mine.example" }',
                 'trusted_proxies = { "127.0.0.1/32", "unix" }', "header_fields_max = 100", "target_max = 4094"):  # fmt: skip
        assert line in text, line
    assert text.endswith('override("/app/tarry.conf")\n')
    assert "certificate" not in text and "proxy_protocol" not in text


def test_tls_and_the_proxy_protocol_are_carried_over():
    text = text_of(cfg(certfile="/c", ca_certs="/ca", cert_reqs=2, proxy_protocol="auto", proxy_allow_ips="10.0.0.1", timeout=0), SITE)
    for line in ('certificate = "/c"', 'private_key = "/c"', 'client_ca_file = "/ca"', 'client_certificate = "required"',
                 "proxy_protocol = true", '"10.0.0.1/32"', 'response_timeout = "1d"'):  # fmt: skip
        assert line in text, line


def test_everybody_trusted_does_not_lift_the_limits_by_address():
    text = text_of(cfg(forwarded_allow_ips="*"), SITE)
    assert '"10.0.0.0/8"' in text and "0.0.0.0/0" not in text


def test_strings_are_quoted_for_the_conf():
    assert quoted('a"b\\c${D}') == '"a\\"b\\\\c\\${D}"'


@pytest.mark.parametrize("name, text", [
    (("127.0.0.1", 80), "127.0.0.1:80"),
    (("::", 80, 0, 0), "[::]:80"),
    ("/run/x.sock", "unix:/run/x.sock"),
    (b"/run/x.sock", "unix:/run/x.sock"),
])  # fmt: skip
def test_addresses_are_written_for_the_conf(name, text):
    assert text_address(name) == text


# --- the client ---


def restored(more=None, server=("0.0.0.0", 8000), **environ):
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        return []

    statuses = []
    start = lambda status, headers, exc_info=None: statuses.append(status)  # noqa: E731
    environ = {"HTTP_TARRY_AUTH": SECRET, "HTTP_TARRY_PEER": "1.2.3.4:5678", "HTTP_TARRY_SCHEME": "http", **environ}
    RestoreClient(app, cfg(**(more or {})), SECRET, server)(environ, start)
    return seen, statuses


def test_the_app_sees_the_peer(monkeypatch):
    monkeypatch.setattr(settings, "secret", "the app's own")
    seen, _ = restored()
    assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == ("1.2.3.4", "5678")
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"], seen["wsgi.url_scheme"]) == ("0.0.0.0", "8000", "http")
    assert seen["HTTP_TARRY_AUTH"] == "the app's own" and "HTTP_TARRY_PEER" not in seen and "HTTP_TARRY_SCHEME" not in seen
    assert restored(HTTP_TARRY_PEER="[::1]:80")[0]["REMOTE_ADDR"] == "::1"
    assert restored(HTTP_TARRY_PEER="unix")[0]["REMOTE_ADDR"] == ""


@pytest.mark.parametrize("allowed, peer, fields, scheme", [
    (["127.0.0.1"], "127.0.0.1:1", {"HTTP_X_FORWARDED_PROTO": "https"}, "https"),
    (["127.0.0.1"], "127.0.0.1:1", {"HTTP_X_FORWARDED_PROTO": "http"}, "http"),
    (["127.0.0.1"], "127.0.0.1:1", {"HTTP_X_FORWARDED_SSL": "on"}, "https"),
    (["127.0.0.1"], "127.0.0.1:1", {}, "http"),
    (["127.0.0.1"], "1.2.3.4:1", {"HTTP_X_FORWARDED_PROTO": "https"}, "http"),
    (["10.0.0.0/8"], "10.9.9.9:1", {"HTTP_X_FORWARDED_PROTO": "https"}, "https"),
    ("*", "1.2.3.4:1", {"HTTP_X_FORWARDED_PROTO": "https"}, "https"),
    (["10.0.0.1"], "unix", {"HTTP_X_FORWARDED_PROTO": "https"}, "https"),
    (["10.0.0.1"], "[::ffff:10.0.0.1]:1", {"HTTP_X_FORWARDED_PROTO": "https"}, "https"),
])  # fmt: skip
def test_the_scheme_is_a_trusted_proxys(allowed, peer, fields, scheme):
    seen, _ = restored({"forwarded_allow_ips": allowed}, HTTP_TARRY_PEER=peer, **fields)
    assert seen["wsgi.url_scheme"] == scheme


def test_contradictory_schemes_are_refused_as_gunicorn_does():
    both = {"HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_SSL": "off"}
    assert restored({"forwarded_allow_ips": "*"}, **both) == ({}, ["400 Bad Request"])
    assert restored({"forwarded_allow_ips": ["9.9.9.9"]}, **both)[0]["wsgi.url_scheme"] == "http"


def test_a_request_past_tarry_is_refused():
    assert restored(HTTP_TARRY_AUTH="guessed") == ({}, ["403 Forbidden"])
    assert restored(HTTP_TARRY_AUTH="") == ({}, ["403 Forbidden"])


# --- the config ---


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(config.VARIABLE, raising=False)
    monkeypatch.setattr(config, "patch_all", lambda **options: None)
    monkeypatch.setattr(middleware, "insert_when_django_is_loaded", lambda: None)
    monkeypatch.setattr(arbiter, "hook", arbiter.Hook())
    return tmp_path


def test_without_a_config_there_are_the_hooks(here):
    assert set(config.load()) == set(config.HOOKS)


def test_the_users_config_and_hooks_come_first(here, monkeypatch):
    (here / "gunicorn.conf.py").write_text("workers = 3\n_private = 1\ncalls = []\ndef child_exit(server, worker): calls.append((server, worker))\n")
    ours = []

    def hook(server, worker):
        ours.append(list(names["calls"]))

    monkeypatch.setitem(config.HOOKS, "child_exit", hook)
    names = config.load()
    assert names["workers"] == 3 and "_private" not in names
    assert names["child_exit"].__code__.co_argcount == 2
    names["child_exit"]("s", "w")
    assert ours == [[("s", "w")]]


def test_another_config_is_named_by_the_environment(here, monkeypatch):
    (here / "other.py").write_text("workers = 5\n")
    for location in ("other.py", f"file:{here}/other.py", "python:other"):
        monkeypatch.setenv(config.VARIABLE, location)
        monkeypatch.syspath_prepend(str(here))
        importlib.invalidate_caches()
        assert config.load()["workers"] == 5
    monkeypatch.setenv(config.VARIABLE, "missing.py")
    with pytest.raises(RuntimeError, match="'missing.py'.*doesn't exist"):
        config.load()


def test_a_broken_config_ends_as_gunicorn_ends(here, capsys):
    (here / "gunicorn.conf.py").write_text("workers = \n")
    with pytest.raises(SystemExit) as end:
        config.load()
    assert end.value.code == 1 and "Failed to read config file" in capsys.readouterr().err


# --- a worker's address ---


def test_a_worker_takes_an_address_over_and_gives_up_only_its_own(tmp_path):
    number = str(tmp_path / "0.sock")
    with Place(number, str(tmp_path / "w1.sock"), 5) as first, Place(number, str(tmp_path / "w2.sock"), 5) as second:
        first.appear()
        second.appear()
        first.vanish()
        assert os.path.exists(number) and os.path.samestat(os.stat(number), os.stat(second.own))
        second.vanish()
        assert os.listdir(tmp_path) == []


def test_a_leaving_worker_serves_those_that_have_connected(tmp_path):
    import socket

    number = str(tmp_path / "0.sock")
    with Place(number, str(tmp_path / "w1.sock"), 5) as place, socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
        place.appear()
        early.connect(number)
        place.disappear()
        with pytest.raises(FileNotFoundError):
            late.connect(number)
        assert not place.is_empty()  # the early one
        with pytest.raises(ConnectionRefusedError):
            late.connect(place.own)
        place.accept()[0].close()
        assert place.is_empty()
        with pytest.raises(BlockingIOError):
            place.accept()


# --- the folder ---


def test_folders_of_dead_arbiters_are_removed_and_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(arbiter, "temp_folder", lambda: str(tmp_path))
    hooks = [arbiter.Hook() for _ in range(2)]
    for hook in hooks:
        monkeypatch.setattr(arbiter, "hook", hook)
        arbiter.make_folder(cfg())
    begun = tmp_path / f"{arbiter.PREFIX}1-begun"
    begun.mkdir()
    hooks[0].lock.close()  # as the death of its process does
    arbiter.remove_leftovers()
    assert not os.path.exists(hooks[0].folder) and os.path.exists(hooks[1].folder) and begun.exists()
    hooks[1].lock.close()


# --- gunicorn's settings ---


def gunicorn_cfg(**given):
    config = pytest.importorskip("gunicorn.config")
    made = config.Config()
    for name, value in given.items():
        made.set(name, value)
    return made


def test_every_setting_of_this_gunicorn_is_known():
    from tarry.servers.gunicorn import options

    kinds = [options.AS_EVER, options.CARRIED, options.WITHOUT_EFFECT, options.REFUSED]
    unknown = [name for name in gunicorn_cfg().settings if sum(name in kind for kind in kinds) != 1]
    assert unknown == [], "say in options.py and docs/gunicorn.md what becomes of them"


@pytest.mark.parametrize("given", [
    {"ciphers": "ALL"}, {"permit_obsolete_folding": True}, {"strip_header_spaces": True}, {"casefold_http_method": True},
    {"ssl_context": lambda config, default: default()}, {"http2_max_frame_size": 32768}, {"forwarder_headers": "SCRIPT_NAME"},
    {"dirty_apps": ["a:B"]}, {"protocol": "uwsgi"}, {"permit_unconventional_http_method": True}, {"http2_cleartext": "both"},
])  # fmt: skip
def test_what_cannot_be_carried_over_is_refused_with_the_remedy(given):
    from tarry.servers.gunicorn import options

    (name,) = given
    if name not in gunicorn_cfg().settings:
        pytest.skip(f"this gunicorn has no {name}")
    assert options.refusal(gunicorn_cfg()) == ""
    why = options.refusal(gunicorn_cfg(**given))
    assert f"the setting {name}" in why and options.REFUSED[name] in why


def test_header_map_and_streams_are_carried_over():
    assert "underscore_headers" not in text_of(cfg(header_map="drop"), SITE)
    assert 'underscore_headers = "refuse"' in text_of(cfg(header_map="refuse"), SITE)
    assert 'underscore_headers = "pass"' in text_of(cfg(header_map="dangerous"), SITE)
    assert "http2_max_streams = 7" in text_of(cfg(http2_max_concurrent_streams=7), SITE)


def test_an_access_log_of_the_users_own_form_stays_with_the_workers():
    from tarry.servers.gunicorn import options

    assert not options.keeps_access_log(gunicorn_cfg(accesslog="-"))
    assert options.keeps_access_log(gunicorn_cfg(access_log_format="%(h)s"))
    assert options.keeps_access_log(gunicorn_cfg(logger_class="my.Logger"))


def test_the_workers_access_log_has_one_line_a_request():
    import datetime
    import time

    from tarry.runs.exchange import ENVIRON_KEY, Exchange
    from tarry.servers.gunicorn.worker import one_line_a_request

    lines = []
    log = one_line_a_request(lambda resp, req, environ, took: lines.append((resp.status, took.total_seconds())))
    exchange = Exchange.alone("x")
    exchange.started = time.time() - 5

    def visit(status, kind="request", **headers):
        exchange.kind = kind
        resp = types.SimpleNamespace(status=status, headers=[(name.replace("_", "-"), value) for name, value in headers.items()])
        log(resp, None, {ENVIRON_KEY: exchange}, datetime.timedelta(seconds=0.1))

    visit("202 Accepted", Tarry_Then="replay")
    visit("202 Accepted", Tarry_Then="trailer")
    visit("200 OK", kind="replay")
    visit("202 Accepted", Tarry_Then="relay")
    visit("204 No Content", kind="notify")
    log(types.SimpleNamespace(status="200 direct", headers=[]), None, {}, datetime.timedelta(seconds=0.1))
    assert [status for status, _ in lines] == ["200 OK", "202 Accepted", "200 direct"]
    assert lines[0][1] >= 5 and lines[2][1] == 0.1
