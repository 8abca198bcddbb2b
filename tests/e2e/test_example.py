"""The app of examples/chat, with what Debian has: the views by requests, and its page in a browser."""

import base64
import hashlib
import json
import subprocess
import uuid

import pytest

from harness import Client, eventually
from harness.browser import Browser
from harness.example import Example
from test_scale import check_steps

QUESTION = "Why does a sync worker wait?"


@pytest.fixture
def site(bed):
    return Example(bed)


def test_the_unmodified_view_is_run_twice_and_stores_one_answer(site):
    answer = site.post("/api/ask/", {"question": QUESTION}).json()
    assert answer["text"].startswith(f"echo:{QUESTION} ")
    assert site.rows("SELECT id, question, text FROM chat_answer") == [(answer["id"], QUESTION, answer["text"])]
    line = site.tarry.access.wait_for()
    assert (line["hops"], line["calls"]) == (2, 1)


def test_the_agent_asks_five_times_and_each_time_with_the_answer_before(site):
    site.post("/api/ask/", {"question": QUESTION})  # an earlier answer for the tool to find
    check_steps(QUESTION, site.post("/api/agent/", {"question": QUESTION}).json()["steps"])
    line = site.tarry.access.wait_for(n=2)
    assert (line["hops"], line["calls"]) == (6, 5)
    bodies = [r for r in site.provider.records if r["path"] == "/v1/chat/completions"]
    assert len(bodies) == 6


def test_gather_sends_both_calls_in_one_handoff(site):
    both = site.post("/api/compare/", {"question": QUESTION}).json()
    assert all(both[name].startswith(f"echo:{QUESTION} ") for name in ("short", "thorough"))
    line = site.tarry.access.wait_for()
    assert (line["hops"], line["calls"]) == (2, 2)


def test_without_tarry_the_same_views_call_the_model_themselves(site):
    for path in ("/api/ask/", "/api/compare/", "/api/agent/"):
        worker = Client(site.server.address)
        got = worker.request("POST", path, {"Content-Type": "application/json"}, json.dumps({"question": QUESTION}))
        worker.close()
        assert got.status == 200 and f"echo:{QUESTION} " in got.text
    assert not site.tarry.access.lines and len(site.provider.wait_records(8)) == 8


def test_without_tarry_a_chat_is_streamed_and_saved_too(site):
    conversation = str(uuid.uuid4())
    worker = Client(site.server.address)
    got = worker.request("POST", "/api/chat/", {"Content-Type": "application/json"},
                         json.dumps({"conversation": conversation, "text": "Hello"}))
    worker.close()
    assert got.status == 200 and got.headers.get("Content-Type").startswith("text/event-stream")
    assert got.text.rstrip().endswith("data: [DONE]")
    saved = messages(site, conversation, 2)[1]
    assert saved["text"].startswith("echo:Hello ") and saved["whole"] and saved["tokens"] == 20


def chat(site, conversation, text):
    got = site.post("/api/chat/", {"conversation": conversation, "text": text})
    assert got.status == 200 and got.headers.get("Content-Type").startswith("text/event-stream"), got.body
    events = [json.loads(line[6:]) for line in got.text.split("\n\n") if line.startswith("data: {")]
    assert got.text.rstrip().endswith("data: [DONE]")
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])


def messages(site, conversation, n):
    """The stored messages, once there are n of them: the app hears of a reply after the client."""
    def found():
        got = site.tarry.get(f"/api/conversations/{conversation}/")
        return got.json() if got.status == 200 and len(got.json()) == n else None
    return eventually(found, f"{n} stored messages")


def test_a_chat_is_streamed_and_saved(site):
    conversation = str(uuid.uuid4())
    first = chat(site, conversation, "Hello")
    assert messages(site, conversation, 2) == [
        {"role": "user", "text": "Hello", "whole": True, "tokens": None},
        {"role": "assistant", "text": first, "whole": True, "tokens": 20},
    ]
    # The model is told what was said before: a longer prompt, by both messages.
    chat(site, conversation, "Hello")
    messages(site, conversation, 4)
    first, second = [r["body_length"] for r in site.provider.wait_records(2)]
    assert second > first + 100


def test_a_model_that_fails_is_an_error_for_the_page_and_leaves_nothing_behind(bed):
    site = Example(bed, provider=["--fault", "503=none"], up={"retries": 0})
    got = site.post("/api/chat/", {"conversation": str(uuid.uuid4()), "text": "Hello"})
    assert got.status == 502 and got.json() == {"detail": "The model's service answered 503."}
    assert site.rows("SELECT count(*) FROM chat_message") == [(0,)]
    for path in ("/api/ask/", "/api/agent/", "/api/compare/"):
        got = site.post(path, {"question": QUESTION})
        assert got.status == 503 and got.json() == {"detail": "The model's service answered 503."}
    assert site.rows("SELECT count(*) FROM chat_answer") == [(0,)]


