"""Tarry's own errors on gateway routes, as the SDKs show them: type, code, message, and the exchange's id as the request's."""

import json
import subprocess
import time

import environments
import gateways
import pytest
import stacks
from harness import DEADLINE

MESSAGE = "The upstream service cut the connection"


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the program has seen, and the ids that Tarry has given."""
    from harness.bed import Bed

    bed = Bed(tmp_path_factory.mktemp("own"), None)

    def answer(r, c):
        if b'"slow"' in r.body:
            time.sleep(0.3)  # comments go out before, and fix the head
        c.reset()
    upstream = bed.upstream(answer)
    conf = bed.conf([], upstream)
    conf.up.update(retries=0, retry_unstarted_within="0ms")
    conf.routes = [(f"/{name}/", {"upstream": "up", "prefix_rewrite": "/", "keep_alive_interval": "100ms"})
                   for name in ("openai", "anthropic", "gemini")]
    tarry = bed.tarry(conf)
    python = environments.ensure(gateways.LOCK) / "bin/python"
    done = subprocess.run([python, stacks.APP / "own_errors.py", f"http://{tarry.address}"], stdout=subprocess.PIPE, text=True, timeout=DEADLINE * 2)
    yield json.loads(done.stdout), [line["exchange"] for line in tarry.access.lines], len(upstream.requests)
    bed.stop()


@pytest.mark.parametrize("case", ["openai", "openai, streamed"])
def test_openai_shows_what_went_wrong(seen, case):
    said, ids, _ = seen
    assert said[case].pop("id") in ids
    assert said[case] == {"by": "InternalServerError", "status": 502, "code": "connection_terminated", "type": "server_error",
                          "message": f"Error code: 502 - {MESSAGE}"}


@pytest.mark.parametrize("case", ["anthropic", "anthropic, streamed"])
def test_anthropic_shows_what_went_wrong(seen, case):
    said, ids, _ = seen
    told = said[case]
    assert told["id"] in ids and (told["by"], told["status"], told["type"]) == ("InternalServerError", 502, "api_error")
    assert MESSAGE in told["message"] and "connection_terminated" in told["message"]


@pytest.mark.parametrize("case, by", [("openai, in a stream", "APIError"), ("anthropic, in a stream", "APIStatusError")])
def test_an_error_in_the_stream_is_raised_too(seen, case, by):
    """Behind comments the status was 200."""
    said, _, _ = seen
    assert said[case].get("by") in (by, "InternalServerError") and MESSAGE in said[case]["message"], said[case]


def test_gemini_shows_what_went_wrong(seen):
    said, _, _ = seen
    told = said["google-genai"]
    assert (told["by"], told["status"], told["message"]) == ("ServerError", 502, MESSAGE)


def test_no_sdk_repeats_what_tarry_has_given_up(seen):
    said, ids, requests = seen
    assert len(ids) == len(said) == requests
