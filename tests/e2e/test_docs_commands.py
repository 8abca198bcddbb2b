"""Every conf and every command that README.md and docs/ show is checked or run, as it stands there. A block in a language that is
not known here, and a command that nobody has decided about, fail: the docs are not to hold what no test has seen."""

import getpass
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import tempfile

import pytest

from harness import Reply, eventually, free_port
from harness.tarry import REPO, find_binary

PAGES = ["README.md"] + sorted(str(p.relative_to(REPO)) for p in (REPO / "docs").glob("*.md"))
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```$", re.S | re.M)
SECTIONS = "listen|workers|upstream|route|admin|log|access_log|compression"
CONF = re.compile(rf"\s*(#[^\n]*\n\s*)*(({SECTIONS})\b[^\n=]*\{{|[a-z][a-z0-9_]* *\+?= )")
# Programs of other people, answers and pictures; the examples among them are run by test_docs.py and the Python package's tests.
OTHER = {"python", "http", "json", "php", "ruby", "ini", "yaml", "text", "dockerfile", "nginx", "promql", "javascript", "html", "toml", "diff", "states"}
# What changes the machine, or is what other tests do: it is recorded, not run.
ELSEWHERE = {
    "apt-get": "scripts/test has the packages", "apt": "the same", "dpkg": "the same", "dpkg-buildpackage": "the package's test builds it",
    "pip": "the wheel's test installs it", "pipx": "the same", "gunicorn": "the Python package's tests start it", "uwsgi": "the same",
    "granian": "the same", "waitress-serve": "the same", "make": "scripts/test builds", "systemctl": "there is no service manager",
    "systemd-sysusers": "it makes an account", "pkill": "it would look for processes of the whole machine", "docker": "there is no engine",
    "podman": "the same", "kubectl": "there is no cluster", "git": "the checkout is there", "sudo": "no rights are needed here",
    "journalctl": "there is no journal", "certbot": "it asks an authority", "python": "test_docs.py runs the programs", "python3": "the same",
    "npm": "it needs a registry", "promtool": "its package's test runs it",
}
SCRIPTS = ("autogen.sh", "configure", "scripts/quickstart", "scripts/test", "scripts/bench", "scripts/compat", "scripts/fuzz", "scripts/chaos",
           "scripts/soak", "scripts/make-reference", "scripts/check-format", "scripts/build-wheel", "scripts/build-deb")
NOT_RUN = {"openssl ocsp": "it asks an authority's responder; test_tls.py staples such an answer",
           "kill -USR2": "there is no service manager to ask; test_upgrade.py sends the signal"}
WORDS = {"sk-…": "sk-x", "…": "x", "PID": "$(cat tarry.pid)"}


def blocks(wanted):
    """(id, page, text) of the blocks that wanted(language, text) takes."""
    for page in PAGES:
        text = (REPO / page).read_text("utf-8")
        for found in BLOCK.finditer(text):
            indent, language, body = found.groups()
            body = "".join(line.removeprefix(indent) for line in body.splitlines(True))
            if wanted(language, body):
                yield pytest.param(page, body, id=f"{page}:{text.count(chr(10), 0, found.start()) + 1}")


def is_conf(language, body):
    return language in ("", "conf") and bool(CONF.match(body))


def is_shell(language, body):
    return language in ("sh", "bash", "console")


def test_every_block_is_of_a_known_kind():
    """A block without a language is a conf, or a picture, or lines of a log."""
    for p in blocks(lambda language, body: not is_conf(language, body) and not is_shell(language, body)):
        page, body = p.values
        language = next(lang for _, lang, text in BLOCK.findall((REPO / page).read_text("utf-8")) if text.strip() == body.strip() or lang)
        assert language == "" or language in OTHER or language in ("sh", "conf"), p.id


class ShortFolder(tempfile.TemporaryDirectory):
    what = "folder"

    def __init__(self):
        super().__init__(prefix="docs-")

    stop = tempfile.TemporaryDirectory.cleanup


class Place:
    """A folder that stands for the machine of the docs: its paths and ports are this folder's."""

    def __init__(self, bed, worker=None):
        self.bed = bed
        self.folder = pathlib.Path(bed.add(ShortFolder()).name)  # a unix socket's path has at most 107 bytes
        for name in ("etc", "log", "run", "lib", "bin"):
            (self.folder / name).mkdir(exist_ok=True)
        self.paths = {"/etc/tarry/": "etc/", "/etc/letsencrypt/live/example.com/": "etc/", "/var/log/tarry/": "log/", "/var/lib/tarry/": "lib/",
                      "/run/tarry/": "run/", "/run/secrets/": "etc/", "/run/": "run/"}
        self.ports = {}
        self.worker = worker

    def here(self, text):
        if str(self.folder) in text:
            return text  # it is done
        for there, name in self.paths.items():
            text = text.replace(there, f"{self.folder}/{name}")
        return re.sub(r"\b127\.0\.0\.1:\d+|\blocalhost:\d+", self.port, text)

    def port(self, found):
        address = found[0].replace("localhost", "127.0.0.1")
        if address not in self.ports:
            self.ports[address] = self.worker.address if self.worker and address == "127.0.0.1:8001" else f"127.0.0.1:{free_port()}"
        return self.ports[address]

    def file(self, name, data, mode=0o600):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
        return path

    def make_files_of(self, conf):
        """The certificates, keys, secrets and parts that a conf names."""
        ca = self.bed.authority.ca.read_bytes()
        made = {"client_ca_file": ca, "ca_file": ca, "secret_file": b"a-secret-for-the-docs\n", "ticket_key_file": b"0123456789abcdef" * 4}
        for option, name in re.findall(r"\b([a-z_]+)\s*=\s*\"([^\"]+)\"", conf):
            if option in made and "${" not in name:
                self.file(name, made[option])
            elif option in ("certificate", "private_key"):
                site = pathlib.Path(name).stem.replace("fullchain", "site").replace("privkey", "site")
                kind = "rsa" if site.endswith("-rsa") else "ec"
                pair = self.bed.authority.leaf(site, names=(f"DNS:{site.removesuffix('-rsa')}.example",), kind=kind)
                self.file(name, pair[option == "private_key"].read_bytes())
        for name in re.findall(r"^\s*(?:include|override)\(\"([^\"]+)\"\)", conf, re.M):
            self.file(name, b"")
        for name in re.findall(r"\$\{file:([^}]+)\}", conf):
            self.file(name, b"from-a-file\n")

    def whole(self, conf, page=None):
        """The conf with what a snippet leaves out: a listener, pools and upstreams that its routes name, a route."""
        if page == "docs/gunicorn.md":  # it completes a conf that the hook makes, which has the origins
            conf = re.sub(r"^(upstream \"[^\"]+\" \{\n)(?![^}]*\borigin\b)", r'\1    origin = "https://api.example.com"\n', conf, flags=re.M)
        conf = self.here(conf).replace('user = "tarry"', f'user = "{getpass.getuser()}"')
        parts = [conf]
        defined = dict.fromkeys(re.findall(r"^\s*(?:workers|upstream)\s+\"([^\"]+)\"", conf, re.M))
        routes = re.findall(r"\b(workers|upstream)\s*=\s*\"([^\"]+)\"", conf)
        for kind, name in routes:
            if name not in defined:
                parts.append(self.stub(kind, name))
                defined[name] = None
        if not re.search(r"^\s*listen\b", conf, re.M):
            parts.append(f'listen "127.0.0.1:{free_port()}" {{ }}')
        if not re.search(r"^\s*route\b", conf, re.M):
            named = re.search(r"^\s*(workers|upstream)\s+\"([^\"]+)\"", conf, re.M)
            if not named:
                parts.append(self.stub("workers", "app"))
            kind, name = named.groups() if named else ("workers", "app")
            parts.append(f'route "/" {{ {kind} = "{name}" }}')
        return "\n".join(parts) + "\n"

    @staticmethod
    def stub(kind, name):
        inner = f'server "127.0.0.1:{free_port()}" {{ slots = 1 }}' if kind == "workers" else 'origin = "https://api.example.com"'
        return f'{kind} "{name}" {{ {inner} }}'

    def environment(self, conf):
        names = re.findall(r"\$\{([A-Z][A-Z0-9_]*)\}", conf)
        return {**os.environ, **{name: "x" for name in names}}


@pytest.mark.parametrize("page, text", blocks(is_conf))
def test_a_conf_of_the_docs_is_good(bed, page, text):
    place = Place(bed)
    conf = place.whole(text, page)
    place.make_files_of(conf)
    path = place.file("tarry.conf", conf.encode())
    done = subprocess.run([find_binary(), "-t", "-c", path], env=place.environment(conf), capture_output=True, text=True, cwd=place.folder)
    assert done.returncode == 0, done.stderr + "\n" + conf


TARRY = """#!/bin/bash
# Tarry as the docs start it: in the foreground there, beside the other commands here.
case " $* " in *" --init "*)
    {binary} "$@" || exit
    exec sed -i 's/127[.]0[.]0[.]1:8080/{listen}/' tarry.conf ;;
esac
for word; do
    case $word in -t | -T | -h | -V | --help | --version | --explain) exec {binary} "$@" ;; esac
done
cd {folder} || exit
{binary} "$@" >tarry.log 2>&1 </dev/null &
echo $! >tarry.pid
for _ in $(seq 400); do
    grep -q '^tarry: ready' tarry.log && exit 0
    kill -0 $! 2>/dev/null || break
    sleep 0.05
done
cat tarry.log >&2
exit 1
"""


class Shell:
    """A place with commands of its own: those of ELSEWHERE do nothing, `tarry` is the binary under test."""

    def __init__(self, bed, page):
        self.place = place = Place(bed, bed.worker(lambda r, c: Reply(200, b"[]")))
        shown = dict(re.findall(r"<!-- example: (\S+) -->\n```\w*\n(.*?)\n```", (REPO / page).read_text("utf-8"), re.S))
        conf = place.whole(shown.get("tarry.conf", 'listen "127.0.0.1:8080" { }\nworkers "app" { server "127.0.0.1:8001" { slots = 1 } }'))
        conf += place.here('admin "127.0.0.1:9180" { }\n') + f'admin "unix:{place.folder}/run/control.sock" {{ control = true }}\n'
        place.make_files_of(conf)
        self.env = {**place.environment(conf), "PATH": f"{place.folder}/bin:{os.environ['PATH']}", "HOME": str(place.folder)}
        for name in ("tarry.conf", "etc/tarry.conf"):
            place.file(name, conf.encode())
        self.program("tarryctl", f'#!/bin/sh\nexec {find_binary()}ctl -s {place.folder}/run/control.sock "$@"\n')
        self.program("tarry", TARRY.format(binary=find_binary(), folder=place.folder, listen=place.here("127.0.0.1:8080")))
        for name in ELSEWHERE:
            self.program(name, "#!/bin/sh\nexit 0\n")
        for name in SCRIPTS:
            place.file(name, b"#!/bin/sh\nexit 0\n", 0o755)
            place.file(f"build/{name}", b"#!/bin/sh\nexit 0\n", 0o755)

    def program(self, name, text):
        self.place.file(f"bin/{name}", text.encode(), 0o755)

    def script(self, text):
        """The block as a script of this place."""
        for there, here in WORDS.items():
            text = re.sub(rf"(?<![A-Za-z_]){re.escape(there)}(?![A-Za-z_])", lambda _: here, text)
        lines = [line.removeprefix("$ ") for line in self.place.here(text).splitlines()]
        return "\n".join(line for line in lines if not any(line.startswith(prefix) for prefix in NOT_RUN))

    def run(self, script):
        return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=self.place.folder, env=self.env, capture_output=True, text=True,
                              timeout=60, stdin=subprocess.DEVNULL)

    def stop(self):
        pid = self.place.folder / "tarry.pid"
        if pid.exists():
            number = int(pid.read_text())
            try:
                os.kill(number, signal.SIGTERM)
                eventually(lambda: not pathlib.Path(f"/proc/{number}").exists(), "tarry to end")
            except ProcessLookupError:
                pass


def commands(script):
    """The first words of a script's commands."""
    text = re.sub(r"\\\n", " ", script)
    text = re.sub(r"<<'?(\w+)'?\n.*?^\1$", "", text, flags=re.S | re.M)
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*", "", line)
        line = re.sub(r"'[^']*'|\"[^\"]*\"", "''", line)
        for part in re.split(r"&&|\|\||[;|&]", line):
            words = [w for w in part.split() if not re.match(r"[A-Za-z_]\w*=", w)]
            if words:
                yield words[0]


@pytest.mark.parametrize("page, text", blocks(is_shell))
def test_a_command_of_the_docs_runs(bed, page, text):
    shell = Shell(bed, page)
    script = shell.script(text)
    try:
        for word in commands(script):
            path = shell.place.folder / word
            assert (path.exists() or path.resolve().exists() or (shell.place.folder / "build" / word).exists() or
                    shutil.which(word, path=shell.env["PATH"]) or word in ("cd", "export", "exit", "wait", "kill")), f"{word}: unknown here"
        if "--init" in script:
            (shell.place.folder / "tarry.conf").unlink()
        if re.search(r"\b(curl|kill|tarryctl)\b", script) and not re.search(r"^[^#\n]*\btarry -c", script, re.M):
            started = shell.run("tarry -c tarry.conf")
            assert started.returncode == 0, started.stderr
        done = shell.run(script)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    finally:
        shell.stop()


def test_the_packages_of_the_readme_are_those_that_the_build_needs():
    shown = re.search(r"^apt-get install (.*?[^\\])$", (REPO / "README.md").read_text("utf-8"), re.S | re.M)
    if not shown:
        pytest.skip("the README names no packages")
    named = set(shown[1].replace("\\", " ").split())
    build, test = ({*subprocess.run([REPO / "scripts/setup-packages", "--list", group], check=True, capture_output=True, text=True).stdout.split()}
                   for group in ("build", "test"))
    assert build <= named <= build | test, (build - named, named - build - test)


def test_the_scripts_that_the_docs_name_are_there():
    for page in PAGES:
        for name in set(re.findall(r"\bscripts/[a-z-]+\b", (REPO / page).read_text("utf-8"))):
            path = REPO / name
            assert path.exists() and path.stat().st_mode & stat.S_IXUSR, f"{page}: {name}"
