"""Reads an OTLP request in JSON from standard input as a collector does, with OpenTelemetry's own schema, and writes one
line a span: its name, its kind, and the length of its ids. What the schema does not know is an error."""

import base64
import binascii
import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def as_protobuf(spans):
    """OTLP writes ids in hexadecimal where the JSON form of protobuf has base64."""
    for span in spans:
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:
                span[name] = base64.b64encode(binascii.unhexlify(span[name])).decode()


message = json.load(sys.stdin)
for resource in message["resourceSpans"]:
    for scope in resource["scopeSpans"]:
        as_protobuf(scope["spans"])
request = json_format.ParseDict(message, ExportTraceServiceRequest())
for resource in request.resource_spans:
    for scope in resource.scope_spans:
        for span in scope.spans:
            assert span.start_time_unix_nano and span.end_time_unix_nano >= span.start_time_unix_nano
            print(span.name, span.kind, len(span.trace_id), len(span.span_id), len(span.parent_span_id), sep="\t")
