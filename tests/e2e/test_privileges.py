"""From root to the conf's user: what is given up, what still works afterwards, and what the kernel keeps away."""

import ctypes
import fcntl
import grp
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile

import pytest

from harness import Client, Reply, call, eventually, free_port, handoff
from harness.base import DEADLINE
from harness.tarry import REPO, Conf, Tarry, check_conf, find_binary



def OK(request, conn):
    return Reply(200, b"ok")


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def place():
    """A folder that everybody may enter (pytest's own are not), with root's keys in it and room for nobody's files."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tarry-e2e-"))
    folder.chmod(0o755)
    for name in ("logs", "temp", "run"):
        (folder / name).mkdir()
        os.chown(folder / name, NOBODY.pw_uid, NOBODY.pw_gid)
    (folder / "keys").mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


def certificate(folder, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9", "-subj", f"/CN={name}",
                    "-keyout", folder / "new.key", "-out", folder / "new.crt"], check=True, stderr=subprocess.DEVNULL)
    for kind in ("key", "crt"):
        (folder / f"new.{kind}").chmod(0o600)
        (folder / f"new.{kind}").rename(folder / f"site.{kind}")


def low_port():
    """A free address of loopback with a port that only root may bind."""
    for port in range(1023, 600, -1):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return f"127.0.0.1:{port}"
            except OSError:
                pass
    raise AssertionError("no free port below 1024")


def privileged_conf(place, worker, processes=1):
    certificate(place / "keys", "one.example")
    (place / "keys" / "secret").write_text("worker-secret\n")
    (place / "keys" / "secret").chmod(0o600)
    conf = Conf(place, [worker])
    conf.top.update(user="nobody", processes=processes, temp_dir=str(place / "temp"))
    conf.access_log["target"] = str(place / "logs" / "access.log")
    conf.pool["secret_file"] = str(place / "keys" / "secret")
    conf.tls = f"127.0.0.1:{free_port()}"
    conf.listens[conf.tls] = {"certificate": str(place / "keys" / "site.crt"), "private_key": str(place / "keys" / "site.key")}
    return conf


def start(bed, place, conf, **more):
    tarry = Tarry(place, conf, start=False, **more)
    bed.add(tarry)
    tarry.path.chmod(0o644)
    tarry.start()
    return tarry


def status_of(pid):
    return dict(re.findall(r"^(\w+):\s*(.*)$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M))


def everyone(tarry):
    return [tarry.pid, *tarry.children()]


def subject(address):
    """The common name in the certificate that the listener shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), DEADLINE) as s, context.wrap_socket(s) as t:
        der = t.getpeercert(binary_form=True)
    out = subprocess.run(["openssl", "x509", "-inform", "der", "-noout", "-subject"], input=der, capture_output=True, check=True).stdout
    return out.decode().rpartition("=")[2].strip()


def reload(tarry, conf=None):
    """SIGHUP, until every process has taken it."""
    since, n = len(tarry.lines), max(1, len(tarry.children()))
    if conf:
        tarry.write(conf)
    tarry.signal(signal.SIGHUP)
    eventually(lambda: sum("reloaded" in line for line in tarry.lines[since:]) == n, "every process to reload")


# --- the drop ---

