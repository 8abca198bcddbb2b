"""The programs and confs that README.md and docs/ show, as they stand there: each is run, or checked."""

import json
import os
import pathlib
import re
import subprocess

import pytest

from harness import free_port
from harness.tarry import REPO, find_binary

EXAMPLE = re.compile(r"<!-- example: (\S+) -->\n```\w*\n(.*?)\n```", re.S)
SECRET = "a-secret-for-the-docs"
QUESTION = json.dumps({"question": "Why wait?"})
WSGI = """import os
from django.conf import settings
settings.configure(ROOT_URLCONF="urls", ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY="for a test", TARRY_SECRET=os.environ["TARRY_SECRET"],
                   INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework"])
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""



def examples(page):
    return dict(EXAMPLE.findall((REPO / page).read_text("utf-8")))


def start(bed, page, program, **files):
    """The page's conf before the app on gunicorn, with the stand-in for the model; the key must be Tarry's alone."""
    shown = examples(page)
    (bed.folder / "worker.secret").write_text(SECRET + "\n")
    for name, text in files.items():
        (bed.folder / f"{name}.py").write_text(text)
    provider = bed.provider(https=False)
    worker = bed.gunicorn(program, env={"TARRY_SECRET": SECRET})
    address = f"127.0.0.1:{free_port()}"
    conf = shown["tarry.conf"].replace("127.0.0.1:8080", address).replace("127.0.0.1:8001", worker.address, 1)
    conf = conf.replace("https://api.openai.com", f"http://{provider.http}")
    tarry = bed.tarry(conf + "\n", address=address, env={"OPENAI_API_KEY": "sk-docs"})
    return tarry, provider


def ask(tarry, path="/ask", **headers):
    return tarry.post(path, QUESTION, {"Content-Type": "application/json", **headers})


def test_the_readme_s_view_asks_and_answers(bed):
    shown = examples("README.md")
    urls = "from django.urls import path\nimport views\n" + shown["urls.py"] + "\n"
    tarry, provider = start(bed, "README.md", "wsgi:application", views=shown["views.py"] + "\n", urls=urls, wsgi=WSGI)
    got = ask(tarry, "/ask/")
    assert got.status == 200 and got.json()["answer"].startswith("echo:Why wait?")
    assert ["Authorization", "Bearer sk-docs"] in provider.wait_records(1)[0]["headers"]
    assert ask(tarry, "/internal/asked/").status == 404


def test_the_django_program_asks_and_answers(bed):
    tarry, _ = start(bed, "docs/handoff.md", "app:application", app=examples("docs/handoff.md")["django_app.py"] + "\n")
    assert ask(tarry).json()["answer"].startswith("echo:Why wait?")
    assert ask(tarry, "/internal/asked").status == 404


def test_the_flask_program_relays_and_is_notified(bed):
    pytest.importorskip("flask")
    tarry, _ = start(bed, "docs/handoff.md", "app:app", app=examples("docs/handoff.md")["flask_app.py"] + "\n")
    assert ask(tarry).text.endswith("data: [DONE]\n\n")
    assert ask(tarry, "/ask-and-keep").text.endswith("data: [DONE]\n\n")
    next(part for part in bed.parts if part.what == "gunicorn").wait_line(r"user=7 complete \d+ bytes")


@pytest.mark.parametrize("name", sorted(examples("docs/providers.md")))
def test_a_snippet_of_the_providers_page_is_sound(bed, name):
    text = examples("docs/providers.md")[name]
    upstream = re.search(r'^upstream "([^"]+)"', text, re.M)[1]
    keys = {key: f"k{i}" for i, key in enumerate(sorted(set(re.findall(r"\$\{(\w+)\}", text))))}
    conf = bed.folder / "tarry.conf"
    conf.write_text(f'listen "127.0.0.1:8080" {{ }}\nroute "/" {{ upstream = "{upstream}" }}\n{text}\n')
    done = subprocess.run([find_binary(), "-t", "-c", str(conf)], env=dict(os.environ, **keys), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "SECURITY.md"] + sorted(
    str(p.relative_to(REPO)) for p in (REPO / "docs").glob("*.md")))
def test_no_link_of_a_page_leads_nowhere(page):
    text = (REPO / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        if "://" not in target:
            assert ((REPO / page).parent / target).exists(), target
