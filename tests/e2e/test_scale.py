"""The Python package at scale: unmodified views that call a model by OpenAI's SDK, a thousand clients, one worker."""

import json
import pathlib

import pytest

from harness import Gate, Reply, eventually
from harness.apps import current_python
from harness.crowd import at_once
from harness.example import Example

N = 1000
SERVERS = ["gunicorn", "granian"]
PATIENCE = 100  # for a thousand runs of a view on a busy machine; nothing that is asserted
# What a worker may grow by when a thousand calls are out and not ten: the heap's fragments, and nothing that is kept for
# each. A greenlet or thread with its client's socket takes more than 100 KiB, this allows 8.
GROWTH_KIB = 16 * 1024  # suspended, a thousand take 64 MiB and more; what malloc keeps for the threads of Granian varies by 10


def private_kib(pid):
    rows = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith(("Private_Clean:", "Private_Dirty:")))


def completion(text):
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}


class Model:
    """An upstream that keeps every call until the test lets all of them go."""

    def __init__(self, bed):
        self.gate = Gate()
        self.server = bed.upstream(self._answer, backlog=4096)

    def _answer(self, request, conn):
        self.gate.wait(PATIENCE)
        text = json.loads(request.body)["messages"][-1]["content"]
        return Reply(200, json.dumps(completion(f"echo:{text} ")), {"Content-Type": "application/json"})


def parked(bed, site, model, clients, name):
    """All clients' calls are with the model at the same moment, and none is answered: no client waits for another. What
    the worker takes then, in KiB; afterwards each gets the answer to its own question."""
    model.gate = Gate()
    questions = [f"{name} {i}" for i in range(clients)]
    asked = bed.background(at_once, site.tarry, "/api/ask/", [{"question": q} for q in questions])
    eventually(lambda: model.server.active == clients, f"{clients} calls at the same moment", PATIENCE)
    (pid,) = site.server.worker_pids()
    kib = private_kib(pid)
    # Nor does anybody else wait for them.
    assert site.tarry.get("/api/answers/").status == 200
    assert asked.running and model.server.active == clients
    model.gate.open()
    check_answers(asked.result(PATIENCE), questions)
    return kib


def check_answers(results, questions):
    assert [status for status, _, _ in results] == [200] * len(questions)
    for question, (_, _, body) in zip(questions, results):
        answer = json.loads(body)
        assert answer["question"] == question and answer["text"].startswith(f"echo:{question} ")
    assert len({json.loads(body)["id"] for _, _, body in results}) == len(questions)  # each stored its own row


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_a_thousand_calls_are_out_at_once_and_the_worker_keeps_nothing_of_them(bed, server):
    model = Model(bed)
    site = Example(bed, server, python=current_python(), origin=model.server.origin, up={"max_connections": N + 10})
    parked(bed, site, model, 10, "first")  # what is loaded once is there then
    few = parked(bed, site, model, 10, "few")
    many = parked(bed, site, model, N, "many")
    assert many - few < GROWTH_KIB, f"{few} KiB with 10 calls out, {many} KiB with {N}"
    assert site.rows("SELECT count(*) FROM chat_answer") == [(N + 20,)]


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_a_thousand_clients_and_a_model_that_takes_two_seconds(bed, server):
    site = Example(bed, server, python=current_python(), provider=["--delay", "2s"])
    questions = [f"question number {i}" for i in range(N)]
    check_answers(at_once(site.tarry, "/api/ask/", [{"question": q} for q in questions]), questions)
    assert len(site.server.worker_pids()) == 1
    site.tarry.access.wait_for(n=N)
    lines = site.tarry.access.lines
    assert {(line["status"], line["hops"], line["calls"], line["end"]) for line in lines} == {(200, 2, 1, "complete")}
    # They waited side by side: one after the other would take 2,000 s.
    assert sum(line["parked_ms"] for line in lines) > N * 1900 and max(line["total_ms"] for line in lines) < 100000
    assert len(site.provider.wait_records(N)) == N
    assert "made directly" not in site.server.output


@pytest.mark.slow
def test_two_hundred_agents_of_five_calls_on_two_workers(bed):
    site = Example(bed, workers=2, python=current_python(), provider=["--delay", "300ms"])
    questions = [f"What does agent number {i} know?" for i in range(200)]
    results = at_once(site.tarry, "/api/agent/", [{"question": q} for q in questions])
    assert [status for status, _, _ in results] == [200] * len(questions)
    for question, (_, _, body) in zip(questions, results):
        check_steps(question, json.loads(body)["steps"])
    site.tarry.access.wait_for(n=200)
    assert {(line["hops"], line["calls"], line["end"]) for line in site.tarry.access.lines} == {(6, 5, "complete")}
    assert len(site.provider.wait_records(1000)) == 1000  # no call was made twice
    assert site.rows("SELECT count(*), count(DISTINCT question) FROM chat_answer") == [(200, 200)]
    # Every run asked what the recorded answers were given to.
    assert "differs" not in site.server.output and "made directly" not in site.server.output


def check_steps(question, steps):
    """The stand-in says again what it was asked: so each answer shows that its question had the answers before it."""
    def asked(text):
        return "echo:" + text[:200]
    assert steps["plan"].startswith(asked(question))
    assert steps["draft"].startswith(asked(f"{question}\n\nPlan: {steps['plan']}"))
    assert steps["critique"].startswith(asked(f"{question}\n\nDraft, {length(steps['draft'])}: {steps['draft']}"))
    assert steps["answer"].startswith(asked(f"{question}\n\nDraft: {steps['draft']}"))
    assert steps["title"].startswith(asked(f"{question}\n\nAnswer, {length(steps['answer'])}: {steps['answer']}"))


def length(text):
    """As the agent's tool tells it; the stand-in's sentences end only where the question's do."""
    return f"{len(text.split())} words in {max(1, text.count('? ') + text.count('?' + chr(10)))} sentences"
