"""The pages of docs/ hang together: links lead somewhere, every page is found from the README and leads to the glossary, and what they say
of error words, manifests and nginx is so."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest

from harness import eventually, free_port
from harness.client import Client
from harness.tarry import REPO

PAGES = sorted((REPO / "docs").glob("*.md"))
LINKED = [REPO / "README.md", REPO / "SECURITY.md", REPO / "CHANGELOG.md", *PAGES, REPO / "tests/compat/README.md", REPO / "tests/e2e/README.md",
          REPO / "tests/provider/README.md", REPO / "python/README.md", *sorted((REPO / "examples").glob("*/README.md"))]
FENCE = re.compile(r"^( *)```.*?^\1```$", re.S | re.M)
LINK = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.M)


def text_of(page):
    """Without blocks of code, where brackets are something else."""
    return FENCE.sub("", page.read_text("utf-8"))


def anchor(heading):
    """As GitHub makes it of a heading."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def anchors(page):
    found = []
    for heading in HEADING.findall(text_of(page)):
        name, n = anchor(heading), 0
        while name in found:
            n += 1
            name = f"{anchor(heading)}-{n}"
        found.append(name)
    return {*found, *re.findall(r"<a (?:id|name)=\"([^\"]+)\"", page.read_text("utf-8"))}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(REPO)))
