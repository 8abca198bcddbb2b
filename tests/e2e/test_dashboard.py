"""The dashboard in a real browser: what an operator sees, and what a client's odd request cannot do to it."""

import json

from harness import Gate, Raw, Reply, by_kind, call, eventually, free_port, handoff
from harness.browser import Browser
from harness.client import Client

STREAM = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'


class Shop:
    """Tarry with an admin listener, and a browser on its page. Paths: /ask parks until the gate opens; /fails and /dies
    end badly; anything else is quick."""

    def __init__(self, bed, **top):
        self.gate = Gate()
        self.upstream = bed.upstream(self.model)
        self.worker = bed.worker(by_kind(request=self.view, resume=lambda r, c: Reply(200, b"done")))
        conf = bed.conf(self.worker, self.upstream)
        self.admin = f"127.0.0.1:{free_port()}"
        conf.admins[self.admin] = {}
        conf.up["retries"] = 0
        conf.top.update(top)
        self.tarry = bed.tarry(conf)
        self.bed = bed

    def model(self, r, c):
        if r.path == "/fails":
            return Raw(b"HTTP/1.1 nonsense\r\n\r\n")
        if r.path == "/ask":
            self.gate.wait()
        return Reply(200, STREAM, {"Content-Type": "text/event-stream"})

    def view(self, r, c):
        if r.path == "/dies":
            return Raw(b"")
        if r.path in ("/ask", "/fails"):
            return handoff("resume /x" if r.path == "/ask" else "relay", [call(self.upstream.origin + r.path)],
                           headers=[("Tarry-Label", "tenant-7")])
        return Reply(200, b"ok")

    def browse(self, **more):
        browser = self.bed.add(Browser(self.bed.folder, **more))
        browser.go(f"http://{self.admin}/")
        browser.wait("!document.getElementById('about').textContent.startsWith('Loading')")
        return browser


def text(browser, selector):
    return browser.run(f"document.querySelector({json.dumps(selector)}).textContent")


def rows(browser, id):
    return browser.run(f"[...document.querySelectorAll('#{id} details')].map(d => d.textContent)")


def test_an_operator_sees_what_is_parked_slow_and_failed(bed):
    shop = Shop(bed)
    for path in ("/quick", "/fails", "/dies"):
        shop.tarry.get(path)
    parked = [bed.background(shop.tarry.get, "/ask") for _ in range(2)]
    eventually(lambda: len([r for r in shop.upstream.requests if r.path == "/ask"]) == 2, "two parked calls")
    browser = shop.browse()
    browser.wait("document.getElementById('parked').textContent === '2'")
    assert "the longest for" in text(browser, "#parked-note") and text(browser, "#busy") == "0 of 4"
    assert "2 would be busy" in text(browser, "#busy-note")
    assert len([row for row in rows(browser, "flying") if "GET /ask" in row and "parked" in row]) == 2
    browser.wait("[...document.querySelectorAll('#flying details')].every(d => d.querySelector('.bar .parked'))")
    failed = rows(browser, "failed")
    assert len(failed) == 2
    dies, fails = (next(row for row in failed if path in row) for path in ("/dies", "/fails"))
    assert "a worker (http_response_incomplete, WV)" in dies and "Look for its time limit" in dies
    assert "the upstream (http_protocol_error, UP)" in fails and "tenant-7" in fails
    assert any("/quick" in row for row in rows(browser, "slow"))
    assert "http_protocol_error: 1" in text(browser, "#upstreams tbody")
    assert any("malformed" in line for line in text(browser, "#errors").splitlines()) or "malformed" in text(browser, "#errors")
    shop.gate.open()
    assert all(task.result().status == 200 for task in parked)
    browser.wait("document.getElementById('parked').textContent === '0'")
    browser.wait("[...document.querySelectorAll('#slow details')].some(d => d.textContent.includes('/ask'))")
    bars = browser.run("[...document.querySelectorAll('#slow details')].find(d => d.textContent.includes('/ask'))"
                       ".querySelectorAll('.bar .parked').length")
    assert bars == 1 and not browser.problems


