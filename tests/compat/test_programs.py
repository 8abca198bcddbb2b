"""The PHP and the Ruby program of docs/handoff.md, as they stand there: the protocol needs no library."""

import json
import re

import pytest

from harness import request
from other_servers import OTHERS, version
from stacks import REPO

SHOWN = dict(re.findall(r"<!-- example: (\S+) -->\n```\w*\n(.*?)\n```", (REPO / "docs/handoff.md").read_text("utf-8"), re.S))
SECRET = "a-secret-for-the-suite"
QUESTION = "Größe, \"京都\"?"


class Site:
    def __init__(self, bed, other, upstream=None):
        program = bed.folder / other.file
        program.write_text(SHOWN[other.file] + "\n")
        (bed.folder / "secret").write_text(SECRET + "\n")
        self.provider = bed.provider(https=False)
        self.server = other.start(bed, program, {"TARRY_SECRET": SECRET})
        self.server.wait_ready("/none")
        conf = bed.conf(self.server, slots=1)
        conf.pool["secret_file"] = str(bed.folder / "secret")
        conf.upstreams["openai"] = {"origin": f"http://{self.provider.http}", "set_header": ["Authorization: Bearer key"],
                                    "retry_first_pause": "20ms", **(upstream or {})}
        conf.routes.append(("/internal/", {"workers": "app", "internal": True}))
        self.tarry = bed.tarry(conf)

    def ask(self):
        return self.tarry.post("/ask", json.dumps({"question": QUESTION}), {"Content-Type": "application/json"})


def answers(got):
    """PHP's program has one answer, Ruby's two."""
    return list(got.json().values())


@pytest.mark.parametrize("key", OTHERS)
def test_a_program_of_the_manual_asks_and_answers(bed, found, key):
    other = OTHERS[key]
    found("program", key=key, version=version(other))
    site = Site(bed, other)
    got = site.ask()
    assert got.status == 200 and all(answer.startswith(f"echo:{QUESTION} ") for answer in answers(got)), got
    line = site.tarry.access.wait_for()
    assert line["hops"] == 2 and line["calls"] == len(site.provider.records) == len(answers(got))
    assert site.tarry.post("/internal/asked", "HTTP/1.1 200 OK\r\n\r\n{}").status == 404
    assert request(site.server.address, "POST", "/ask", {"Tarry-Kind": "request"}, b"{}").status == 501
    assert site.tarry.get("/none").status == 404


@pytest.mark.parametrize("key", OTHERS)
def test_a_failure_of_the_model_s_service_is_told(bed, key):
    site = Site(bed, OTHERS[key], {"set_header": ["Authorization: Bearer key", "X-Provider-Fault: 400"], "retries": 0})
    got = site.ask()
    assert all(answer.endswith("400") for answer in answers(got)) and got.status in (200, 502)


@pytest.mark.parametrize("key", OTHERS)
def test_a_large_answer_comes_through(bed, key):
    site = Site(bed, OTHERS[key], {"set_header": ["Authorization: Bearer key", "X-Provider-Tokens: 2500000"]})
    assert all(len(answer) > 10 << 20 for answer in answers(site.ask()))
