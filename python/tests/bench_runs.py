"""What a view costs that asks a model: CPU time of the worker for a request, where it waits for its calls, is run again with each answer, or
is suspended; and the memory of a request that is suspended. Compare ratios only.

    python tests/bench_runs.py            # with Django and OpenAI's SDK installed
    python tests/bench_runs.py --rounds 3 --calls 1 5 20 --suspended 1000"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]
os.environ.setdefault("TARRY_TEST_DATABASE", "/tmp/tarry-bench.sqlite3")
os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"

import tarry  # noqa: E402

tarry.patch_all()

import django  # noqa: E402

django.setup()

import openai  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from project import views  # noqa: E402
from visits import Exchange  # noqa: E402

from tarry.format.message import Answer  # noqa: E402
from tarry.runs import memory, suspended  # noqa: E402
from tarry.settings import settings  # noqa: E402

PROMPT = "word " * 2000
MODEL = """
import http.server, json, sys
body = sys.stdin.buffer.read()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *more): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def completion(text):
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage})


class Bench:
    def __init__(self):
        self.model = subprocess.Popen([sys.executable, "-c", MODEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.model.stdin.write(completion("answer").encode())
        self.model.stdin.close()
        self.origin = f"http://127.0.0.1:{int(self.model.stdout.readline())}"
        self.client = openai.OpenAI(api_key="k", base_url=f"{self.origin}/v1")
        self.answer = Answer(200, "OK", [("Content-Type", "application/json")], completion("answer").encode())
        self.app = tarry.wsgi(get_wsgi_application())
        views.now["view"] = self.view

    def view(self, request):
        """An agent: each call has all that was said before."""
        messages = [{"role": "user", "content": PROMPT}]
        for n in range(int(request.GET["n"])):
            made = self.client.chat.completions.create(model="m", messages=messages)
            messages += [{"role": "assistant", "content": made.choices[0].message.content}, {"role": "user", "content": f"and {n}?"}]
        return JsonResponse({"text": messages[-2]["content"]})

    def request(self, n, mode):
        """The worker's CPU time for one, in milliseconds."""
        settings.resume = "auto" if mode == "suspended" else "rerun"
        settings.views = {"/view/": "direct"} if mode == "waits" else {}
        exchange = Exchange(self.app, f"/view/?n={n}", method="GET")
        exchange.origins = self.origin
        cpu = 0.0
        while not exchange.done:
            began = time.process_time()
            exchange.visit()
            cpu += time.process_time() - began
            if not exchange.done:
                exchange.answer(lambda call: self.answer)
        assert exchange.json() == {"text": "answer"}
        assert exchange.hop == (0 if mode == "waits" else n)
        return cpu * 1000

    def memory(self, count, resume="auto"):
        """KiB of a request that waits for its first call: suspended, or left to be run again."""
        settings.resume, settings.views = resume, {}
        before = memory.resident()
        open_ = []
        for _ in range(count):
            exchange = Exchange(self.app, "/view/?n=1", method="GET")
            exchange.origins = self.origin
            exchange.visit()
            assert bool(exchange.suspended) == (resume == "auto")
            exchange.calls.clear()  # what the test double keeps
            open_.append(exchange.id)
        grown = memory.resident() - before
        suspended.drop_all()
        return grown / count / 1024

    def stop(self):
        self.model.kill()
        self.model.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--suspended", type=int, default=1000)
    options = parser.parse_args()
    bench = Bench()
    modes = ["waits", "rerun", "suspended"]
    try:
        for mode in modes:
            bench.request(2, mode)  # what is loaded and made at first
        # Twice: what the first wave takes and gives back is not the requests'.
        again = [bench.memory(options.suspended, "rerun") for _ in range(2)][1]
        kib = [bench.memory(options.suspended) for _ in range(2)]
        print(f"suspended, {options.suspended} at once: {kib[0]:.1f} KiB each; a second time {kib[1]:.1f} more")
        print(f"left to be run again, {options.suspended} at once: {again:.2f} KiB each")
        print("calls  " + "".join(f"{mode:>12}" for mode in modes) + "   (ms of CPU a request, median, and the ratio to a worker that waits)")
        for n in options.calls:
            found = {mode: [] for mode in modes}
            repeats = max(40 // n, 2)
            for turn in range(options.rounds):
                for mode in modes if turn % 2 else modes[::-1]:
                    found[mode] += [bench.request(n, mode) for _ in range(repeats)]
            middle = {mode: statistics.median(times) for mode, times in found.items()}
            print(
                f"{n:5}  "
                + "".join(f"{middle[mode]:12.2f}" for mode in modes)
                + "   "
                + ", ".join(f"{middle[mode] / middle['waits']:.2f} x" for mode in modes[1:])
            )
    finally:
        bench.stop()


if __name__ == "__main__":
    main()
