"""The package's rooms: a module imports from its own room and from those below it, never upwards and never in a circle."""

import ast
import pathlib

import tarry

HERE = pathlib.Path(tarry.__file__).parent

# From the ground up. The modules at the package's top stand on three floors: what all use, the public functions, and the
# public names that only lead into a room.
ROOMS = [
    ["errors", "settings"],
    ["common"],
    ["format"],
    ["runs"],
    ["transports"],
    ["alone"],
    ["capture", "completed", "continuation", "gather", "handoffs", "once", "patch", "telemetry", "views", "wrapper", "__init__"],
    ["testing"],
    ["django"],
    ["servers"],
    ["test", "gunicorn", "__main__"],
]
FLOOR = {name: n for n, room in enumerate(ROOMS) for name in room}


def _modules():
    found = {}
    for path in [*HERE.rglob("*.py"), *HERE.rglob("*.pyi")]:
        parts = path.relative_to(HERE).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return found


def _imports(name, path, modules):
    """The package's modules that one imports, also within its functions."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    package = [] if name == "__init__" else package
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        bases = []
        if isinstance(node, ast.ImportFrom):
            words = (node.module or "").split(".") if node.module else []
            if node.level:
                bases = [[*package[: len(package) - node.level + 1], *words]]
            elif words[:1] == ["tarry"]:
                bases = [words[1:]]
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            bases = [alias.name.split(".")[1:] for alias in node.names if alias.name.split(".")[0] == "tarry"]
            names = []
        for base in bases:
            whole = [".".join([*base, n]) for n in names if ".".join([*base, n]) in modules]
            yield from whole or [".".join(base) or "__init__"]


MODULES = _modules()
GRAPH = {name: sorted(set(_imports(name, path, MODULES))) for name, path in MODULES.items()}


def test_each_module_has_its_room():
    assert sorted({name.split(".")[0] for name in MODULES} - set(FLOOR)) == []
    assert sorted({import_ for found in GRAPH.values() for import_ in found} - set(MODULES)) == []


def test_imports_lead_downwards():
    def floor(name):
        return FLOOR[name.split(".")[0]]

    assert [f"{name} imports {other}" for name, found in GRAPH.items() for other in found if floor(other) > floor(name)] == []


def test_no_imports_in_a_circle():
    done, way = set(), []

    def visit(name):
        assert name not in way, f"a circle: {' -> '.join([*way[way.index(name) :], name])}"
        if name not in done:
            way.append(name)
            for other in GRAPH[name]:
                visit(other)
            way.pop()
            done.add(name)

    for name in GRAPH:
        visit(name)
