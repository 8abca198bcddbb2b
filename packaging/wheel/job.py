"""The main job with the installed wheel, for any Python and without further packages: a worker hands a call off, Tarry makes it, and
the answer is relayed to the client or brought back to the worker.

    python job.py [TARRY]        the command (tarry, on PATH)

Exits with 0 when all went well. scripts/test runs it in an empty environment and in a bare Debian root."""

import http.client
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading


class Upstream(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = b"answer to " + self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Worker(http.server.BaseHTTPRequestHandler):
    origin = ""

    def do_GET(self):
        then = {"/relay": "relay", "/resume": "resume /finish"}[self.path]
        question = self.path[1:].encode()
        call = f"POST {self.origin}/v1/ask HTTP/1.1\r\nContent-Length: {len(question)}\r\n\r\n".encode() + question
        self.answer(call, {"Content-Type": "application/http; msgtype=request", "Tarry-Then": then, "Tarry-State": "kept"})

    def do_POST(self):
        """The resume: its body is the response to the call."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/finish" and self.headers["Tarry-State"] == "kept", self.headers
        self.answer(b"resumed with " + body.rpartition(b"\r\n\r\n")[2].strip(), {"Content-Type": "text/plain"})

    def answer(self, body, headers):
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_address[1]}"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def main():
    tarry = sys.argv[1] if len(sys.argv) > 1 else "tarry"
    version = subprocess.run([tarry, "-V"], check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout
    Worker.origin = f"http://{serve(Upstream)}"
    worker, port = serve(Worker), free_port()
    with tempfile.TemporaryDirectory() as folder:
        conf = os.path.join(folder, "tarry.conf")
        with open(conf, "w") as file:
            file.write(
                f'temp_dir = "{folder}"\nlisten "127.0.0.1:{port}" {{ }}\nworkers "app" {{ server "{worker}" {{ slots = 4 }} }}\n'
                f'upstream "model" {{ origin = "{Worker.origin}" }}\nroute "/" {{ workers = "app" }}\n'
            )
        subprocess.run([tarry, "-t", "-c", conf], check=True, stdout=subprocess.PIPE)
        process = subprocess.Popen([tarry, "-c", conf], stderr=subprocess.PIPE, universal_newlines=True)
        try:
            said = ""
            while "tarry: ready" not in said:
                line = process.stderr.readline()
                assert line, f"tarry ended:\n{said}"
                said += line
            threading.Thread(target=process.stderr.read, daemon=True).start()
            assert ask(port, "/relay") == (200, b"answer to relay")
            assert ask(port, "/resume") == (200, b"resumed with answer to resume")
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, process.returncode
    print(re.sub(r"\n.*", "", version, flags=re.S) + ": relay and resume went well")


main()
