"""docs/compatibility.md: the part between its marks is made of what the tests found, and of nothing else."""

import hashlib
import re

import environments
import stacks
from stacks import LIBRARIES, MODES, REPO, SERVERS, STACKS, every_library

PAGE = REPO / "docs" / "compatibility.md"
BEGIN = "<!-- From here on scripts/compat --write has written it. -->\n"
END = "<!-- Up to here: {} -->\n"
WHOLE = re.compile(re.escape(BEGIN) + r"(.*?)" + re.escape(END).replace(r"\{\}", "([0-9a-f]{16})"), re.S)

WORKS, FAILS, UNKNOWN = "✓", "✗", "–"


class Facts:
    """What the tests found, by what it is about."""

    def __init__(self, facts):
        self.modes, self.limits, self.programs, self.held, self.once, self.projects, self.suspension = {}, {}, {}, {}, {}, {}, {}
        self.added = {"first": UNKNOWN, "again": UNKNOWN}  # the number of fields that Tarry adds
        for fact in facts:
            if fact["kind"] == "library":
                key = fact["stack"], fact["server"], fact["library"], fact["mode"]
                self.modes[key] = self.modes.get(key, True) and fact["passed"]
            elif fact["kind"] == "held":
                self.held[fact["stack"], fact["server"]] = fact["passed"]
            elif fact["kind"] == "project":
                self.projects[fact["test"]] = self.projects.get(fact["test"], True) and fact["passed"]
            elif fact["kind"] == "suspension":
                self.suspension[fact["server"]] = self.suspension.get(fact["server"], True) and fact["passed"]
            elif fact["kind"] == "once":
                self.once[fact["library"], fact["mode"]] = fact["passed"]
            elif fact["kind"] == "added":
                self.added = fact
            elif fact["kind"] == "limits":
                self.limits[fact["key"]] = fact
            elif fact["kind"] == "program":
                self.programs[fact["key"]] = fact


def ideal():
    """The facts where all that is tested passes; the numbers are made up."""
    from other_servers import OTHERS, version
    from test_limits import SERVERS as LIMITED
    from test_suspension import SERVERS as SUSPENDING

    facts = [{"kind": "library", "stack": stack.key, "server": server.key, "library": library, "mode": mode, "passed": True}
             for stack, server in stacks.pairs() for library in LIBRARIES for mode in MODES]
    facts += [{"kind": "held", "stack": stack.key, "server": server.key, "passed": True} for stack, server in stacks.pairs()]
    facts += [{"kind": "once", "library": library, "mode": mode, "passed": True}
              for library in every_library() for mode in stacks.ONCE_MODES]
    facts += [{"kind": "suspension", "server": server, "passed": True} for server in SUSPENDING]
    facts += [{"kind": "project", "test": test, "passed": True} for test in of_projects()]
    facts += [{"kind": "program", "key": key, "version": version(other, of=lambda *_: "0"), "passed": True}
              for key, other in OTHERS.items()]
    facts.append({"kind": "added", "first": 0, "again": 0, "passed": True})
    facts += [{"kind": "limits", "key": key, "size": 0, "size_beyond": "0", "fields": 0, "fields_beyond": "0", "passed": True}
              for key in [*LIMITED, *OTHERS]]
    return facts


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def mark(passed):
    return UNKNOWN if passed is None else WORKS if passed else FAILS


def numbered(packages, lock):
    known = environments.versions(lock)
    return ", ".join("{} {}".format(*known[name.lower().replace("_", "-")]) for name in packages)


def title_of(server, stack):
    if server.key == "runserver":
        return "`flask run`" if "flask" in stack.fronts else "`runserver`"
    return server.title