@root_only
@pytest.mark.parametrize("processes", [1, 2])
def test_root_becomes_the_user_for_good(bed, place, processes):
    tarry = start(bed, place, privileged_conf(place, bed.worker(OK), processes), env={"E2E_KEY": "s3cret"})
    assert tarry.get("/").status == 200
    assert len(everyone(tarry)) == (1 if processes == 1 else 3)
    for pid in everyone(tarry):
        s = status_of(pid)
        assert set(s["Uid"].split()) == {str(NOBODY.pw_uid)} and set(s["Gid"].split()) == {str(NOBODY.pw_gid)}, s
        assert set(s["Groups"].split()) <= {str(NOBODY.pw_gid)}
        assert {int(s[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd")} == {0}, s
        assert s["NoNewPrivs"] == "1"
        if not tarry.sanitized:
            # Not dumpable: neither the environment nor the memory is the user's to read, and there is no core.
            assert os.stat(f"/proc/{pid}/environ").st_uid == 0 and os.stat(f"/proc/{pid}/mem").st_uid == 0
            assert re.search(r"Max core file size +0 +0 ", pathlib.Path(f"/proc/{pid}/limits").read_text())


@root_only
def test_the_broker_can_read_files_and_bind_ports_and_nothing_else(bed, place):
    tarry = start(bed, place, privileged_conf(place, bed.worker(OK)))
    s = status_of(eventually(tarry.broker, "the broker"))
    dac_read_search, net_bind_service = 1 << 2, 1 << 10
    assert set(s["Uid"].split()) == {str(NOBODY.pw_uid)}
    assert int(s["CapPrm"], 16) == int(s["CapBnd"], 16) == dac_read_search | net_bind_service
    assert s["NoNewPrivs"] == "1" and (tarry.sanitized or s["Seccomp"] == "2")


@root_only
def test_the_broker_ends_with_those_whom_it_serves(bed, place):
    tarry = start(bed, place, privileged_conf(place, bed.worker(OK), 2))
    broker = eventually(tarry.broker, "the broker")
    tarry.stop()
    eventually(lambda: not os.path.exists(f"/proc/{broker}"), "the broker to end")


@root_only
def test_the_group_of_the_conf_is_taken(bed, place):
    conf = privileged_conf(place, bed.worker(OK))
    conf.top["group"] = "daemon"
    s = status_of(start(bed, place, conf).pid)
    assert set(s["Gid"].split()) == {str(grp.getgrnam("daemon").gr_gid)}, s


@root_only
def test_root_without_a_user_is_warned_and_serves(bed):
    tarry = bed.tarry(bed.conf(bed.worker(OK)))
    tarry.wait_log("running as root")
    assert tarry.get("/").status == 200 and status_of(tarry.pid)["NoNewPrivs"] == "1"


@root_only
def test_who_is_not_root_cannot_become_another(place):
    path = place / "t.conf"
    path.write_text('user = "daemon"\nlisten "127.0.0.1:1" { }\nworkers "a" { server "127.0.0.1:2" { } }\nroute "/" { workers = "a" }\n')
    done = subprocess.run([find_binary(), "-c", path], user="nobody", capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 1 and 'cannot become user "daemon"' in done.stderr and "root" in done.stderr
    # The conf is sound all the same.
    assert subprocess.run([find_binary(), "-t", "-c", path], user="nobody", timeout=DEADLINE).returncode == 0


@root_only
def test_t_says_what_the_user_cannot_write_to(place):
    path = place / "t.conf"
    (place / "temp").chmod(0o700)
    os.chown(place / "temp", 0, 0)
    path.write_text(f'user = "nobody"\ntemp_dir = "{place}/temp"\nlisten "127.0.0.1:1" {{ }}\nworkers "a" {{ server "127.0.0.1:2" {{ }} }}\n'
                    'route "/" { workers = "a" }\n')
    code, err = check_conf(path)
    assert code == 1 and "temp_dir" in err and '"nobody"' in err and err.count("\n") == 1
    os.chown(place / "temp", NOBODY.pw_uid, 0)
    assert check_conf(path) == (0, "")


# --- afterwards ---

@root_only
@pytest.mark.parametrize("processes", [1, 2])
def test_keys_are_read_again_after_the_drop(bed, place, processes):
    worker = bed.worker(OK)
    conf = privileged_conf(place, worker, processes)
    tarry = start(bed, place, conf)
    assert subject(conf.tls) == "one.example"
    certificate(place / "keys", "two.example")
    (place / "keys" / "secret").write_text("another-secret\n")
    reload(tarry)
    assert {subject(conf.tls) for _ in range(8)} == {"two.example"}
    tarry.get("/")
    assert worker.requests[-1].headers.get("Tarry-Auth") == "another-secret"
    # A conf that names further keys, by an include that only root can read.
    (place / "keys" / "more.conf").write_text('queue_max = "x"\n')
    (place / "keys" / "more.conf").chmod(0o600)
    since = len(tarry.lines)
    tarry.write(conf.text() + f'include("{place}/keys/more.conf")\n')
    tarry.signal(signal.SIGHUP)
    tarry.wait_log(re.compile(r"keys/more\.conf:1: "), since=since)
    tarry.wait_log("reload refused", since=since)
    assert "ermission denied" not in "\n".join(tarry.lines[since:])


@root_only
def test_every_file_that_the_conf_names_may_be_root_s_alone(bed, place):
    """Authorities of clients and of upstreams, ticket keys, an include; at the start, and by a reload that names further ones."""
    upstream = bed.tls_upstream(lambda r, c: Reply(200, b"answer"))
    conf = privileged_conf(place, bed.worker(lambda r, c: handoff("relay", [call("tarry://up/")])))
    keys = place / "keys"
    for name, text in {"ca.pem": bed.authority.ca.read_text(), "tickets": "t" * 64 + "\n", "more.conf": 'header_max = "16K"\n'}.items():
        (keys / name).write_text(text)
        (keys / name).chmod(0o600)
    conf.upstreams["up"] = {"origin": upstream.origin, "ca_file": str(keys / "ca.pem")}
    conf.listens[conf.tls].update(client_certificate="optional", client_ca_file=str(keys / "ca.pem"))
    conf.top["ticket_key_file"] = str(keys / "tickets")
    conf.extra = f'include("{keys}/more.conf")\n'
    tarry = start(bed, place, conf)
    assert tarry.get("/").body == b"answer"
    for name in ("ca.pem", "tickets", "more.conf"):
        (keys / name).rename(keys / f"new-{name}")
    conf.upstreams["up"]["ca_file"] = conf.listens[conf.tls]["client_ca_file"] = str(keys / "new-ca.pem")
    conf.top["ticket_key_file"] = str(keys / "new-tickets")
    conf.extra = f'include("{keys}/new-more.conf")\n'
    reload(tarry, conf)
    assert tarry.get("/").body == b"answer" and subject(conf.tls) == "one.example"


@root_only
def test_a_process_that_is_started_again_reads_keys_too(bed, place):
    conf = privileged_conf(place, bed.worker(OK), 2)
    tarry = start(bed, place, conf)
    first = tarry.children()
    certificate(place / "keys", "two.example")
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(tarry.children()) == 2 and not set(first) & set(tarry.children()), "other processes")
    assert eventually(lambda: subject_or_none(conf.tls)) == "two.example"
    assert {status_of(pid)["Uid"].split()[0] for pid in tarry.children()} == {str(NOBODY.pw_uid)}


def subject_or_none(address):
    try:
        return subject(address)
    except OSError:
        return None


@root_only
def test_without_the_broker_a_reload_is_refused_and_says_so(bed, place):
    tarry = start(bed, place, privileged_conf(place, bed.worker(OK)))
    os.kill(eventually(tarry.broker, "the broker"), signal.SIGKILL)
    since = len(tarry.lines)
    tarry.signal(signal.SIGHUP)
    tarry.wait_log("the broker has ended", since=since)
    tarry.wait_log(re.compile("cannot read .*ermission denied"), since=since)
    tarry.wait_log("reload refused", since=since)
    assert tarry.get("/").status == 200


@root_only
@pytest.mark.parametrize("processes", [1, 2])
def test_ports_below_1024_at_the_start_and_by_a_reload(bed, place, processes):
    conf = privileged_conf(place, bed.worker(OK), processes)
    first = low_port()
    conf.listens[first] = {}
    tarry = start(bed, place, conf)
    with Client(first) as c:
        assert c.request(host="a").status == 200
    second = low_port()
    conf.listens = {conf.address: {}, conf.tls: conf.listens[conf.tls], second: {}}
    reload(tarry, conf)
    with Client(second) as c:
        assert c.request(host="a").status == 200
    with pytest.raises(ConnectionRefusedError):
        Client(first)


@root_only
@pytest.mark.parametrize("processes", [1, 2])
def test_logs_are_opened_again_after_the_drop(bed, place, processes):
    conf = privileged_conf(place, bed.worker(OK), processes)
    conf.log["target"] = str(place / "logs" / "t.log")
    tarry = start(bed, place, conf)
    log, access = place / "logs" / "t.log", place / "logs" / "access.log"
    assert log.stat().st_uid == access.stat().st_uid == NOBODY.pw_uid
    for path in (log, access):
        path.rename(path.with_suffix(".1"))
    tarry.signal(signal.SIGUSR1)
    eventually(lambda: log.exists() and log.read_text().count("logs reopened") >= processes, "the new files")
    assert tarry.get("/after").status == 200
    eventually(lambda: "/after" in access.read_text(), "the line in the new file")


@root_only
def test_logs_in_root_s_folder_are_made_for_the_user(bed, place):
    (place / "var").mkdir(mode=0o755)
    conf = privileged_conf(place, bed.worker(OK))
    conf.access_log["target"] = str(place / "var" / "access.log")
    tarry = start(bed, place, conf)
    assert (place / "var" / "access.log").stat().st_uid == NOBODY.pw_uid
    tarry.get("/one")
    eventually(lambda: "/one" in (place / "var" / "access.log").read_text(), "the line")
    # What logrotate does with "create".
    (place / "var" / "access.log").rename(place / "var" / "access.log.1")
    (place / "var" / "access.log").touch(mode=0o640)
    os.chown(place / "var" / "access.log", NOBODY.pw_uid, -1)
    since = len(tarry.lines)
    tarry.signal(signal.SIGUSR1)
    tarry.wait_log("logs reopened", since=since)
    assert not [line for line in tarry.lines[since:] if "error" in line]
    tarry.get("/two")
    eventually(lambda: "/two" in (place / "var" / "access.log").read_text(), "the line in the new file")


@root_only
@pytest.mark.parametrize("processes", [1, 2])
def test_unix_sockets_are_bound_by_root_and_removed_by_the_user(bed, place, processes):
    conf = privileged_conf(place, bed.worker(OK), processes)
    path = place / "run" / "front.sock"
    conf.listens[f"unix:{path}"] = {}
    tarry = start(bed, place, conf)
    with Client(f"unix:{path}") as c:
        assert c.request(host="a").status == 200
    assert path.stat().st_mode & 0o777 == 0o660 and path.stat().st_gid == NOBODY.pw_gid
    tarry.stop()
    assert not path.exists()


# --- sandbox ---

def admin(conf):
    address = f"127.0.0.1:{free_port()}"
    conf.admins[address] = {}
    return address


def get_status(address):
    with Client(address) as c:
        return json.loads(c.request("GET", "/status", host="a").body)


def test_the_sandbox_is_entered_and_told_of(bed):
    conf = bed.conf(bed.worker(OK))
    address = admin(conf)
    tarry = bed.tarry(conf)
    if tarry.sanitized:
        pytest.skip("a sanitizer looks and maps where a sandbox forbids it")
    sandbox = get_status(address)["sandbox"]
    assert sandbox["seccomp"] is True and status_of(tarry.pid)["Seccomp"] == "2"
    line = tarry.wait_log("sandbox: ")
    assert "seccomp" in line and (f"landlock {sandbox['landlock']}" in line) == (sandbox["landlock"] > 0)


def test_the_sandbox_can_be_left_out(bed):
    conf = bed.conf(bed.worker(OK))
    address = admin(conf)
    conf.top.update(seccomp="off", landlock="off")
    tarry = bed.tarry(conf)
    assert get_status(address)["sandbox"] == {"seccomp": False, "landlock": 0}
    assert status_of(tarry.pid)["Seccomp"] == "0" and "sandbox: none" in tarry.stderr
    assert tarry.broker() is None  # nothing to be opened for anybody


def sandboxed(bed, conf):
    """Starts it; skips without a sandbox, for the test would say nothing."""
    address = admin(conf)
    tarry = bed.tarry(conf)
    if get_status(address)["sandbox"]["landlock"] == 0:
        pytest.skip("the kernel has no Landlock, or a sanitizer is in its way")
    return tarry


def test_a_reload_may_move_everything_to_other_folders(bed, tmp_path_factory):
    """Landlock's rules are of the start; what the conf names later is opened all the same."""
    conf = bed.conf(bed.worker(lambda r, c: Reply(200, str(len(r.body)))))
    conf.top["body_memory_max"] = "4K"
    conf.top["temp_dir"] = "/var/tmp"
    tarry = sandboxed(bed, conf)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    conf.top["temp_dir"] = str(elsewhere)
    conf.access_log["target"] = str(elsewhere / "moved.log")
    conf.log["target"] = str(elsewhere / "t.log")
    conf.listens[f"unix:{elsewhere}/l.sock"] = {}
    (elsewhere / "secret").write_text("s3cret\n")
    conf.pool["secret_file"] = str(elsewhere / "secret")
    tarry.write(conf)
    tarry.signal(signal.SIGHUP)
    eventually(lambda: "reloaded" in read(elsewhere / "t.log"), "the line in the moved log")
    assert tarry.post("/moved", b"x" * 100000).body == b"100000"
    eventually(lambda: "/moved" in read(elsewhere / "moved.log"), "the line in the moved access log")
    with Client(f"unix:{elsewhere}/l.sock") as c:
        assert c.request("POST", "/", {}, b"y" * 50000, host="a").body == b"50000"
    for name in ("moved.log", "t.log"):
        (elsewhere / name).rename(elsewhere / (name + ".1"))
    tarry.signal(signal.SIGUSR1)
    eventually(lambda: (elsewhere / "moved.log").exists() and "logs reopened" in read(elsewhere / "t.log"), "the new logs")


def read(path):
    return path.read_text() if path.exists() else ""


def test_a_sandbox_that_is_required_and_cannot_be_had_stops_the_start(bed):
    """A kernel without Landlock is made by a filter that answers as one."""
    conf = bed.conf(bed.worker(OK))
    conf.top["landlock"] = "required"
    (bed.folder / "t.conf").write_text(conf.text())
    done = subprocess.run([find_binary(), "-c", bed.folder / "t.conf"], capture_output=True, text=True, timeout=DEADLINE,
                          preexec_fn=without_landlock)
    assert done.returncode == 1 and "the kernel offers no Landlock" in done.stderr


def test_a_kernel_without_landlock_is_good_enough_for_auto(bed):
    conf = bed.conf(bed.worker(OK))
    tarry = bed.tarry(conf, preexec=without_landlock)
    assert tarry.get("/").status == 200 and "landlock" not in tarry.wait_log("sandbox: ")


def without_landlock():
    """In the child: landlock_create_ruleset (444 on every architecture) fails with ENOSYS from here on."""

    libc = ctypes.CDLL(None, use_errno=True)
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in code))
    filter = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program)))
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter, 0, 0) == 0


