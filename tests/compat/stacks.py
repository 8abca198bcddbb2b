"""What is tested together: the stacks (an environment each), the servers with the settings that they need, the libraries.

The tests are made from these tables, and so is docs/compatibility.md."""

import dataclasses
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
APP = HERE / "app"
sys.path.insert(0, str(APP))

from more_sdks import MORE  # noqa: E402
from sdks import LIBRARIES  # noqa: E402

REPO = HERE.parents[1]
BUILD = REPO / "build" / "compat"
PYTHON = "/usr/bin/python3"


@dataclasses.dataclass(frozen=True)
class Stack:
    key: str
    fronts: dict  # the framework's word in paths -> its title
    frameworks: tuple  # packages whose versions the page names
    lock: str  # requirements with exact versions

    folder = property(lambda self: BUILD / self.lock)
    python = property(lambda self: self.folder / "bin" / "python")
    requirements = property(lambda self: HERE / f"{self.lock}.txt")


@dataclasses.dataclass(frozen=True)
class Server:
    key: str
    title: str
    package: str  # whose version the page names
    command: tuple  # {python}, {bin}, {port} and {app} are filled in
    slots: int = 1  # requests at once: workers x threads
    settings: str = ""  # what it needs beside its defaults, for the page


STACKS = {
    stack.key: stack
    for stack in (
        Stack("django-5.2", {"django": "Django", "drf": "Django REST framework"}, ("Django", "djangorestframework"), "django-5.2"),
        Stack("django-4.2", {"django": "Django", "drf": "Django REST framework"}, ("Django", "djangorestframework"), "django-4.2"),
        Stack("flask", {"flask": "Flask"}, ("Flask", "Werkzeug"), "django-5.2"),
    )
}
LOCKS = ("django-5.2", "django-4.2")
# Environments of which nothing has to be built.
WHEELS = ("libraries", "llama-index", "projects")

# One worker, or as few as the server can have: what works here works with more.
SERVERS = {
    server.key: server
    for server in (
        Server("gunicorn-sync", "gunicorn, sync", "gunicorn",
               ("{bin}/gunicorn", "--workers", "1", "--bind", "127.0.0.1:{port}", "{app}")),
        Server("gunicorn-gthread", "gunicorn, gthread", "gunicorn",
               ("{bin}/gunicorn", "--workers", "1", "--worker-class", "gthread", "--threads", "4",
                "--bind", "127.0.0.1:{port}", "{app}"), slots=4),
        Server("gunicorn-gevent", "gunicorn, gevent", "gevent",
               ("{bin}/gunicorn", "--workers", "1", "--worker-class", "gevent", "--worker-connections", "8",
                "--bind", "127.0.0.1:{port}", "{app}"), slots=4),
        Server("granian", "Granian, WSGI", "granian",
               ("{bin}/granian", "--interface", "wsgi", "--workers", "1", "--blocking-threads", "1",
                "--host", "127.0.0.1", "--port", "{port}", "{app}")),
        Server("uwsgi", "uWSGI", "uWSGI",
               ("{bin}/uwsgi", "--master", "--need-app", "--processes", "1", "--buffer-size", "32768",
                "--add-header", "Connection: close", "--die-on-term",
                "--http-socket", "127.0.0.1:{port}", "--module", "{app}"),
               settings="`buffer-size = 32768` and `add-header = Connection: close`"),
        Server("waitress", "waitress", "waitress",
               ("{bin}/waitress-serve", "--threads", "4", "--listen", "127.0.0.1:{port}", "{app}"), slots=4),
        Server("runserver", "development server", "", (), slots=4),  # the framework's own: see command_of
    )
}

MODES = ("patched", "relay", "resume")

# Under gunicorn's hook: the libraries, each with the environment that has it, and how a view goes on (TARRY_RESUME).
ONCE = {
    "django-5.2": tuple(LIBRARIES),
    "libraries": tuple(name for name in MORE if name != "llama-index"),
    "llama-index": ("llama-index",),
}
ONCE_MODULES = {
    "django-5.2": "openai anthropic google.genai langchain_openai requests httpx httpx2",
    "libraries": "litellm pydantic_ai.models.openai instructor anthropic langgraph.prebuilt langchain_openai agents mistralai.client"
    " groq cohere boto3 ollama replicate huggingface_hub stripe",
    "llama-index": "llama_index.llms.openai llama_index.core.prompts",
}
ONCE_MODES = {"suspended": "auto", "run again": "rerun"}


def every_library():
    return {**LIBRARIES, **MORE}



def command_of(server, stack, port, without=(), more=()):
    """The command line that starts this server with the stack's app; `without` these options, each with its value, and with `more`."""
    django = "django" in stack.fronts
    app = "django_wsgi:application" if django else "flask_site:application"
    command = server.command
    if server.key == "runserver":
        command = (
            ("{python}", "-m", "django", "runserver", "--noreload", "127.0.0.1:{port}")
            if django
            else ("{python}", "-m", "flask", "--app", "flask_site", "run", "--port", "{port}")
        )
    words = {"python": stack.python, "bin": stack.folder / "bin", "port": port, "app": app}
    line = [part.format(**words) for part in command]
    for option in without:
        at = line.index(option)
        del line[at:at + 2]
    return [*line, *more]


def pairs():
    """(stack, server): every server with every stack."""
    return [(stack, server) for stack in STACKS.values() for server in SERVERS.values()]