def test_no_client_can_pretend_that_a_reply_has_ended(site):
    for path in ("/internal/chat/saved/", "/internal/chat/failed/"):
        assert site.post(path, {}, **{"Tarry-Kind": "notify", "Tarry-Auth": "worker-secret", "Tarry-Version": "1"}).status == 404


@pytest.fixture
def page(bed, request):
    """The page in a browser, with a model as the test's mark says it."""
    model, pool = request.param
    site = Example(bed, provider=model, pool=pool, up={"retries": 0})
    browser = bed.add(Browser(bed.folder))
    browser.go(site.tarry.url + "/")
    browser.site = site
    return browser


def say(page, text):
    page.run(f"(fill('text', {json.dumps(text)}), $('chat').requestSubmit())")


SLOW = ["--tokens", "60", "--pace", "50ms"]


@pytest.mark.slow
@pytest.mark.parametrize("page", [(SLOW, {})], indirect=True)
def test_the_page_shows_the_answer_as_it_is_written_and_again_after_a_reload(page):
    say(page, "Hello")
    # It grows, and the button is for stopping meanwhile.
    length = "document.querySelector('.assistant')?.textContent.length"
    first = page.wait(f"document.querySelector('.assistant.writing') && $('send').textContent == 'Stop' && {length}")
    page.wait(f"{length} > {first} && document.querySelector('.assistant.writing') !== null")
    page.wait("document.querySelector('.note').textContent.endsWith('saved, 60 tokens')")
    whole = page.run("document.querySelector('.assistant').textContent")
    assert whole.startswith("echo:Hello ") and page.run("$('send').textContent") == "Send"
    page.run("location.reload()")
    page.wait("document.readyState == 'complete' && document.querySelector('.assistant') && "
              f"document.querySelector('.assistant').textContent == {json.dumps(whole)}")
    assert page.problems == []


@pytest.mark.slow
def test_a_browser_over_https_and_http2_sees_the_answer_as_it_is_written(bed):
    certificate, key = bed.authority.leaf()
    site = Example(bed, provider=SLOW, listen={"certificate": str(certificate), "private_key": str(key)})
    public = subprocess.run(["openssl", "x509", "-in", certificate, "-pubkey", "-noout"], check=True, capture_output=True).stdout
    spki = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=public, check=True, capture_output=True).stdout
    pin = base64.b64encode(hashlib.sha256(spki).digest()).decode()
    page = bed.add(Browser(bed.folder, [f"--ignore-certificate-errors-spki-list={pin}"]))
    page.go(f"https://{site.tarry.address}/")
    assert page.run("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
    say(page, "Hello")
    length = "document.querySelector('.assistant')?.textContent.length"
    first = page.wait(f"document.querySelector('.assistant.writing') && {length}")
    page.wait(f"{length} > {first} && document.querySelector('.assistant.writing') !== null")
    page.wait("document.querySelector('.note').textContent.endsWith('saved, 60 tokens')")
    assert page.problems == []
    assert {line["protocol"] for line in site.tarry.access.lines} == {"HTTP/2.0"}


@pytest.mark.slow
@pytest.mark.parametrize("page", [(SLOW, {})], indirect=True)
def test_the_page_stops_an_answer_and_what_came_of_it_is_saved(page):
    say(page, "Hello")
    page.wait("document.querySelector('.assistant')?.textContent.length > 20")
    page.run("$('chat').requestSubmit()")
    page.wait("document.querySelector('.note').textContent.includes('saved as far as it came')")
    ((text, whole),) = page.site.rows("SELECT text, whole FROM chat_message WHERE role = 'assistant'")
    assert text.startswith("echo:Hello ") and len(text.split()) < 60 and not whole
    assert page.site.provider.wait_records(1)[0]["end"] == "reset-by-peer"  # the model is told to stop as well


@pytest.mark.slow
@pytest.mark.parametrize("page", [
    (["--fault", "503=none"], {}),
    # The head is out, with a comment that keeps the connection alive: then the error comes as an event.
    (["--fault", "503=none", "--delay", "600ms"], {"keep_alive_interval": "100ms"}),
], ids=["at once", "after a keep-alive"], indirect=True)
def test_the_page_shows_what_went_wrong_and_gives_the_message_back(page):
    say(page, "Hello")
    page.wait("document.querySelector('.note.failed') !== null")
    assert page.run("document.querySelector('.note.failed').textContent") not in ("", "thinking …")
    assert page.run("$('text').value") == "Hello" and page.run("$('send').textContent") == "Send"


@pytest.mark.slow
@pytest.mark.parametrize("page", [([], {})], indirect=True)
def test_the_page_asks_the_three_views(page):
    for n, what in enumerate(("ask", "agent", "compare"), 1):
        page.run(f"(fill('question', 'What is {what}?'), document.querySelector('button[value={what}]').click())")
        page.wait(f"document.querySelectorAll('.answer').length == {n} && !$('answers').textContent.includes('asking')")
        assert page.run("document.querySelector('.answer b').textContent") == f"What is {what}?"
    assert page.run("document.querySelectorAll('.answer')[1].querySelectorAll('p').length") == 5
    assert page.problems == []
