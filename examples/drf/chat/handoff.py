"""Tarry's handoff protocol by hand: plain functions without a library, small enough to copy into a project.

A view returns handoff(…) instead of calling the model. Tarry makes the calls, and either passes the model's answer to the
client ("relay") or comes back with all answers ("resume PATH"), to a view that reads them with answers(…).
"""
import json
from collections import namedtuple
from hmac import compare_digest
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpResponse


def problem(request, kind="request", feature="resume"):
    """Why this is not a visit from Tarry of that kind, as (status, text); None if it is one."""
    version = request.headers.get("Tarry-Version")
    if version is None:
        return 501, "This view leaves its model call to Tarry, and this request did not come through Tarry."
    if not settings.TARRY_SECRET:
        return 501, "TARRY_SECRET is not set: without it the app cannot tell Tarry from others."
    secret = request.headers.get("Tarry-Auth", "").encode("latin-1", "replace")
    if not compare_digest(secret, settings.TARRY_SECRET.encode()):
        return 403, "Tarry-Auth is not this app's TARRY_SECRET."
    if request.headers.get("Tarry-Kind") != kind:
        return 403, f"Only a {kind} from Tarry is served here."
    features = request.headers.get("Tarry-Features", "").replace(" ", "").split(",")
    if version != "1" or feature not in features:
        return 501, f"This Tarry does not offer {feature} in version 1 of the protocol."
    return None


def call(url, body, call_id="", **headers):
    """One enclosed request: a POST of `body` as JSON. headers: Accept="…", Tarry_Timeout="30"."""
    if urlsplit(url).scheme not in ("https", "http", "tarry"):
        raise ValueError(f"a call needs an absolute URL, not {url!r}")
    data = json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}
    if call_id:
        headers["Tarry-Call-Id"] = call_id
    lines = [f"POST {url} HTTP/1.1"] + [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
    if not all(line.isascii() and line.isprintable() for line in lines):
        raise ValueError("URL, headers and id of a call are printable ASCII")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def handoff(then, *calls, **headers):
    """The response that hands `calls` off. then: "relay" or "resume PATH"; headers: Tarry_State="…", …"""
    response = HttpResponse(b"".join(calls), content_type="application/http; msgtype=request")
    response["Tarry-Then"] = then
    for name, value in headers.items():
        response[name.replace("_", "-")] = value
    return response


Reply = namedtuple("Reply", "status headers body")  # names of headers in lower case


def answers(data):
    """The enclosed responses in a resume's body, in the order of the calls."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (f.partition(":") for f in fields)}
        size = int(headers["content-length"])
        found.append(Reply(int(first.split(" ")[1]), headers, data[:size]))
        data = data[size:]
    return found