def test_lines_have_points_of_the_past(bed):
    """The history is Tarry's: it is there before anybody opens the page."""
    shop = Shop(bed)
    shop.gate.open()
    for _ in range(3):
        shop.tarry.get("/ask")
    eventually(lambda: 3 == sum(p["requests"] for p in json.loads(shop.tarry.ask_admin("/dashboard.json"))["history"]),
               "a step of the history")
    browser = shop.browse()
    browser.wait("document.querySelectorAll('#chart-first polyline').length === 2")
    browser.wait("document.querySelector('#chart-load polyline').getAttribute('points').includes(',')")


def test_what_clients_send_is_text_and_nothing_else(bed):
    shop = Shop(bed)
    evil = "/%3Cscript%3E?q=<img/src=x/onerror=document.title='owned'>"
    with shop.tarry.client() as c:
        c.send(f"GET {evil} HTTP/1.1\r\nHost: a\r\nTarry-Label: <b>x</b>\r\n\r\n".encode())
        c.read_response()
    shop.tarry.get("/dies?<svg/onload=document.title='owned'>")
    browser = shop.browse()
    browser.wait("document.querySelectorAll('#failed details').length === 2")
    assert "<img/src" in text(browser, "#failed") and "<svg/onload" in text(browser, "#failed")
    assert browser.run("document.title") == "Tarry" and browser.run("document.querySelectorAll('main img, main svg[onload]').length") == 0
    assert not browser.problems


def test_keyboard_phone_and_dark(bed):
    shop = Shop(bed)
    shop.tarry.get("/dies")
    browser = shop.browse()
    browser.wait("document.querySelectorAll('#failed details').length === 1")

    def press(key, code=0):
        for kind in ("keyDown", "keyUp"):
            browser.send("Input.dispatchKeyEvent", type=kind, key=key, text=key if len(key) == 1 else "", windowsVirtualKeyCode=code)
    press("p")
    assert browser.run("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    press("p")
    browser.run("document.querySelector('#failed summary').focus()")
    press("Enter", 13)
    browser.send("Input.dispatchKeyEvent", type="char", key="Enter", text="\r")
    browser.run("document.querySelector('#failed details').open = true")
    seen = browser.run("document.getElementById('about').textContent")
    browser.wait("performance.getEntriesByName(new URL('dashboard.json', location).href).length >= 3")
    assert browser.run("document.querySelector('#failed details').open"), "what is open stays open when the page is refreshed"
    assert browser.run("document.activeElement.tagName") == "SUMMARY" and seen
    browser.send("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off on a phone"
    light = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert browser.run("getComputedStyle(document.body).backgroundColor") != light
    assert not browser.problems


def test_the_page_says_when_tarry_is_gone(bed):
    shop = Shop(bed)
    browser = shop.browse()
    shop.tarry.stop()
    browser.wait("!document.getElementById('alarm').hidden")
    assert "does not answer" in text(browser, "#alarm")


def test_each_process_shows_what_all_know(bed):
    shop = Shop(bed, processes=2)
    for _ in range(12):
        shop.tarry.get("/dies")
    parked = [bed.background(shop.tarry.get, "/ask") for _ in range(8)]
    eventually(lambda: len([r for r in shop.upstream.requests if r.path == "/ask"]) == 8, "eight parked calls")
    browser = shop.browse()
    browser.wait("document.getElementById('parked').textContent === '8'")
    browser.wait("document.querySelectorAll('#failed details').length === 12")
    browser.wait("document.querySelectorAll('#flying details').length === 8")
    shop.gate.open()
    assert all(task.result().status == 200 for task in parked)


def test_nothing_of_the_page_may_be_framed_or_kept(bed):
    shop = Shop(bed)
    for page, kind in (("/", "text/html"), ("/dashboard.js", "text/javascript"), ("/dashboard.css", "text/css"),
                       ("/dashboard.json", "application/json")):
        with Client(shop.admin) as c:
            answer = c.request("GET", page)
        assert answer.status == 200 and answer.headers.get("Content-Type").startswith(kind)
        assert answer.headers.get("Cache-Control") == "no-store" and "frame-ancestors 'none'" in answer.headers.get("Content-Security-Policy")
