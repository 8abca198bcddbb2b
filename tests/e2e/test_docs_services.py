"""docs/providers.md: each service's conf, as it stands there, with the calls of the page's table through it to the stand-in."""

import json
import re

import pytest

from harness import free_port
from harness.tarry import REPO

PAGE = (REPO / "docs/providers.md").read_text("utf-8")
CONFS = dict(re.findall(r"<!-- example: (\S+) -->\n```\n(.*?)\n```", PAGE, re.S))
FILES = {"Azure OpenAI": ["azure"], "Vertex AI": ["vertex"], "vLLM, llama.cpp, Ollama": ["vllm", "llamacpp", "ollama"],
         "Text Embeddings Inference": ["tei"]}
WORDS = {"MODEL": "m", "DEPLOYMENT": "d", "VERSION": "2026-01-01", "PROJECT": "p", "LOCATION": "l"}
CREDENTIALS = ("Authorization", "x-api-key", "api-key", "x-goog-api-key")


def rows():
    """(conf's name, path, whether it is read) of all that the table promises."""
    table = PAGE[PAGE.index("| service | paths"):].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        service, paths, _ = [cell.strip() for cell in row.strip("|").split(" | ")]
        for name in FILES.get(service, [service.lower()]):
            for path in re.findall(r"`([^`]+)`", paths.partition("; its own")[0]):
                for word, value in WORDS.items():
                    path = path.replace(word, value)
                yield name, path


def body_of(path):
    if "embeddings" in path:
        return {"model": "m", "input": "hi"}
    if "enerateContent" in path:
        return {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    return {"model": "m", "input": "hi", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


def test_every_conf_of_a_service_has_its_calls():
    others = {"gateway", "group", "pace", "proxy", "realtime"}
    assert {name for name, _ in rows()} == {name.removesuffix(".conf") for name in CONFS} - others


@pytest.mark.parametrize("name, path", list(rows()))
def test_the_conf_of_a_service_works_as_it_stands(bed, name, path):
    text = CONFS[f"{name}.conf"]
    upstream = re.search(r'^upstream "([^"]+)"', text, re.M)[1]
    provider = bed.provider(args=["--no-auth"])
    env = {key: f"k{i}" for i, key in enumerate(sorted(set(re.findall(r"\$\{(\w+)\}", text))))}
    text = re.sub(r'(origin\s*=\s*)"[^"]*"', rf'\1"http://{provider.http}"', text)
    address = f"127.0.0.1:{free_port()}"
    log = bed.folder / "access.log"
    tarry = bed.tarry(f'listen "{address}" {{ }}\naccess_log {{ target = "{log}" }}\n{text}\nroute "/" {{ upstream = "{upstream}" }}\n',
                      address=address, env=env)
    answer = tarry.post(path, json.dumps(body_of(path)), {"Content-Type": "application/json", "Authorization": "Bearer the-client-s"})
    assert answer.status == 200 and (b"hi" in answer.body or b"embedding" in answer.body or b"input_tokens" in answer.body)
    sent = provider.wait_records(1)[0]["headers"]
    keys = [(field, value) for field, value in sent if field.lower() in map(str.lower, CREDENTIALS)]
    if "set_header" in text:
        assert len(keys) == 1 and keys[0][1].removeprefix("Bearer ") in env.values(), keys
    if "count_tokens" not in path:
        assert tarry.access.wait_for()["input_tokens"] > 0
