"""Packages of others that ask models, in a Django project of which no line is about Tarry, under `gunicorn -c python:tarry.gunicorn`
with one sync worker: what the user sees is right, each view is run once, and the worker serves others while the model thinks. And
what has nothing to do with models: the admin and its files.

The first line of a test's docstring is a row of docs/compatibility.md."""

import collections
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import urllib.parse

import pytest

import hooked
import stacks
from harness import DEADLINE, Gate, Reply, request
from harness.bed import Bed

HERE = stacks.HERE / "projects"
LOCK = "projects"
PASSWORD = "correct horse"
pytestmark = pytest.mark.xdist_group("projects")


def environment(data, runs, **more):
    return {"PYTHONPATH": f"{stacks.REPO / 'python'}:{HERE}", "SHOP_DATA": str(data), "APP_RUNS": str(runs), "OPENAI_API_KEY": "a-key",
            "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(stacks.BUILD / "pycache"), **more}


def database():
    """A migrated database with a user, made again if the packages or the project change."""
    parts = [stacks.HERE / f"{LOCK}.txt", *sorted((HERE / "shop").rglob("*.py"))]
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:16]
    made = stacks.BUILD / f"projects-{digest}.sqlite3"
    if not made.exists():
        folder = pathlib.Path(f"{made}.new")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        env = {**os.environ, **environment(folder, folder / "runs")}
        done = hooked.run([stacks.BUILD / LOCK / "bin" / "python", HERE / "shop" / "setup.py"], env=env, timeout=DEADLINE * 10)
        assert done.returncode == 0, done.stdout[-4000:]
        (folder / "db.sqlite3").rename(made)
        shutil.rmtree(folder)
    return made


