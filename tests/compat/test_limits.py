"""How large a header field may be that Tarry sends, and how many of them a server takes: found by trying, without Tarry."""

import pytest

import stacks
from harness import Client, Reply, Reset, Truncated, by_kind, call, free_port, handoff
from other_servers import OTHERS
from sites import Started

MOST_BYTES, MOST_FIELDS = 100_000, 1_000
STATE = 8_000  # the largest Tarry-State
FIELDS = 40  # a browser's and Tarry's own together are fewer

PYTHON = stacks.STACKS["django-5.2"]
# key: (title, server, further arguments, whether Tarry-State of every size must come through)
SERVERS = {
    "gunicorn": ("gunicorn", "gunicorn-sync", (), True),
    "gunicorn-more": ("gunicorn, `limit_request_fields = 200`, `limit_request_field_size = 16380`", "gunicorn-sync",
                      ("--limit-request-fields", "200", "--limit-request-field_size", "16380"), True),
    "granian": ("Granian", "granian", (), True),
    "uwsgi-default": ("uWSGI", "uwsgi", (), False),
    "uwsgi": ("uWSGI, `buffer-size = 32768`", "uwsgi", (), True),
    "waitress": ("waitress", "waitress", (), True),
    "runserver": ("Django's runserver", "runserver", (), True),
}


def start(bed, key):
    if key in OTHERS:
        program = bed.folder / OTHERS[key].file
        program.write_text(OTHERS[key].probe)
        made = OTHERS[key].start(bed, program, {})
    else:
        _, server, more, _ = SERVERS[key]
        port = free_port()
        without = ["--buffer-size"] if key == "uwsgi-default" else []
        command = [word.replace("django_wsgi:", "probe:") for word in stacks.command_of(stacks.SERVERS[server], PYTHON, port, without)]
        command[-1:-1] = more
        env = {"PYTHONPATH": str(stacks.APP), "DJANGO_SETTINGS_MODULE": "probe"}
        made = bed.add(Started(key, command, port, env, str(bed.folder)))
    made.wait_ready("/")
    return made


def outcome(server, fields):
    """The status, or what happened instead."""
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    with Client(server.address) as client:
        try:
            client.send(f"GET / HTTP/1.1\r\nHost: a\r\n{head}\r\n")
            return str(client.read_response().status)
        except (Truncated, Reset, OSError):
            return "closed"


def largest(works, most):
    """The largest number up to `most` with which it works, and what comes of the next one."""
    good, bad = 1, most + 1
    assert works(good) == "200"
    if works(most) == "200":
        return most, None
    while bad - good > 1:
        middle = (good + bad) // 2
        if works(middle) == "200":
            good = middle
        else:
            bad = middle
    return good, works(bad)


@pytest.mark.parametrize("key", [*SERVERS, *OTHERS])
def test_what_a_server_takes(bed, found, key):
    server = start(bed, key)
    size, size_beyond = largest(lambda n: outcome(server, [("X-Probe", "a" * n)]), MOST_BYTES)
    fields, fields_beyond = largest(lambda n: outcome(server, [(f"X-{i}", "a") for i in range(n - 1)]), MOST_FIELDS)
    found("limits", key=key, size=size, size_beyond=size_beyond, fields=fields, fields_beyond=fields_beyond)
    assert fields >= FIELDS and (size >= STATE or not SERVERS.get(key, (0, 0, 0, True))[3])


def test_how_many_fields_tarry_adds(bed, found):
    """Beside those of the client: at hop 0, and when the request is run again."""
    upstream = bed.upstream(lambda request, connection: b"an answer")
    worker = bed.worker(by_kind(request=lambda r, c: handoff("replay", [call(upstream.origin + "/")], state="s"),
                                replay=lambda r, c: Reply(200, b"done")))
    conf = bed.conf(worker, upstream)
    (bed.folder / "secret").write_text("a-secret-for-the-suite\n")
    conf.pool["secret_file"] = str(bed.folder / "secret")
    bed.tarry(conf).get("/")
    first, again = (len(list(request.headers)) - 1 for request in worker.requests)  # but for Host
    found("added", first=first, again=again)
    assert 5 < first < again < 25