# --- the service manager ---

class Manager:
    """The end of NOTIFY_SOCKET."""

    def __init__(self, folder):
        self.path = str(folder / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(DEADLINE)

    def next(self):
        while True:
            text = self.socket.recv(4096).decode()
            if text != "WATCHDOG=1":
                return text

    def wait_alive(self, n):
        while n > 0:
            n -= self.socket.recv(4096) == b"WATCHDOG=1"

    def stop(self):
        self.socket.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_the_service_manager_is_told(bed, processes):
    manager = bed.add(Manager(bed.folder))
    conf = bed.conf(bed.worker(OK))
    conf.top["processes"] = processes
    tarry = bed.tarry(conf, env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "50000"})
    assert manager.next().startswith("READY=1\n")
    assert tarry.get("/").status == 200
    tarry.signal(signal.SIGHUP)
    assert re.match(r"RELOADING=1\nMONOTONIC_USEC=\d+\n", manager.next())
    assert manager.next() == "READY=1\nSTATUS=serving"
    tarry.write(conf.text() + "foo = 1\n")
    tarry.signal(signal.SIGHUP)
    assert manager.next().startswith("RELOADING=1\n")
    assert "refused" in manager.next()
    manager.wait_alive(3)
    tarry.stop()
    assert manager.next().startswith("STOPPING=1\n")


