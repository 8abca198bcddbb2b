"""uWSGI as it is without the settings that docs/compatibility.md names: what still works, and who says what is amiss."""

import pytest

from harness import request
from sites import Site


@pytest.mark.parametrize("stack", ["django-5.2", "flask"])
def test_with_its_default_buffer_size(bed, stack):
    """Small requests work, state included; the log says what is wrong before a large one gets no answer."""
    site = Site(bed, stack, "uwsgi", without=["--buffer-size"])
    front = next(iter(site.stack.fronts))
    for case, calls in (("whole", 1), ("three in sequence", 3)):
        got, line, seen = site.ask(f"/{front}/patched", library="urllib.request", case=case, q="small")
        assert got.status == 200 and (line["hops"], seen) == (calls + 1, calls)
    got, _, _ = site.ask(f"/{front}/relay", library="urllib.request", q="small")
    assert got.status == 200 and site.wait_note("small")["whole"]
    site.program.wait_line(r"uWSGI's buffer-size is 4096")
    assert site.tarry.get("/ready", {"X-Large": "a" * 4000}).status == 502


def test_without_its_word_that_it_closes(bed):
    """Its http-socket closes after each response and does not say so: Tarry finds that out, and no request is lost to it."""
    site = Site(bed, "flask", "uwsgi", without=["--add-header"])
    assert request(site.program.address, "GET", "/ready").headers.get("Connection") is None
    assert site.tarry.get("/ready").status == 200
    site.tarry.wait_log("without \"Connection: close\"")
    running = [bed.background(site.ask, "/flask/patched", library="urllib.request", case="whole", q=f"n{n}") for n in range(20)]
    assert all(one.result()[0].json()["text"].startswith(f"echo:n{n} ") for n, one in enumerate(running))
