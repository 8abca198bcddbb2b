"""A WSGI app without a framework: a generator, and one that writes."""

import json
import os
import urllib.request


def lines(name):
    call = urllib.request.Request(
        f"{os.environ['MODEL_ORIGIN']}/plain", json.dumps({"stream": True, "name": name}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(call) as response:
        yield from response


def generator(environ, start_response):
    """The whole app is a generator: its head is told with its first chunk."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"begin\n"
    yield from lines(environ["PATH_INFO"].rpartition("/")[2])


def writes(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written\n")
    return lines(environ["PATH_INFO"].rpartition("/")[2])


def without_body(environ, start_response):
    """As a framework answers that a file has not changed: a file's response, without its length."""
    start_response(environ["PATH_INFO"][1:] + " Without", [("ETag", '"a"')])
    yield b""


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path in ("/204", "/304"):
        return without_body(environ, start_response)
    if path == "/ok":
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]
    return (generator if path.startswith("/generator/") else writes)(environ, start_response)
