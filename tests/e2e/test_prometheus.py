"""Metrics, alert rules and the Grafana dashboard with the real Prometheus: it reads them, and every name in them exists."""

import json
import re
import shutil
import subprocess
import urllib.parse

import pytest

from harness import Raw, Reply, call, eventually, free_port, handoff
from harness.apps import Program
from harness.client import Client
from harness.tarry import REPO

ALERTS, GRAFANA = REPO / "conf/prometheus-alerts.yml", REPO / "conf/grafana-dashboard.json"
TESTS = REPO / "tests/e2e/apps/alerts_test.yml"
NAME = re.compile(r"\btarry_[a-z0-9_]+")


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120, **more)
    return done.returncode, done.stdout + done.stderr


class Prometheus(Program):
    what = "prometheus"

    def __init__(self, folder, target):
        self.port = free_port()
        (folder / "prometheus.yml").write_text(
            f"global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [ {ALERTS} ]\n"
            f"scrape_configs: [ {{ job_name: tarry, static_configs: [ {{ targets: [ '{target}' ] }} ] }} ]\n")
        super().__init__(["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
                          f"--web.listen-address=127.0.0.1:{self.port}", "--web.enable-admin-api"])
        self.wait_line("Server is ready to receive web requests")

    def ask(self, path, **query):
        with Client(f"127.0.0.1:{self.port}") as c:
            got = c.request("GET", path + ("?" + urllib.parse.urlencode(query) if query else ""))
        answer = json.loads(got.text)
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, expression):
        return self.ask("/api/v1/query", query=expression)["result"]


def busy_site(bed):
    """A site on which something of each kind has happened."""
    def model(r, c):
        if r.path == "/cut":
            return Raw(b"nonsense\r\n\r\n")
        body = {"id": "x", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"},
                "finish_reason": "stop"}], "usage": {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}}
        return Reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
    upstream = bed.upstream(model)
    worker = bed.worker(lambda r, c: handoff("relay", [call(upstream.origin + r.path, b"{}")]) if r.path != "/plain" else Reply(200, b"ok"))
    conf = bed.conf(worker, upstream)
    conf.up.update(api="openai", retries=0)
    admin = f"127.0.0.1:{free_port()}"
    conf.admins[admin] = {}
    certificate, key = bed.authority.leaf("prometheus")
    conf.listens[f"127.0.0.1:{free_port()}"] = {"certificate": str(certificate), "private_key": str(key)}
    tarry = bed.tarry(conf)
    for path in ("/plain", "/v1/chat/completions", "/cut", "/v1/chat/completions"):
        tarry.get(path)
    return tarry, admin


def test_promtool_has_nothing_to_say_about_the_metrics(bed):
    tarry, admin = busy_site(bed)
    code, said = run("promtool", "check", "metrics", input=tarry.ask_admin("/metrics"))
    assert code == 0 and said.strip() == "", said


def test_the_alert_rules_fire_when_they_should(bed):
    assert run("promtool", "check", "rules", ALERTS)[0] == 0
    shutil.copy(ALERTS, bed.folder / "alerts.yml")
    shutil.copy(TESTS, bed.folder / "test.yml")
    code, said = run("promtool", "test", "rules", bed.folder / "test.yml")
    assert code == 0, said


def expressions():
    panels = [p for p in json.loads(GRAFANA.read_text())["panels"] if p["type"] != "row"]
    assert len(panels) > 15
    for panel in panels:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$instance", ".*").replace("$__rate_interval", "1m")
    for rule in re.findall(r"expr: (?:\|\n((?:          .*\n)+)|(.*))", ALERTS.read_text()):
        yield "alert", (rule[0] or rule[1]).strip().strip("'")


def test_prometheus_knows_every_name_in_the_dashboard_and_the_alerts(bed):
    """Each expression is good, and each metric in it is one that Tarry has: a renamed metric fails here."""
    tarry, admin = busy_site(bed)
    prometheus = bed.add(Prometheus(bed.folder, admin))
    eventually(lambda: prometheus.value('up{job="tarry"} == 1'), "a scrape")
    eventually(lambda: prometheus.value("tarry_responses_total"), "a scrape with traffic")
    known = set(prometheus.ask("/api/v1/label/__name__/values"))
    wanted = list(expressions())
    assert len(wanted) > 40
    for title, expression in wanted:
        prometheus.value(expression)
        for name in NAME.findall(expression):
            assert name in known, f"{title}: Tarry has no {name}"
    rules = eventually(lambda: [r for g in prometheus.ask("/api/v1/rules")["groups"] for r in g["rules"] if r["health"] == "ok"], "the rules")
    assert len(rules) >= 15


@pytest.mark.parametrize("processes", [1, 2])
def test_what_prometheus_reads_is_what_happened(bed, processes):
    tarry, admin = busy_site(bed)
    if processes == 2:
        tarry.conf.top["processes"] = 2
        tarry.stop()
        tarry = bed.tarry(tarry.conf)
        for path in ("/plain", "/v1/chat/completions", "/cut", "/v1/chat/completions"):
            tarry.get(path)
    prometheus = bed.add(Prometheus(bed.folder, admin))
    eventually(lambda: prometheus.value('sum(tarry_responses_total) >= 4'), "a scrape with all four")
    classes = {m["metric"]["class"]: m["value"][1] for m in prometheus.value("sum by (class) (tarry_responses_total)")}
    assert (classes["2xx"], classes["5xx"]) == ("3", "1")
    tokens = {m["metric"]["kind"]: m["value"][1] for m in prometheus.value('tarry_upstream_tokens_total{upstream="up"}')}
    assert tokens["input"] == "18" and tokens["output"] == "14"
    assert prometheus.value("tarry_processes")[0]["value"][1] == str(processes)
