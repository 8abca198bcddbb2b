"""Routes that Tarry answers by itself, for load balancers that ask where they send requests."""

import signal

import pytest

from harness import Gate, Reply, eventually
from harness.tarry import check_conf


def site_with_health(bed, worker=None, **pool):
    conf = bed.conf(bed.worker(worker or (lambda r, c: Reply(200, b"app"))))
    conf.pool.update(pool)
    conf.routes = [("/livez", {"health": "live"}), ("/readyz", {"health": "ready"}), ("/", {"workers": "app"})]
    return bed.tarry(conf), conf


def ask(tarry, path="/readyz", **more):
    answer = tarry.get(path, **more)
    return answer.status, answer.text


def test_tarry_answers_by_itself(bed):
    """No worker is asked, whatever it does."""
    gate = Gate()
    tarry, _ = site_with_health(bed, lambda r, c: (gate.wait(), Reply(200, b"app"))[1])
    busy = [bed.background(tarry.get, "/") for _ in range(6)]  # more than there are slots
    assert ask(tarry) == ask(tarry, "/livez") == (200, "ok\n")
    with tarry.client() as c:
        assert c.request("HEAD", "/readyz").status == 200
        assert c.request("GET", "/livez").text == "ok\n"
        got = c.request("POST", "/readyz", body=b"x" * 100000)
        assert (got.status, got.headers.get("Cache-Control")) == (200, "no-store")
    with tarry.h2() as c:
        assert c.request("GET", "/readyz").body == b"ok\n"
    line = tarry.access.wait_for(lambda line: line["path"] == "/livez")
    assert (line["hops"], line["code"], line["end"]) == (0, "--", "complete")
    gate.open()
    assert all(task.result().text == "app" for task in busy)


def test_ready_is_over_before_the_listeners_close(bed):
    tarry, conf = site_with_health(bed)
    conf.top["drain_delay"] = "1h"
    tarry.reload(conf)
    tarry.signal(signal.SIGTERM)
    eventually(lambda: ask(tarry) == (503, "stopping\n"), "readyz to turn")
    assert ask(tarry, "/livez") == (200, "ok\n") and ask(tarry, "/") == (200, "app")
    tarry.kill()
    tarry.process = None


def test_ready_is_over_while_no_worker_can_be_reached(bed):
    tarry, conf = site_with_health(bed, required_for_ready=True, unreachable_first_pause="1h", unreachable_max_pause="1h", queue_timeout="100ms")
    worker = bed.parts[0]
    assert ask(tarry)[0] == 200
    worker.refuse()
    assert tarry.get("/").status >= 500
    assert ask(tarry) == (503, 'no server of the pool "app" can be reached\n')


@pytest.mark.parametrize("more, says", [({"workers": "app"}, "more than one of workers, upstream and health"), ({"internal": True}, "internal"),
                                        ({"health": "rady"}, 'did you mean "ready"')])
def test_a_route_has_one_end(bed, more, says):
    conf = bed.conf(bed.worker(lambda r, c: Reply(200)))
    conf.routes.append(("/readyz", {"health": "ready", **more}))
    (bed.folder / "odd.conf").write_text(conf.text())
    code, said = check_conf(bed.folder / "odd.conf")
    assert code != 0 and says in said


def test_a_reload_takes_it_away(bed):
    tarry, conf = site_with_health(bed)
    assert ask(tarry) == (200, "ok\n")
    conf.routes = [("/", {"workers": "app"})]
    tarry.reload(conf)
    assert ask(tarry) == (200, "app")
