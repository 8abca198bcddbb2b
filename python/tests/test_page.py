"""docs/django.md and the README as they stand there: the project that the page shows, behind the conf that it shows; the tests that it shows; and
each message that it explains is one that the package has."""

import ast
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from behind import Reply, asked, eventually, find_binary, new_bed, show
from harness.apps import Program
from harness.base import Gate, free_port
from harness.client import request

with_openai = pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="no openai here")
REPO = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"<!-- example: (\S+) -->\n```\w*\n(.*?)\n```", re.S)
SECRET = "a-secret-for-the-page"
# What a project has that the page does not show.
SETTINGS = """import os
SECRET_KEY = "for a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
INSTALLED_APPS = []
MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}}
USE_TZ = True
"""
SHOP = """charged = []


def charge(card, amount):
    charged.append(card)
    return f"receipt {len(charged)} over {amount}"


def report_to_staff(card):
    raise NotImplementedError
"""
SETTINGS_MORE = "from settings_base import *\n"


def examples(page):
    return dict(EXAMPLE.findall((REPO / page).read_text("utf-8")))


@pytest.fixture
def bed(tmp_path):
    bed = new_bed(tmp_path)
    yield bed
    show(bed)
    bed.stop()


def write_project(folder, shown):
    for name, text in shown.items():
        if name.endswith(".py") and not name.startswith("settings_"):
            (folder / name).write_text(text + "\n")
    more = [text for name, text in shown.items() if name.startswith("settings_")]
    (folder / "settings.py").write_text(SETTINGS + "\n".join(more) + "\n")
    (folder / "shop.py").write_text(SHOP)


def environment(bed, provider):
    return {
        "TARRY_SECRET_FILE": str(bed.folder / "worker.secret"),
        "OPENAI_API_KEY": "sk-page",
        "OPENAI_BASE_URL": f"http://{provider.http}/v1",
        "DATABASE": str(bed.folder / "db.sqlite3"),
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": f"{bed.folder}:{REPO / 'python'}",
    }


def start(bed, conf, program, workers=2):
    provider = bed.provider(https=False, args=["--tokens", "3"])
    (bed.folder / "worker.secret").write_text(SECRET + "\n")
    env = environment(bed, provider)
    if (bed.folder / "settings.py").exists():
        subprocess.run(
            [sys.executable, "-m", "django", "createcachetable"], check=True, cwd=bed.folder, env={**os.environ, **env}
        )
    worker = bed.gunicorn(program, workers=workers, env=env)
    address = f"127.0.0.1:{free_port()}"
    conf = conf.replace("127.0.0.1:8080", address).replace("127.0.0.1:8001", worker.address, 1)
    conf = conf.replace("https://api.openai.com", f"http://{provider.http}")
    conf += f'\naccess_log {{ target = "{bed.folder}/access.log"  format = "json" }}\n'
    return bed.tarry(conf, address=address), provider, worker


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def hops(tarry, path):
    return tarry.access.wait_for(lambda line: line.get("path") == path)["hops"]


@with_openai
def test_the_project_of_the_page(bed):
    shown = examples("docs/django.md")
    write_project(bed.folder, shown)
    tarry, provider, worker = start(bed, shown["tarry.conf"], "wsgi:application")
    site = type("Site", (), {"provider": provider})

    assert tarry.post("/ask/", "question=Why", FORM).json()["answer"].startswith("echo:Why")
    assert hops(tarry, "/ask/") == 2
    assert [value for name, value in asked(site, 1)[0]["headers"] if name.lower() == "authorization"] == ["Bearer sk-page"]

    got = tarry.post("/order/", "card=4711", FORM).json()
    assert got["receipt"] == "receipt 1 over 5" and got["thanks"].startswith("echo:Say thanks for receipt 1")
    assert hops(tarry, "/order/") == 2

    got = tarry.post("/digest/", "text=words", FORM).json()
    assert got["summary"].startswith("echo:Sum") and got["keywords"].startswith("echo:Keywords")
    assert hops(tarry, "/digest/") == 2

    stream = tarry.post("/chat/", "text=Why", FORM)
    assert stream.text.rstrip().endswith("data: [DONE]")
    tarry.access.wait_for(lambda line: line.get("path") == "/chat/")

    got = tarry.post("/compare/", "text=Why", FORM).json()
    assert got["asked"] == "Why" and [text.split()[0] for text in got["answers"]] == ["echo:Why"] * 2
    assert tarry.post("/compare/done/", "", FORM).status == 403 and tarry.post("/chat/saved/", "", FORM).status == 403
    assert not [line for line in worker.lines if "committed a write" in line or "Traceback" in line]


@with_openai
def test_the_systems_check_has_nothing_to_say_about_the_project_of_the_page(bed):
    write_project(bed.folder, examples("docs/django.md"))
    provider = type("Provider", (), {"http": "127.0.0.1:1"})
    (bed.folder / "worker.secret").write_text(SECRET + "\n")
    env = {**os.environ, **environment(bed, provider)}
    check = [sys.executable, "-m", "django", "check"]
    done = subprocess.run([*check, "--deploy"], env=env, cwd=bed.folder, capture_output=True, text=True)
    assert done.returncode == 0 and "tarry." not in done.stdout + done.stderr, done.stdout + done.stderr
    (bed.folder / "settings.py").write_text((bed.folder / "settings.py").read_text().replace("tarry.django.Middleware", "x"))
    done = subprocess.run(check, env=env, cwd=bed.folder, capture_output=True, text=True)
    assert "tarry.W001" in done.stderr