# --- the unit ---

UNIT = REPO / "conf" / "tarry.service"
# LeakSanitizer traces its own process, which the unit forbids.
NO_LEAK_CHECK = {"ASAN_OPTIONS": "detect_leaks=0"}
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not there")


@needs_systemd
def test_systemd_understands_the_unit(tmp_path):
    unit = tmp_path / "tarry.service"
    unit.write_text(re.sub(r"/usr/local/sbin/tarry", find_binary(), UNIT.read_text()))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0 and str(unit) not in done.stderr, done.stderr


def allowed_by(*files):
    """The names of the system calls that SystemCallFilter= leaves in these files together."""
    def members(name):
        out = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager", name], capture_output=True, text=True, check=True).stdout
        words = [line.strip() for line in out.splitlines()[1:]]
        names = {w for w in words if w and not w.startswith(("#", "@"))}
        return names.union(*(members(w) for w in words if w.startswith("@")))

    allowed = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", "".join(f.read_text() for f in files), re.M):
        named = set()
        for word in line.lstrip("~").split():
            named |= members(word) if word.startswith("@") else {word}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed | {"execve", "exit", "exit_group"}


def filtered(names):
    """In the child: all other system calls fail with EPERM from here on, as in the service."""
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    numbers = [n for n in (lib.seccomp_syscall_resolve_name(name.encode()) for name in names) if n != -1]

    def enter():
        f = ctypes.c_void_p(lib.seccomp_init(0x00050000 | 1))
        for number in numbers:
            lib.seccomp_rule_add(f, 0x7FFF0000, number, 0)
        assert lib.seccomp_load(f) == 0
    return enter