class Shop:
    """The stand-in behind a gate, and gunicorn with the project."""

    def __init__(self, bed):
        self.bed, self.gate = bed, Gate()
        self.gate.open()
        self.provider = bed.provider(https=False)
        self.model = bed.upstream(self._pass_on)
        self.data, self.runs = bed.folder / "data", bed.folder / "runs"
        self.data.mkdir()
        self.runs.touch()
        shutil.copy(database(), self.data / "db.sqlite3")
        self.site = hooked.Hooked(bed, LOCK, "--workers", "1", "--timeout", "120", app="shop.wsgi", origin=self.model.origin,
                                  env=environment(self.data, self.runs, TARRY_ORIGINS=self.model.origin, MODEL_ORIGIN=self.model.origin))

    def _pass_on(self, asked, connection):
        self.gate.wait(DEADLINE * 4)
        to = http.client.HTTPConnection(self.provider.http, timeout=DEADLINE)
        to.request(asked.method, asked.target, asked.body, {"Content-Type": "application/json", "Authorization": "a-key"})
        got = to.getresponse()
        body = got.read()
        to.close()
        return Reply(got.status, body, [("Content-Type", got.getheader("Content-Type"))])

    def parked(self, ask, calls=1, runs=1):
        """The response of ask(), whose first call is held until another request has been answered by the one worker. In all it makes
        `calls`, and its view is run `runs` times."""
        self.gate = Gate()
        before, ran = len(self.model.requests), self.counted()
        running = self.bed.background(ask)
        self.model.wait_for(before + 1)
        assert self.site.get("/ok").text == "ok" and running.running
        self.gate.open()
        got = running.result()
        assert len(self.model.requests) - before == calls
        there = self.counted() - ran
        assert set(there.values()) == {runs}, there
        return got

    def counted(self):
        return collections.Counter(line for line in self.runs.read_text().splitlines() if not line.endswith("/ok"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    bed = Bed(tmp_path_factory.mktemp("projects"), None)
    try:
        yield Shop(bed)
    finally:
        bed.stop()


@pytest.fixture(autouse=True)
def noted(request, found):
    found("project", test=request.node.originalname)


class Browser:
    """Cookies, forms with their CSRF tokens, redirects."""

    def __init__(self, site):
        self.address, self.cookies = site.address, {}

    def open(self, method, target, body=None, **headers):
        fields = {"Cookie": "; ".join(f"{n}={v}" for n, v in self.cookies.items()), **{n.replace("_", "-"): v for n, v in headers.items()}}
        if method == "POST":
            fields.update({"Origin": f"http://{self.address}", "X-CSRFToken": self.cookies.get("csrftoken", "")})
        got = request(self.address, method, target, {n: v for n, v in fields.items() if v}, body, timeout=DEADLINE * 4)
        for line in got.headers.all("Set-Cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if value.strip('"'):
                self.cookies[name] = value
        return got

    def get(self, target, **headers):
        return self.open("GET", target, **headers)

    def json(self, target, data, method="POST"):
        return self.open(method, target, json.dumps(data).encode(), Content_Type="application/json")

    def form(self, target, data):
        body = urllib.parse.urlencode(data).encode()
        return self.open("POST", target, body, Content_Type="application/x-www-form-urlencoded")

    def token(self, page):
        return re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]

    def log_in(self, at="/admin/login/"):
        token = self.token(self.get(at))
        got = self.form(f"{at}?next=/admin/", {"username": "ada", "password": PASSWORD, "csrfmiddlewaretoken": token})
        assert got.status == 302 and got.headers.get("Location") == "/admin/", got
        return self


@pytest.fixture
def ada(shop):
    return Browser(shop.site).log_in()


def test_assistant(shop, ada):
    """django-ai-assistant: a message to an assistant, which calls a tool (LangGraph), and its answer in the thread"""
    thread = ada.json("/ai-assistant/threads/", {"name": "a thread", "assistant_id": "shop_assistant"}).json()["id"]
    messages = f"/ai-assistant/threads/{thread}/messages/"
    got = shop.parked(lambda: ada.json(messages, {"assistant_id": "shop_assistant", "content": "How many chairs?"}), calls=2)
    assert got.status == 201, got
    there = ada.get(messages).json()
    assert [one["type"] for one in there] == ["human", "ai"], there
    assert there[0]["content"] == "How many chairs?" and there[1]["content"].startswith("echo:0 of echo:How many chairs?")


def test_wagtail_ai_completion(shop, ada):
    """wagtail-ai in Wagtail's editor: a prompt on a text (requests)"""
    prompt = re.search(r'"uuid": "([0-9a-f-]+)"', ada.get("/cms/reports/site-history/").text)[1]
    got = shop.parked(lambda: ada.form("/cms/ai/text_completion/", {"text": "Chairs are nice.", "prompt": prompt}))
    assert got.status == 200 and "echo:Chairs are nice." in got.json()["message"], got


def test_wagtail_ai_agent(shop, ada):
    """wagtail-ai in Wagtail's editor: a title for a page. any-llm makes the call in a thread of its own, so the view is run twice"""
    asked = {"arguments": {"prompt": "A title for: {content}", "context": {"content": "Chairs."}}}
    got = shop.parked(lambda: ada.json("/cms/ai/basic_prompt/", asked), runs=2)
    assert got.status == 200 and got.json()["data"].startswith("echo:A title for: Chairs."), got


def test_explorer(shop, ada):
    """django-sql-explorer: the assistant writes a query, and the request is in its history"""
    connection = int(re.search(r'/explorer/connections/(\d+)', ada.get("/explorer/connections/").text)[1])
    asked = {"connection_id": connection, "assistant_request": "Count the products", "selected_tables": ["shop_product"], "sql": ""}
    got = shop.parked(lambda: ada.json("/explorer/assistant/", asked))
    assert got.status == 200 and got.json()["status"] == "success" and got.json()["message"].startswith("echo:## Information for Table"), got
    logs = ada.json("/explorer/assistant/history/", {"connection_id": connection}).json()["logs"]
    assert [(log["user_request"], log["response"]) for log in logs] == [("Count the products", got.json()["message"])]


def test_rosetta(shop, ada):
    """django-rosetta: a suggested translation"""
    query = urllib.parse.urlencode({"from": "en", "to": "de", "text": "Add to basket"})
    got = shop.parked(lambda: ada.get(f"/rosetta/translate/?{query}"))
    assert got.json()["success"] and got.json()["translation"].startswith("echo:Translate the following text from en to de:\n\nAdd to basket")


# --- what passes through Tarry and has nothing to do with it ---


def test_admin_login(shop):
    """Django's admin: login, a wrong password, CSRF, logout"""
    browser = Browser(shop.site)
    assert browser.get("/admin/").headers.get("Location") == "/admin/login/?next=/admin/"
    token = browser.token(browser.get("/admin/login/"))
    assert "correct username and password" in browser.form(
        "/admin/login/", {"username": "ada", "password": "no", "csrfmiddlewaretoken": token}).text
    assert browser.log_in().get("/admin/").status == 200
    assert "sessionid" in browser.cookies
    product = {"name": "A chair", "csrfmiddlewaretoken": browser.token(browser.get("/admin/shop/product/add/"))}
    stranger = dict(product, csrfmiddlewaretoken="x" * 64)
    cookies, browser.cookies["csrftoken"] = dict(browser.cookies), "y" * 32
    assert browser.form("/admin/shop/product/add/", stranger).status == 403
    browser.cookies = cookies
    assert browser.form("/admin/shop/product/add/", product).headers.get("Location") == "/admin/shop/product/"
    page = browser.get("/admin/shop/product/")
    assert "A chair" in page.text
    assert browser.form("/admin/logout/", {"csrfmiddlewaretoken": browser.token(page)}).status == 200
    assert browser.get("/admin/").status == 302


@pytest.mark.parametrize("size", [1_000, 5_000_000])
def test_admin_upload(shop, ada, size):
    """Django's admin: a file is uploaded, and comes back as it was"""
    data, mark = os.urandom(size), "a-boundary-for-the-form"
    fields = {"csrfmiddlewaretoken": ada.token(ada.get("/admin/shop/product/add/")), "name": f"A table of {size}"}
    body = b"".join(f'--{mark}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in fields.items())
    body += f'--{mark}\r\nContent-Disposition: form-data; name="picture"; filename="größe-{size}.bin"\r\n'.encode()
    body += b"Content-Type: application/octet-stream\r\n\r\n" + data + f"\r\n--{mark}--\r\n".encode()
    got = ada.open("POST", "/admin/shop/product/add/", body, Content_Type=f"multipart/form-data; boundary={mark}")
    assert got.status == 302, got
    link = re.search(r'href="(/admin/shop/product/\d+/change/)[^>]*>A table of ' + str(size), ada.get("/admin/shop/product/").text)[1]
    picture = re.search(r'href="(/media/pictures/[^"]+)"', ada.get(link).text)[1]
    got = ada.get(picture)
    assert got.status == 200 and got.body == data and int(got.headers.get("Content-Length")) == size


def test_static_files_and_ranges(shop):
    """Static files (WhiteNoise): whole, by ranges, not modified, HEAD"""
    browser, target = Browser(shop.site), "/static/admin/css/base.css"
    whole = browser.get(target)
    assert whole.status == 200 and whole.headers.get("Content-Type").startswith("text/css")
    part = browser.get(target, Range="bytes=10-29")
    assert (part.status, part.body) == (206, whole.body[10:30])
    assert part.headers.get("Content-Range") == f"bytes 10-29/{len(whole.body)}"
    assert browser.get(target, Range="bytes=-5").body == whole.body[-5:]
    assert browser.get(target, Range=f"bytes={len(whole.body)}-").status == 416
    same = browser.get(target, If_Modified_Since=whole.headers.get("Last-Modified"))
    assert same.status == 304, (same, shop.site.output[-2000:])
    head = browser.open("HEAD", target)
    assert (head.status, head.body, head.headers.get("Content-Length")) == (200, b"", str(len(whole.body)))