def libraries(facts):
    yield "## Servers and libraries\n\n"
    yield (
        "Each cell: **patched** (the library's calls are handed off by unmodified code, `tarry.patch_all()`), **relay** and **resume**\n"
        "(its calls are captured and given away explicitly). "
        f"{WORKS} is a test that passed, {FAILS} one that failed, {UNKNOWN} one that was not run.\n\n"
    )
    for stack in STACKS.values():
        yield f"### {numbered(stack.frameworks, stack.lock)}\n\n"
        both = " and ".join(stack.fronts.values())
        yield f"Views of {both}. {numbered(('urllib3',), stack.lock)}.\n\n"
        rows = []
        for server in SERVERS.values():
            cells = [" ".join(mark(facts.modes.get((stack.key, server.key, library, mode))) for mode in MODES) for library in LIBRARIES]
            rows.append([title_of(server, stack), *cells, mark(facts.held.get((stack.key, server.key)))])
        yield table(["server", *(f"`{name}`" for name in LIBRARIES), "no worker waits"], rows) + "\n"
    yield "\"No worker waits\": with more calls out than the server has workers and threads, it serves others.\n\n"


def asked_for(library):
    again = getattr(library, "again", {})
    text = ", ".join(f"{case.replace(', ', ' ')} ({calls}{'; run again: ' + again[case] if case in again else ''})"
                     for case, (calls, _) in library.cases.items())
    return text + (f"; {library.note}" if hasattr(library, "note") else "")


def tasks(facts):
    yield "### What each library did\n\n"
    yield (
        "With `gunicorn -c python:tarry.gunicorn` and one sync worker; all that stands in a row is asked for at the same moment. "
        "**Suspended**:\nthe default, where each view runs once. **Run again**: `TARRY_RESUME=rerun`. In both, Tarry makes each call to a declared origin, once.\n\n"
    )
    lock_of = {name: lock for lock, names in stacks.ONCE.items() for name in names}
    rows = []
    for name, library in every_library().items():
        version = numbered(library.packages[:1], lock_of[name]).partition(" ")[2] if library.packages else UNKNOWN
        rows.append([f"`{name}`", version, *(mark(facts.once.get((name, mode))) for mode in stacks.ONCE_MODES), asked_for(library)])
    yield table(["library", "version", *stacks.ONCE_MODES, "what is asked for, with the number of calls"], rows)
    yield "\nOn the servers above, for the libraries there: patched, the same. Relay: a streamed answer, and its final message by\n"
    yield "`tarry.completed()`. Resume: two calls side by side.\n\n"


def suspension(facts):
    from test_suspension import SERVERS as SUSPENDING

    yield "### Suspended views on other servers\n\n"
    yield (
        '`tarry.patch_all(resume="auto")` and the two lines of `wsgi.py`. A view with three calls, asked for by clients at once: each answer\n'
        "is right, and each call is made once.\n\n"
    )
    rows = []
    for name, (_, more, slots, most, said) in SUSPENDING.items():
        how = "run again, as it has threads; the log says so" if said else "suspended: each view runs once"
        if not said and most > 1:
            how = "suspended; run again where the answer comes to the other process"
        rows.append([name, how, mark(facts.suspension.get(name))])
    yield table(["server", "views are", "works"], rows) + "\n"


def versions():
    yield "### Versions\n\n"
    names = list(dict.fromkeys([p for s in STACKS.values() for p in s.frameworks] + [s.package for s in SERVERS.values() if s.package]
                               + [p for library in LIBRARIES.values() for p in library.packages]))
    known = {lock: environments.versions(lock) for lock in stacks.LOCKS}
    rows = [[known[stacks.LOCKS[0]][name.lower()][0], *(known[lock][name.lower()][1] for lock in stacks.LOCKS)] for name in names]
    head = ["package", *(f"with {numbered(('Django',), lock)}" for lock in stacks.LOCKS)]
    yield table(head, rows) + "\n"


def of_projects():
    import hookpage

    return hookpage.events("test_projects.py")


PACKAGES = ("django-ai-assistant", "wagtail", "wagtail-ai", "django-sql-explorer", "django-rosetta", "Django", "whitenoise")


