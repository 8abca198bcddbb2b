"""What a database server sees of requests that are parked: nothing."""

import subprocess

import pytest
from behind import Reply, Site, new_bed, show
from harness.base import Gate
from postgres import Postgres, binaries

from tarry.runs import suspended

if binaries() is None:
    pytest.skip("no PostgreSQL server here", allow_module_level=True)
try:
    import psycopg  # noqa: F401
except ImportError:
    pytest.importorskip("psycopg2")

pytestmark = pytest.mark.slow
ANSWER = '{"choices": [{"message": {"content": "echo:q"}}]}'


@pytest.fixture(scope="module")
def server():
    server = Postgres()
    yield server
    print(server.describe())
    server.stop()


@pytest.fixture
def bed(tmp_path):
    bed = new_bed(tmp_path)
    yield bed
    show(bed)
    bed.stop()


def project(bed, server, gate, **env):
    """Its model answers when the gate is opened."""

    def model(request, connection):
        gate.wait()
        return Reply(200, ANSWER, {"Content-Type": "application/json"})

    more = {"args": ["--worker-class", "gthread", "--threads", "4"], "slots": 4} if env.pop("THREADS", None) else {}
    environment = {"TARRY_TEST_DATABASE": f"postgresql:app:{server.port}:postgres", **env}
    return Site(bed, upstream=bed.upstream(model), env=environment, **more)


@pytest.mark.parametrize("mode", ["autocommit", "atomic"])
@pytest.mark.parametrize("server_class, age, idle", [("sync", 0, 0), ("sync", 60, 1), ("gthread", 0, 0)])
def test_no_connection_is_held_while_parked_and_no_transaction_ever(bed, server, mode, server_class, age, idle):
    """With CONN_MAX_AGE the worker keeps its one connection, as it does without Tarry; it is idle, and never in a transaction."""
    gate = Gate()
    env = {"CONN_MAX_AGE": str(age), "ATOMIC_REQUESTS": str(int(mode == "atomic"))}
    if server_class == "gthread":
        env["THREADS"] = "4"
    site = project(bed, server, gate, **env)
    mark = f"{mode} {server_class} {age}".replace(" ", "-")
    names = ["create_afterwards", "savepoint", "atomic_under_except"]  # writes before the call are in a block, rolled back
    running = [bed.background(site.tarry.get, f"/rows/{names[n % 3]}/?mark={mark}") for n in range(12)]
    site.provider.wait_for(12)
    server.wait_connections(["idle"] * idle)
    assert server.ask(f"SELECT count(*) FROM project_row WHERE text = '{mark}'") == ["0"]
    assert server.connections() == ["idle"] * idle and all(r.running for r in running)
    gate.open()
    assert [r.result().text for r in running] == ["echo:q"] * 12
    assert server.ask(f"SELECT count(*) FROM project_row WHERE text = '{mark}'") == ["12"]


@pytest.mark.skipif(bool(suspended.missing()), reason=suspended.missing())
@pytest.mark.parametrize("age", [0, 60])
def test_a_suspended_run_holds_no_connection_and_writes_once(bed, server, age):
    gate = Gate()
    site = project(bed, server, gate, TARRY_RESUME="auto", CONN_MAX_AGE=str(age))
    mark = f"suspended {age}"
    running = [bed.background(site.tarry.get, f"/rows/create/?mark={mark.replace(' ', '%20')}") for _ in range(12)]
    site.provider.wait_for(12)
    server.wait_connections([])
    assert server.ask(f"SELECT count(*) FROM project_row WHERE text = '{mark}'") == ["12"]
    gate.open()
    assert [r.result().text for r in running] == ["echo:q"] * 12
    assert server.ask(f"SELECT count(*) FROM project_row WHERE text = '{mark}'") == ["12"]


@pytest.mark.skipif(bool(suspended.missing()), reason=suspended.missing())
@pytest.mark.parametrize("kind", ["advisory", "setting", "table"])
def test_what_the_session_keeps_is_there_after_the_call(bed, server, kind):
    """A run that is suspended closes its connection, so one that has changed the session is run again instead."""
    gate = Gate()
    gate.open()
    site = project(bed, server, gate, TARRY_RESUME="auto")
    running = [bed.background(site.tarry.get, f"/rows/session_{kind}/?mark={n}") for n in range(5)]
    assert [r.result().json() for r in running] == [{"kept": True, "text": "echo:q"}] * 5


def test_a_lock_is_released_while_the_call_is_out(bed, server):
    """select_for_update around a call locks on each run anew: what was read before the call has to be looked at again after it."""
    gate = Gate()
    site = project(bed, server, gate)
    (pk,) = server.ask("INSERT INTO project_row (text) VALUES ('before') RETURNING id")
    running = bed.background(site.tarry.get, f"/rows/locked/?pk={pk}")
    site.provider.wait_for(1)
    server.wait_connections([])
    server.ask(
        f"SELECT 1 FROM project_row WHERE id = {pk} FOR UPDATE NOWAIT", f"UPDATE project_row SET text = 'between' WHERE id = {pk}"
    )
    gate.open()
    assert running.result().json() == {"seen": "between", "text": "echo:q"}
    assert server.ask(f"SELECT text FROM project_row WHERE id = {pk}") == ["between, locked"]


def test_a_lock_is_a_lock_where_nothing_is_handed_off(server):
    """That the test above can fail: a row that is locked is refused."""
    server.ask("INSERT INTO project_row (text) VALUES ('held')")
    select = "SELECT 1 FROM project_row WHERE text = 'held' FOR UPDATE"
    holder = subprocess.Popen(
        ["psql", "-XqAt", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-d", "app"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        holder.stdin.write(f"BEGIN;\n{select};\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "1\n"
        with pytest.raises(subprocess.CalledProcessError):
            server.ask(select + " NOWAIT")
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()
