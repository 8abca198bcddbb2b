"""The README's commands in a root that has nothing but python3-venv: from pip install to 1,000 clients on one worker.

    readme.py ROOT WHEEL FOLDER      FOLDER is in the root, as seen from here, and has the wheels of what is installed beside it

The project is as `django-admin startproject` makes it, with the README's view; the stand-in for the model and the clients run outside
of the root, from build/. Says how many seconds each step took. Exits with 0 if every client got its own answer."""

import http.client
import json
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = TOP / "build"
CLIENTS = 1000
MODEL_SECONDS = 2
TOKEN = "a" * 32
URLS = """from django.urls import path

from views import ask

urlpatterns = [path("ask", ask)]
"""


def readme(pattern):
    found = re.search(pattern, (TOP / "README.md").read_text("utf-8"), re.S | re.M)
    assert found, f"the README has no {pattern}"
    return found[1]


def in_root(root, folder, command, env=(), **more):
    words = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in dict(env).items())
    script = f"set -eu\ncd {shlex.quote(folder)}\n{words}{command}"
    return ["chroot", str(root), "/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "/bin/sh", "-c", script]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/")
        return connection.getresponse().status == 404  # the project has no start page
    except OSError:
        return False


def main():
    root, wheel, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).name, pathlib.Path(sys.argv[3])
    inside = "/" + str(folder.relative_to(root))
    install, serve = readme(r"^```sh\n(pip install tarry\ngunicorn -c python:tarry\.gunicorn [^\n]*)\n```").splitlines()
    port, spent, started = free_port(), {}, []
    serve = serve.replace("--workers 4", "--workers 1").replace("0.0.0.0:8000", f"127.0.0.1:{port}")
    # Nothing is fetched in the root: the other packages lie beside the wheel.
    install = install.replace("tarry", f"--no-index --find-links . ./{wheel} django gunicorn openai")

    def timed(what, begun):
        spent[what] = time.monotonic() - begun

    begun = first = time.monotonic()
    subprocess.run(in_root(root, inside, f"rm -rf env site\npython3 -m venv env\n. env/bin/activate\n{install} -q --disable-pip-version-check\n"
                           "mkdir site\ncd site\ndjango-admin startproject myproject ."), check=True)
    timed("pip install", begun)
    site = folder / "site"
    (site / "views.py").write_text(readme(r"^<!-- example: patched/views\.py -->\n```python\n(.*?)^```"))
    (site / "myproject" / "urls.py").write_text(URLS)
    try:
        provider = subprocess.Popen([BUILD / "tests/provider/provider", "--http", "127.0.0.1:0", "--delay", f"{MODEL_SECONDS}s"],
                                    stdout=subprocess.PIPE, text=True)
        started.append(provider)
        model = re.search(r"http=(\S+)", provider.stdout.readline())[1]
        begun = time.monotonic()
        env = {"OPENAI_API_KEY": "a-key", "OPENAI_BASE_URL": f"http://{model}/v1"}
        server = subprocess.Popen(in_root(root, f"{inside}/site", f". ../env/bin/activate\nexec {serve}", env), start_new_session=True)
        started.append(server)
        while not answers(port):
            assert server.poll() is None, "gunicorn has ended"
            time.sleep(0.05)
        timed("start", begun)
        begun = time.monotonic()
        command = [BUILD / "tests/bench/load", "--url", f"http://127.0.0.1:{port}/ask", "--clients", CLIENTS, "--requests", CLIENTS, "--json",
                   "--header", "Content-Type: application/x-www-form-urlencoded", "--header", f"Cookie: csrftoken={TOKEN}",
                   "--header", f"X-CSRFToken: {TOKEN}", "--body-template", "question=number-{i}-", "--expect-substring", "number-{i}-",
                   "--timeout", "110"]
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
        timed(f"{CLIENTS:,} clients", begun)
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    found = json.loads(done.stdout)
    print(f"{found['ok']:,} of {CLIENTS:,} clients got their answer from one worker, of a model that takes {MODEL_SECONDS} s")
    print(", ".join(f"{what}: {seconds:.1f} s" for what, seconds in spent.items()) + f"; in all {time.monotonic() - first:.1f} s")
    sys.exit(0 if found["ok"] == CLIENTS and done.returncode == 0 else 1)


main()
