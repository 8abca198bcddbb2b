"""A program of its own, because instrumentation is for a whole process: an app that OpenTelemetry or Sentry watches, with their real
packages, and a client that takes its requests through their visits as Tarry would.

telemetry.py FRAMEWORK RESUME prints what both report, as JSON."""

import json
import sys
import time

import tarry

framework, resume = sys.argv[1:]
tarry.patch_all(resume=resume)

from asking import MODEL, ask  # noqa: E402
from visits import Exchange  # noqa: E402

SLOW = 0.2  # of the model


def django_app():
    from django.conf import settings

    def view(request):
        if "without" in request.GET:
            return HttpResponse("no call")
        return HttpResponse(ask())

    settings.configure(
        SECRET_KEY="tests", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, MIDDLEWARE=["tarry.django.Middleware"], DEBUG=False
    )
    from opentelemetry.instrumentation.django import DjangoInstrumentor

    DjangoInstrumentor().instrument()
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import path

    globals()["urlpatterns"] = [path("ask/", view)]
    return tarry.wsgi(get_wsgi_application())


def flask_app():
    import flask

    app = flask.Flask("app")

    @app.get("/ask/")
    def view():
        return "no call" if "without" in flask.request.args else ask()

    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    FlaskInstrumentor().instrument_app(app)
    app.wsgi_app = tarry.wsgi(app.wsgi_app)
    return app


def plain_app(outside=False):
    def app(environ, start_response):
        text = "no call" if "without" in environ["QUERY_STRING"] else ask()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]

    def watched(app):
        from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
        from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware

        return SentryWsgiMiddleware(OpenTelemetryMiddleware(app))

    return watched(tarry.wsgi(app)) if outside else tarry.wsgi(watched(app))


def otel():
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, filtered = InMemorySpanExporter(), InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(tarry.SpanFilter(SimpleSpanProcessor(filtered)))
    trace.set_tracer_provider(provider)

    def spans(of):
        return [
            {
                "kind": span.kind.name,
                "trace": f"{span.context.trace_id:032x}",
                "parent": span.parent is not None and f"{span.parent.span_id:016x}",
                "seconds": (span.end_time - span.start_time) / 1e9,
                "failed": span.status.status_code.name == "ERROR",
                **{name: span.attributes.get(name) for name in ("tarry.exchange", "tarry.run", "tarry.handoff")},
                "status": span.attributes.get("http.status_code"),
            }
            for span in of.get_finished_spans()
        ]

    return lambda: {"spans": spans(exporter), "filtered": spans(filtered)}


def sentry():
    import sentry_sdk

    sent = []

    class Transport(sentry_sdk.transport.Transport):
        def capture_envelope(self, envelope):
            sent.extend(item.payload.json for item in envelope.items if item.payload.json)

    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=Transport, traces_sample_rate=1.0, auto_session_tracking=False)

    def report():
        sentry_sdk.flush()
        return {
            "transactions": [
                {"tags": event.get("tags", {}), "status": event["contexts"].get("response", {}).get("status_code"),
                 "seconds": seconds(event["timestamp"]) - seconds(event["start_timestamp"])}
                for event in sent if event.get("type") == "transaction"
            ],
            "errors": [value["type"] for event in sent for value in event.get("exception", {}).get("values", [])],
        }  # fmt: skip

    def seconds(text):
        from datetime import datetime

        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()

    return report


reports = [otel(), sentry()]
app = {"django": django_app, "flask": flask_app, "wsgi": plain_app, "outside": lambda: plain_app(True)}[framework]()


def request(path, traceparent=None):
    exchange = Exchange(app, path, method="GET", headers={"traceparent": traceparent} if traceparent else {})
    exchange.visit()
    while not exchange.done:
        time.sleep(SLOW)
        exchange.go("answer")
    return {"id": exchange.id, "text": exchange.text}


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
answers = [request("/ask/", TRACE), request("/ask/?without=1")]
print(json.dumps({"answers": answers, **reports[0](), **reports[1]()}))