@needs_systemd
@pytest.mark.parametrize("processes", [1, 2])
def test_the_unit_s_filter_lets_tarry_start_enter_its_sandbox_and_serve(bed, processes):
    conf = bed.conf(bed.worker(OK))
    address = admin(conf)
    conf.top["processes"] = processes
    tarry = bed.tarry(conf, preexec=filtered(allowed_by(UNIT)), env=NO_LEAK_CHECK)
    assert tarry.get("/").status == 200
    reload(tarry)
    assert tarry.sanitized or get_status(address)["sandbox"]["seccomp"]
    assert "Operation not permitted" not in tarry.stderr and "cannot raise" not in tarry.stderr


@root_only
@needs_systemd
@pytest.mark.parametrize("processes", [1, 2])
def test_with_the_drop_in_tarry_starts_as_root_and_gives_it_up(bed, place, processes):
    (place / "var").mkdir(mode=0o755)
    conf = privileged_conf(place, bed.worker(OK), processes)
    conf.access_log["target"] = str(place / "var" / "access.log")
    address = admin(conf)
    drop_in = REPO / "conf" / "tarry.service.d" / "as-root.conf"
    kept = re.findall(r"^CapabilityBoundingSet=(.+)$", drop_in.read_text(), re.M)[-1].split()
    tarry = start(bed, place, conf, preexec=bounded(kept, filtered(allowed_by(UNIT, drop_in))), env=NO_LEAK_CHECK)
    assert tarry.get("/").status == 200
    certificate(place / "keys", "two.example")
    reload(tarry)
    assert subject(conf.tls) == "two.example"
    assert {status_of(pid)["Uid"].split()[0] for pid in everyone(tarry)} == {str(NOBODY.pw_uid)}
    assert tarry.sanitized or get_status(address)["sandbox"]["seccomp"]
    tarry.stop()
    for _ in range(2):  # the files are there already, and the user's
        tarry.start()
        tarry.stop()


