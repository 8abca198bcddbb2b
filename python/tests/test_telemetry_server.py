"""What an app that OpenTelemetry watches reports under `gunicorn -c python:tarry.gunicorn`, with the real Tarry in front."""

import json
import sys

import pytest

for package in ("flask", "opentelemetry.sdk", "opentelemetry.instrumentation.flask"):
    pytest.importorskip(package)

from behind import Reply, eventually, find_binary, new_bed, show
from harness.apps import Program
from harness.base import free_port
from harness.client import request

from tarry.runs import suspended

APP = """
import json, logging, os, urllib.request
import flask
import tarry
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

class Lines(SpanExporter):
    def export(self, spans):
        with open("spans", "a") as file:
            for span in spans:
                words = {name: span.attributes.get(name) for name in ("tarry.exchange", "tarry.run", "tarry.handoff", "http.target")}
                print(json.dumps({**words, "took": span.end_time - span.start_time}), file=file)
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Lines()))
trace.set_tracer_provider(provider)
app = flask.Flask(__name__)
FlaskInstrumentor().instrument_app(app)
log = logging.getLogger("app")
handler = logging.StreamHandler()
handler.addFilter(tarry.LogFilter())
handler.setFormatter(logging.Formatter("said exchange=%(tarry_exchange)s run=%(tarry_run)s %(message)s"))
log.addHandler(handler)

@app.get("/ok")
def ok():
    return "ok"

@app.get("/ask")
def ask():
    with urllib.request.urlopen(os.environ["MODEL_ORIGIN"] + "/v1") as answer:
        text = answer.read().decode()
    log.warning("answered")
    return text
"""


@pytest.fixture
def bed(tmp_path):
    bed = new_bed(tmp_path)
    yield bed
    show(bed)
    bed.stop()


@pytest.mark.parametrize("resume", ["auto", "rerun"])
def test_a_request_is_one_span_and_one_line(bed, resume):
    if resume == "auto" and suspended.missing():
        pytest.skip(suspended.missing())
    (bed.folder / "app.py").write_text(APP)
    service, address = bed.upstream(lambda r, c: Reply(200, b"answer")), f"127.0.0.1:{free_port()}"
    env = {
        "MODEL_ORIGIN": service.origin,
        "TARRY_ORIGINS": service.origin,
        "TARRY_RESUME": resume,
        "TARRY_BINARY": str(find_binary()),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": ":".join(sys.path),
    }
    own = "line %(U)s %(s)s %({tarry.run}e)s %({tarry.exchange_id}e)s"
    words = ["gunicorn", "-c", "python:tarry.gunicorn", "app:app", "--bind", address, "--access-logfile", "-", "--access-logformat", own]
    gunicorn = bed.add(Program([sys.executable, "-m", *words], env, str(bed.folder)))

    def get(path):
        try:
            return request(address, "GET", path)
        except OSError:
            return None

    eventually(lambda: get("/ok"), "the app")
    assert get("/ask").text == "answer"
    runs = 1 if resume == "auto" else 2
    line = gunicorn.wait_line(rf"line /ask 200 {runs} (\S+)")
    exchange = line[1]
    gunicorn.wait_line(rf"said exchange={exchange} run={runs} answered")
    assert sum("line /ask" in text for text in gunicorn.lines) == 1
    spans = [json.loads(text) for text in (bed.folder / "spans").read_text().splitlines()]
    spans = [span for span in spans if span["http.target"] == "/ask"]
    assert [span["tarry.exchange"] for span in spans] == [exchange] * runs
    assert [(span["tarry.run"], span["tarry.handoff"]) for span in spans] == ([(1, None)] if runs == 1 else [(1, True), (2, None)])
