import io
import secrets

import pytest
from asking import MODEL, ask

import tarry
from tarry.settings import settings
from tarry.test import WSGIClient

pytestmark = pytest.mark.usefixtures("resume")


class Store(dict):
    """A cache that all workers share."""

    def add(self, key, value, timeout):
        if key in self:
            return False
        self[key] = value
        return True

    def set(self, key, value, timeout):
        self[key] = value

    def delete(self, key):
        self.pop(key, None)


class Killed(BaseException):
    """The worker dies here."""


def client_of(view, **more):
    def app(environ, start_response):
        text = view()
        start_response("200 OK", [])
        return [str(text).encode()]

    return WSGIClient(tarry.wsgi(app), lambda call: call.body, [MODEL], **more)


def killed_once(client, hop):
    """The visit of that hop is lost after the app ran, and delivered again."""
    app = client.app

    def deliver(environ, start_response):
        if int(environ["HTTP_TARRY_HOP"]) != hop:
            return app(environ, start_response)
        body = environ["wsgi.input"].read()
        for attempt in (1, 2):
            first = dict(environ)
            first["wsgi.input"] = io.BytesIO(body)
            if attempt == 2:
                first["HTTP_TARRY_ATTEMPT"] = "2"
                return app(first, start_response)
            try:
                list(app(first, lambda *a: None))
            except Killed:
                pass

    client.app = deliver
    return client


@pytest.fixture(params=[None, Store])
def store(request):
    settings.once_store = request.param and request.param()
    return settings.once_store


def test_the_result_is_carried_to_the_later_runs(store):
    done = []

    def charge(amount, currency="EUR"):
        done.append((amount, currency))
        return {"charge": len(done)}

    def view():
        first = tarry.once(charge, 5)
        text = ask("a")
        second = tarry.once(charge, 7, currency="CHF")
        return first, text, second, ask("b"), ask("c")

    client = client_of(view)
    assert client.get("/").body.decode() == str(({"charge": 1}, '"a"', {"charge": 2}, '"b"', '"c"'))
    assert done == [(5, "EUR"), (7, "CHF")] and client.hops == 4


def test_it_is_a_plain_call_without_tarry():
    assert tarry.once(lambda: object) is object


def test_one_function_in_several_places_and_branches_is_several_works():
    done = []

    def view():
        def work(n):
            done.append(n)
            return n

        def branch(n):
            return tarry.once(work, n), ask(str(n)), tarry.once(work, n + 10)

        return [tarry.once(work, n) for n in (1, 2)], tarry.gather(lambda: branch(3), lambda: branch(4)), ask("end")

    client_of(view).get("/")
    assert done == [1, 2, 3, 4, 13, 14]


def test_a_call_inside_is_handed_off_and_counts_only_there():
    done = []

    def work():
        text = ask("inside")
        done.append(text)
        return text

    client = client_of(lambda: (tarry.once(work), ask("a"), ask("b")))
    assert client.get("/").body.decode() == str(('"inside"', '"a"', '"b"'))
    assert len(done) == 1 and len(client.calls) == 3


def test_an_exception_is_not_kept(store, resume):
    tries = []

    def work():
        tries.append(1)
        raise LookupError("declined")

    def view():
        try:
            tarry.once(work)
        except LookupError:
            return ask("a")

    assert client_of(view).get("/").body == b'"a"' and len(tries) == (2 if resume == "rerun" else 1)


def test_with_a_store_a_worker_killed_after_the_work_does_not_double_it():
    settings.once_store = Store()
    done = []

    def view():
        text = ask("a")
        number = tarry.once(lambda: done.append(text) or len(done))
        if len(done) == 1 and not view.died:
            view.died = True
            raise Killed
        return number, ask("b")

    view.died = False
    assert killed_once(client_of(view), 1).get("/").body.decode() == str((1, '"b"'))
    assert len(done) == 1


def test_killed_inside_it_is_uncertain_and_not_done_again():
    settings.once_store = Store()
    done = []

    def work():
        done.append(1)
        raise Killed

    def view():
        ask("a")
        try:
            return tarry.once(work)
        except tarry.OnceUncertain:
            return "uncertain"

    assert killed_once(client_of(view), 1).get("/").body == b"uncertain" and len(done) == 1


def test_without_a_store_a_redelivery_is_uncertain():
    done = []

    def view():
        ask("a")
        tarry.once(lambda: done.append(1))
        raise Killed

    with pytest.raises(tarry.OnceUncertain):
        killed_once(client_of(view), 1).get("/")
    assert len(done) == 1


@pytest.mark.parametrize(
    ("result", "shared"),
    [(b"no JSON", None), (b"no JSON", Store()), ("random " * 20000, None)],  # a store carries what is large
)
def test_what_cannot_be_carried_ends_the_handing_off(upstream, result, messages, shared):
    settings.once_store = shared
    done = []

    def work():
        done.append(1)
        return secrets.token_urlsafe(20000) if isinstance(result, str) else result

    def app(environ, start_response):
        tarry.once(work)
        text = ask(origin=upstream.origin)
        start_response("200 OK", [])
        return [text.encode()]

    client = WSGIClient(tarry.wsgi(app), lambda call: b"handed off", [upstream.origin])
    assert client.get("/").body == b'{"direct": 1}' and done == [1]
    assert "cannot be carried" in messages()[0]


def test_with_a_store_large_results_are_kept_there():
    settings.once_store = Store()
    done = []

    def work():
        done.append(1)
        return secrets.token_urlsafe(20000)

    client = client_of(lambda: (len(tarry.once(work)) > 20000, ask("a")))
    assert client.get("/").body.decode() == str((True, '"a"')) and done == [1]


def test_the_state_stays_small_where_a_store_takes_the_rest(store):
    """uWSGI takes 4,096 bytes of head by default."""
    states = []

    def app(environ, start_response):
        done = [tarry.once(lambda: secrets.token_urlsafe(500)) for _ in range(6)]
        ask("a")
        start_response("200 OK", [])
        return ["".join(done).encode()]

    wrapped = tarry.wsgi(app)

    def visited(environ, start_response):
        states.append(environ.get("HTTP_TARRY_STATE", ""))
        return wrapped(environ, start_response)

    client = WSGIClient(visited, lambda call: call.body, [MODEL])
    assert len(client.get("/").body) == 6 * 667
    assert len(states[1]) <= 2000 if store is not None else 2000 < len(states[1]) <= 8000