def test_every_link_of_a_page_leads_somewhere(page):
    wrong = []
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "", text_of(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or REPO not in there.parents:
            wrong.append(f"{target}: there is no such file")
        elif fragment and there.suffix == ".md" and fragment not in anchors(there):
            wrong.append(f"{target}: there is no such heading")
    assert wrong == []


def test_every_page_is_in_the_index_of_the_readme_and_leads_back_and_to_the_glossary():
    readme = (REPO / "README.md").read_text("utf-8")
    index = readme[readme.index("\n## Read on\n"):]
    for page in PAGES:
        assert f"](docs/{page.name})" in index, f"README.md, Read on: docs/{page.name} is missing"
        top = page.read_text("utf-8")[:300]
        assert "(../README.md#read-on)" in top, f"{page.name}: no link to the index below its title"
        assert page.name == "glossary.md" or "(glossary.md)" in top, f"{page.name}: no link to the glossary below its title"


def test_the_glossary_is_in_order_and_its_words_are_used():
    terms = re.findall(r"^\| \*\*([^*]+)\*\* \|", (REPO / "docs/glossary.md").read_text("utf-8"), re.M)
    assert len(terms) > 30 and terms == sorted(terms)
    pages = " ".join(page.read_text("utf-8").lower() for page in PAGES if page.name != "glossary.md")
    assert [term for term in terms if term not in pages] == []


def rows_of_errors():
    """{(error word, status)} of the table in troubleshooting.md; a cell that is empty repeats the one above."""
    page = (REPO / "docs/troubleshooting.md").read_text("utf-8")
    section = page[page.index("\n## The client gets an error\n"):page.index("\nErrors without such a word")]
    word, found = "", set()
    for cell, status in re.findall(r"^\| (?:`(\w+)`)? ?\| (\d+) \|", section, re.M):
        word = cell or word
        found.add((word, int(status)))
    return found


def test_every_error_of_the_proxy_has_its_symptom_cause_and_remedy():
    source = (REPO / "proxy/exchange/problem.c").read_text("utf-8")
    made = {(word, int(status)) for status, word in re.findall(r"\bROW\((?!NONE)\w+, (\d+), \"(\w+)\"", source)}
    assert len(made) > 20
    # The statuses that the parser of requests has beside 400.
    made |= {("http_request_error", status) for status in (414, 431)}
    assert rows_of_errors() == made
    elsewhere = subprocess.run(["grep", "-rhoE", r"error=[a-z_]{4,}", "--include=*.c", REPO / "proxy"], capture_output=True, text=True).stdout
    assert {word for word in re.findall(r"error=(\w+)", elsewhere)} <= {word for word, _ in made}


# --- manifests ---

SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds(text):
    return int(text[:-1]) * SECONDS[text[-1]]


def test_the_kubernetes_manifest_gives_parked_calls_their_time_and_asks_the_right_pages():
    yaml = pytest.importorskip("yaml")
    parts = list(yaml.safe_load_all((REPO / "packaging/kubernetes/sidecar.yaml").read_text("utf-8")))
    conf = next(part for part in parts if part["kind"] == "ConfigMap")["data"]["tarry.conf"]
    pod = next(part for part in parts if part["kind"] == "Deployment")["spec"]["template"]["spec"]
    times = dict(re.findall(r"^(\w+) = \"(\d+[smh])\"", conf, re.M))
    assert pod["terminationGracePeriodSeconds"] > seconds(times["drain_delay"]) + seconds(times["shutdown_timeout"])
    tarry = next(container for container in pod["containers"] if container["name"] == "tarry")
    assert tarry["readinessProbe"]["httpGet"]["path"] == "/readyz" and tarry["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert "lifecycle" not in tarry


def test_the_compose_file_gives_parked_calls_their_time():
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((REPO / "packaging/container/compose.yaml").read_text("utf-8"))["services"]
    assert seconds(services["tarry"]["stop_grace_period"]) > 300 and services["tarry"]["depends_on"] == ["app"]


def test_the_container_of_the_page_starts_the_hook_and_has_time_for_parked_calls():
    page = (REPO / "docs/containers.md").read_text("utf-8")
    recipe = re.search(r"```dockerfile\n(.*?)\n```", page, re.S)[1]
    command = json.loads(re.search(r"^CMD (\[.*\])$", recipe, re.M)[1])
    assert command[:3] == ["gunicorn", "-c", "python:tarry.gunicorn"] and "USER app" in recipe
    graceful = int(command[command.index("--graceful-timeout") + 1])
    times = re.findall(r"(?:--time |stop_grace_period: |terminationGracePeriodSeconds: )(\d+)", page)
    assert len(times) > 3 and all(int(time) > graceful for time in times)


# --- HAProxy and nginx ---


@pytest.mark.skipif(not shutil.which("haproxy"), reason="no HAProxy here")
def test_haproxy_takes_the_conf_of_the_page(tmp_path):
    conf = re.search(r"```\n(# haproxy.cfg\ndefaults\n.*?)```", (REPO / "docs/load-balancers.md").read_text("utf-8"), re.S)[1]
    path = tmp_path / "haproxy.cfg"
    path.write_text(f"{conf}\nfrontend clients\n    bind 127.0.0.1:{free_port()}\n    default_backend tarry\n")
    done = subprocess.run(["haproxy", "-c", "-f", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

NGINX = """daemon off;
master_process off;
error_log stderr;
pid {folder}/nginx.pid;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{conf}
}}
"""


@pytest.mark.skipif(not shutil.which("nginx") and not pathlib.Path("/usr/sbin/nginx").exists(), reason="no nginx here")
def test_nginx_as_the_page_sets_it_up_passes_a_stream_on_and_names_the_client(bed):
    page = (REPO / "docs/load-balancers.md").read_text("utf-8")
    conf = re.search(r"<!-- example: nginx.conf -->\n```nginx\n(.*?)\n```", page, re.S)[1]
    seen = []

    def stream(r, c):
        seen.append(r)
        c.send_head(200, headers={"Content-Type": "text/event-stream"})
        c.send_chunk(b"data: first\n\n")
        while not done and not c.server.stopping.is_set():
            if c.peer_is_gone():
                return None
        c.end_chunks()

    done = []
    tarry = bed.site(stream, top={"trusted_proxies": ["127.0.0.1"]}).tarry
    port = free_port()
    conf = conf.replace("127.0.0.1:8080", tarry.address).replace("127.0.0.1:8888", f"127.0.0.1:{port}")
    path = bed.folder / "nginx.conf"
    path.write_text(NGINX.format(folder=bed.folder, conf=conf))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    nginx = subprocess.Popen([program, "-p", bed.folder, "-e", "stderr", "-c", path], stderr=subprocess.DEVNULL)
    try:
        with eventually(lambda: listening(f"127.0.0.1:{port}"), "nginx") as client:
            client.send_request("GET", "/", [("X-Forwarded-For", "192.0.2.7")])
            response = client.begin()
            response.until(b"data: first\n\n")  # while the response goes on
            done.append(True)
            response.read()
        forwarded = seen[0].headers.get("X-Forwarded-For").replace(" ", "").split(",")
        assert forwarded[:2] == ["192.0.2.7", "127.0.0.1"] and seen[0].headers.get("X-Forwarded-Proto") == "http"
    finally:
        nginx.terminate()
        nginx.wait()


def listening(address):
    try:
        return Client(address)
    except ConnectionRefusedError:
        return None
