"""A WSGI app that writes down each request as the server parsed it: a JSON line a request in the file SEEN."""

import base64
import json
import os


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    headers = {name[5:]: value for name, value in environ.items() if name.startswith("HTTP_")}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name] = environ[name]
    line = json.dumps({"method": environ["REQUEST_METHOD"], "target": environ["RAW_URI"], "headers": headers,
                       "body": base64.b64encode(body).decode()})
    with open(os.environ["SEEN"], "a") as f:
        f.write(line + "\n")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
