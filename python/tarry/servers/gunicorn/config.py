"""What gunicorn reads as its config: the user's own file, and our hooks behind the user's."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from typing import Any, Callable

from ...patch import patch_all
from . import arbiter, middleware, worker

# The user's own config, where it is not ./gunicorn.conf.py: as gunicorn's -c takes it.
VARIABLE = "TARRY_GUNICORN_CONFIG"
DEFAULT = "./gunicorn.conf.py"

HOOKS: dict[str, Callable[..., Any]] = {
    "on_starting": arbiter.on_starting,
    "when_ready": arbiter.when_ready,
    "on_reload": arbiter.on_reload,
    "nworkers_changed": arbiter.nworkers_changed,
    "pre_fork": arbiter.pre_fork,
    "child_exit": arbiter.child_exit,
    "on_exit": arbiter.on_exit,
    "post_fork": worker.post_fork,
    "post_worker_init": worker.post_worker_init,
    "worker_exit": worker.worker_exit,
}


def load() -> dict[str, Any]:
    """The names of a gunicorn config. With --preload the app is loaded before any hook runs, so libraries are patched here."""
    names = _users_config()
    for name, ours in HOOKS.items():
        names[name] = chain(names.get(name), ours)
    # Views are suspended at their calls where that is safe; TARRY_RESUME and Django's setting of that name say otherwise.
    patch_all(**({} if os.environ.get("TARRY_RESUME") else {"resume": "auto"}))
    middleware.insert_when_django_is_loaded()
    return names


def _users_config() -> dict[str, Any]:
    """What gunicorn would have read by itself, had -c not named this package."""
    location = os.environ.get(VARIABLE, "")
    if not location:
        location = DEFAULT
        if not os.path.exists(location):
            return {}
    if location.startswith("python:"):
        module = location[len("python:") :]
        sys.modules.pop(module, None)  # a reload reads it again
        return _public(vars(importlib.import_module(module)))
    path = location[len("file:") :] if location.startswith("file:") else location
    if not os.path.exists(path):
        raise RuntimeError(f"{path!r} ({VARIABLE}) doesn't exist")
    arbiter.hook.config_folder = os.path.dirname(os.path.abspath(path))
    return _public(_run(path))


def _run(path: str) -> dict[str, Any]:
    """As gunicorn does it, mistakes included."""
    spec = importlib.util.spec_from_file_location("__config__", path)
    try:
        if spec is None or spec.loader is None:
            raise ImportError(f"{path!r} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules["__config__"] = module
        spec.loader.exec_module(module)
    except Exception:
        print(f"Failed to read config file: {path}", file=sys.stderr)
        traceback.print_exc()
        sys.stderr.flush()
        sys.exit(1)
    return vars(module)


def _public(names: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in names.items() if not name.startswith("_")}


def chain(theirs: Any, ours: Callable[..., Any]) -> Callable[..., Any]:
    """Both, the user's first. gunicorn counts the arguments of a hook, so their number stays."""
    if theirs is None:
        return ours
    count = ours.__code__.co_argcount
    if count == 1:
        return lambda a: (theirs(a), ours(a))[1]
    if count == 2:
        return lambda a, b: (theirs(a, b), ours(a, b))[1]
    return lambda a, b, c: (theirs(a, b, c), ours(a, b, c))[1]