CAPABILITIES = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE".split()


def bounded(kept, then):
    """In the child: only these capabilities can be had after the execve."""
    libc = ctypes.CDLL(None, use_errno=True)
    keep = {CAPABILITIES.index(name.removeprefix("CAP_")) for name in kept}

    def enter():
        for number in range(64):
            if number not in keep:
                libc.prctl(24, number, 0, 0, 0)
        then()
    return enter


# --- socket activation ---

def passing(sockets, monkeypatch, folder):
    """Has Tarry be started as systemd does it: with these from descriptor 3 on, and told so. Gives `pass_fds`."""
    numbers = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 100) for s in sockets]
    moves = " ".join(f"{3 + i}<&{n} {n}<&-" for i, n in enumerate(numbers))
    wrapper = folder / "activated"
    wrapper.write_text(f'#!/bin/bash\nexec {moves}\nexport LISTEN_PID=$$ LISTEN_FDS={len(sockets)}\nexec "{find_binary()}" "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("TARRY_BIN", str(wrapper))
    return numbers


@pytest.mark.parametrize("processes", [1, 2])
def test_sockets_of_the_service_manager_are_used(bed, processes, monkeypatch):
    conf = bed.conf(bed.worker(OK))
    conf.top["processes"] = processes
    path = bed.folder / "given.sock"
    unix, tcp, spare = socket.socket(socket.AF_UNIX), socket.socket(), socket.socket()
    unix.bind(str(path))
    for s in (tcp, spare):
        s.bind(("127.0.0.1", 0))
    for s in (unix, tcp, spare):
        s.listen()
    address = "127.0.0.1:%d" % tcp.getsockname()[1]
    conf.listens[address] = conf.listens[f"unix:{path}"] = {}
    with Client(address) as early:  # waits in the kernel until there is a Tarry
        early.send_request("GET", "/early")
        tarry = bed.tarry(conf, pass_fds=passing([unix, tcp, spare], monkeypatch, bed.folder))
        assert early.read_response().status == 200
    for where in (address, f"unix:{path}", conf.address):
        with Client(where) as c:
            assert c.request(host="a").status == 200
    tarry.wait_log("127.0.0.1:%d, but the conf has no such listen section" % spare.getsockname()[1])
    since = len(tarry.lines)
    tarry.signal(signal.SIGHUP)
    tarry.wait_log("reloaded", since=since)
    with Client(address) as c:
        assert c.request(host="a").status == 200
    # Stopped: who comes now is served by the next one. The file is not Tarry's to remove.
    tarry.stop()
    assert path.exists()
    with Client(address) as between:
        between.send_request("GET", "/between")
        tarry.start()
        assert between.read_response().status == 200
    for s in (unix, tcp, spare):
        s.close()
    for n in tarry.pass_fds:
        os.close(n)


def test_what_is_no_listening_socket_is_not_used(bed, monkeypatch):
    conf = bed.conf(bed.worker(OK))
    with socket.socket() as bound, open(conf.folder / "file", "w") as file:
        tarry = bed.tarry(conf, pass_fds=passing([bound, file], monkeypatch, bed.folder))
    for n in tarry.pass_fds:
        os.close(n)
    assert sum("is no listening socket" in line for line in tarry.lines) == 2
    assert tarry.get("/").status == 200