def projects(facts):
    yield "## Projects\n\n"
    yield (
        "A Django project with packages of others that ask models, as their manuals set them up, with `gunicorn -c python:tarry.gunicorn`\n"
        "and one sync worker. No line is about Tarry. The worker answers others while a call is out, each view is run once where nothing else\n"
        f"is said, and what the user sees is checked. {numbered(PACKAGES, 'projects')}.\n\n"
    )
    yield table(["what the user does", "works"], [[text, mark(facts.projects.get(test))] for test, text in of_projects().items()]) + "\n"


def settings():
    from other_servers import OTHERS

    yield "### Settings that are needed\n\n"
    rows = [[server.title, server.settings] for server in SERVERS.values() if server.settings]
    rows += [[other.title, other.settings] for other in OTHERS.values() if other.settings]
    yield table(["server", "settings beside its defaults"], rows) + "\n"


def programs(facts):
    from other_servers import OTHERS

    yield "## Without a library\n\nThe programs of [the protocol's page](handoff.md#whole-programs), as they stand there.\n\n"
    yield table(["server", "version", "resume"],
                [[other.title, facts.programs[key]["version"], mark(facts.programs[key]["passed"])] if key in facts.programs
                 else [other.title, UNKNOWN, UNKNOWN] for key, other in OTHERS.items()]) + "\n"


def limits(facts):
    from other_servers import OTHERS
    from test_limits import MOST_BYTES, MOST_FIELDS, SERVERS as LIMITED

    def said(number, most, beyond):
        if number >= most:
            return f"{most:,} or more"
        return f"{number:,}, then {'the connection is closed' if beyond == 'closed' else beyond}"

    yield "## How large headers may be\n\n"
    yield (
        f"Tried up to a value of {MOST_BYTES:,} bytes and {MOST_FIELDS:,} fields, in a request that has nothing else. Tarry adds\n"
        f"{facts.added['first']} fields to a client's own, {facts.added['again']} when a request is run again; `Tarry-State` has up to 8,000 bytes.\n\n"
    )
    rows = []
    for key, title in [*((k, row[0]) for k, row in LIMITED.items()), *((k, other.title) for k, other in OTHERS.items())]:
        fact = facts.limits.get(key)
        rows.append([title, said(fact["size"], MOST_BYTES, fact["size_beyond"]), said(fact["fields"], MOST_FIELDS, fact["fields_beyond"])]
                    if fact else [title, UNKNOWN, UNKNOWN])
    yield table(["server", "largest value of a field, bytes", "number of fields"], rows)


def render(facts):
    parts = [*libraries(facts), *tasks(facts), *suspension(facts), *versions(), *settings(), *projects(facts), *programs(facts), *limits(facts)]
    return "".join(parts)


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def written():
    """The written part of the page. Raises ValueError if it is not as it was written."""
    found = WHOLE.search(PAGE.read_text("utf-8"))
    if not found:
        raise ValueError("its marks are missing")
    if digest(found[1]) != found[2]:
        raise ValueError("it was changed by hand between its marks")
    return found[1]


def write(facts):
    text = render(facts)
    block = BEGIN + text + END.format(digest(text))
    page = PAGE.read_text("utf-8")
    start = page.index(BEGIN)
    end = re.compile(re.escape(END).replace(r"\{\}", "[0-9a-f]*")).search(page, start).end()
    PAGE.write_text(page[:start] + block + page[end:], "utf-8")


def form(text):
    """The text without its numbers, and without what stands in the table of limits."""
    before, heading, after = text.partition("## How large headers may be")
    after = re.sub(r"^(\| [^|]* \|).*$", r"\1", after, flags=re.M)
    return re.sub(r"\d[\d.,\w]*", "0", before + heading + after)


def difference(facts):
    """The first line in which the page and the facts differ in form; None if there is none."""
    is_there, should = form(written()).splitlines(), form(render(facts)).splitlines()
    for one, other in zip(is_there, should):
        if one != other:
            return f"it has\n    {one}\nand should have\n    {other}"
    return None if len(is_there) == len(should) else "its length differs"
