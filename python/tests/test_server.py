"""What the server tells of itself."""

import sys
import types

import pytest

import tarry
from tarry.patch import patch_all
from tarry.runs import buffers
from tarry.runs.exchange import of


@pytest.fixture
def uwsgi(monkeypatch):
    module = types.ModuleType("uwsgi")
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    return module


def environ(limits):
    return {
        "HTTP_TARRY_VERSION": "1",
        "HTTP_TARRY_KIND": "request",
        "HTTP_TARRY_FEATURES": "relay, resume, replay",
        "HTTP_TARRY_EXCHANGE": "e",
        "HTTP_TARRY_LIMITS": limits,
        "wsgi.input": None,
    }


def test_a_small_buffer_of_uwsgi_is_told_and_bounds_the_state(uwsgi, messages):
    uwsgi.buffer_size = 4096
    patch_all()
    (told,) = messages()
    assert "buffer-size is 4096" in told and "buffer-size = 32768" in told
    assert of(environ("state=8000")).limits.state == 2000
    exchange = of(environ("state=8000"))
    from tarry.settings import settings

    settings.state_key = "k"
    with exchange.active(), pytest.raises(tarry.TarryError, match="2000 are allowed"):
        tarry.resume([tarry.Call("GET", "https://a.example/")], then="/x", state="x" * 3000)


def test_a_large_one_is_not(uwsgi, messages):
    uwsgi.buffer_size = 32768
    patch_all()
    assert messages() == [] and of(environ("state=8000")).limits.state == 8000


def test_elsewhere_uwsgi_is_looked_for_once_and_not_for_each_request(monkeypatch):
    looked = []

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "uwsgi":
                looked.append(name)

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    buffers._uwsgi.cache_clear()
    assert of(environ("state=8000")).limits.state == of(environ("state=8000")).limits.state == 8000
    assert looked == ["uwsgi"]