@with_openai
def test_the_tests_of_the_page_pass(bed):
    write_project(bed.folder, examples("docs/django.md"))
    env = {**os.environ, **environment(bed, type("Provider", (), {"http": "127.0.0.1:1"}))}
    env.pop("OPENAI_BASE_URL")
    (bed.folder / "worker.secret").write_text(SECRET + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "django", "test", "test_ask"], env=env, cwd=bed.folder, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Ran 2 tests" in done.stderr, done.stderr


@with_openai
def test_the_flask_app_of_the_page(bed):
    pytest.importorskip("flask")
    shown = examples("docs/django.md")
    (bed.folder / "flask_app.py").write_text(shown["flask_app.py"] + "\n")
    tarry, provider, worker = start(bed, shown["tarry.conf"], "flask_app:app")
    assert tarry.post("/ask/", "question=Why", FORM).json()["answer"].startswith("echo:Why")
    assert tarry.post("/chat/", "question=Why", FORM).text.rstrip().endswith("data: [DONE]")
    worker.wait_line(r"user=7 said=echo:Why")
    assert tarry.post("/chat/saved/", "", FORM).status == 403


@with_openai
def test_the_patched_view_of_the_readme(bed):
    shown = examples("README.md")
    urls = "from django.urls import path\nimport views\nurlpatterns = [path('ask/', views.ask)]"
    settings = examples("docs/django.md")["settings_more.py"]
    files = {
        "wsgi.py": shown["patched/wsgi.py"],
        "views.py": shown["patched/views.py"],
        "urls.py": urls,
        "settings_more.py": settings,
    }
    write_project(bed.folder, files)
    (bed.folder / "settings.py").write_text(
        (bed.folder / "settings.py").read_text().replace('"django.middleware.csrf.CsrfViewMiddleware"', "")
    )
    tarry, provider, worker = start(bed, examples("docs/django.md")["tarry.conf"], "wsgi:application")
    assert tarry.post("/ask/", "question=Why", FORM).json()["answer"].startswith("echo:Why")
    assert hops(tarry, "/ask/") == 2


@with_openai
def test_the_app_of_the_first_page(bed):
    """One worker, and five clients that wait for the model: the start page answers."""
    pytest.importorskip("flask")
    page = (REPO / "docs/getting-started.md").read_text("utf-8")
    (bed.folder / "app.py").write_text(examples("docs/getting-started.md")["app.py"] + "\n")
    (command,) = re.findall(r"^OPENAI_API_KEY=sk-… (gunicorn .*)$", page, re.M)
    gate = Gate()

    def model(received, connection):
        gate.wait()
        question = json.loads(received.body)["messages"][0]["content"]
        message = {"role": "assistant", "content": f"echo:{question}"}
        body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
        return Reply(200, json.dumps(body), {"Content-Type": "application/json"})

    service, address = bed.upstream(model), f"127.0.0.1:{free_port()}"
    words = command.replace("127.0.0.1:8000", address).split()
    assert words[0] == "gunicorn" and words[-1] == address
    env = {
        "OPENAI_API_KEY": "sk-page",
        "OPENAI_BASE_URL": f"{service.origin}/v1",
        "PYTHONPATH": str(REPO / "python"),
        "TARRY_BINARY": str(find_binary()),
        "PYTHONUNBUFFERED": "1",
    }
    bed.add(Program([sys.executable, "-m", *words], env, str(bed.folder)))

    def get(path):
        try:
            return request(address, "GET", path)
        except OSError:
            return None

    assert eventually(lambda: get("/"), "the app").text == "I am free.\n"
    waiting = [bed.background(get, f"/ask/q{n}") for n in range(5)]
    eventually(lambda: len(service.requests) == 5, "five calls at once")
    assert get("/").text == "I am free.\n"
    gate.open()
    assert [one.result().text for one in waiting] == [f"echo:q{n}\n" for n in range(5)]


def texts_of_the_package():
    """Every string of the package, with … for what is filled in."""
    found = []
    for path in (REPO / "python" / "tarry").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_every_message_of_the_page_is_one_of_the_packages():
    page = (REPO / "docs/django.md").read_text("utf-8")
    table = page[page.index("## When something is wrong") : page.index("## Beside gevent")]
    messages = re.findall(r"^\| `([^`]+)` \|", table, re.M)
    texts = texts_of_the_package()
    assert len(messages) > 12
    for message in messages:
        pattern = ".*".join(re.escape(part) for part in message.replace("… ", "…").replace(" …", "…").split("…"))
        assert any(re.search(pattern, text, re.S) for text in texts), message


def test_every_setting_of_the_page_is_one_of_the_packages_and_none_is_missing():
    from dataclasses import fields

    from tarry.django.middleware import SETTINGS
    from tarry.settings import Settings

    page = (REPO / "docs/django.md").read_text("utf-8")
    table = page[page.index("## Settings") : page.index("## When something is wrong")]
    rows = re.findall(r"^\| `(\w+)` \| [`(]+(\w+)[`)]+ \|", table, re.M)
    assert {name for name, _ in rows} == {f.name for f in fields(Settings)}
    assert {django for _, django in rows} == {*SETTINGS, "SECRET_KEY"}
