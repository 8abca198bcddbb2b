"""The table of docs/gunicorn.md: rows are the tests of test_gunicorn.py, columns the versions of gunicorn."""

import ast
import re

import hooked
import page

PAGE = page.REPO / "docs" / "gunicorn.md"
BLOCK = re.compile(re.escape(page.BEGIN) + "(.*?)" + re.escape(page.END).replace(r"\{\}", "([0-9a-f]*)"), re.S)


def events(file="test_gunicorn.py"):
    """name -> what happens, from the tests themselves, in their order."""
    tree = ast.parse((page.stacks.HERE / file).read_text("utf-8"))
    return {node.name: (ast.get_docstring(node) or node.name).splitlines()[0]
            for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def ideal():
    return [{"kind": "gunicorn", "version": version, "event": event, "passed": True} for version in hooked.VERSIONS for event in events()]


def render(facts):
    found = {}
    for fact in facts:
        if fact["kind"] == "gunicorn":
            key = fact["event"], fact["version"]
            found[key] = found.get(key, True) and fact["passed"]
    rows = [[text, *(page.mark(found.get((event, version))) for version in hooked.VERSIONS)] for event, text in events().items()]
    return page.table(["what happens", *(f"gunicorn {number}" for number in hooked.VERSIONS.values())], rows)


def write(facts):
    text = render(facts)
    block = page.BEGIN + text + page.END.format(page.digest(text))
    PAGE.write_text(BLOCK.sub(lambda _: block, PAGE.read_text("utf-8"), count=1), "utf-8")


def difference(facts):
    """Why the page is not what was found; None if it is."""
    found = BLOCK.search(PAGE.read_text("utf-8"))
    if not found:
        return "its marks are missing"
    if page.digest(found[1]) != found[2]:
        return "it was changed by hand between its marks"
    for one, other in zip(found[1].splitlines(), render(facts).splitlines()):
        if one != other:
            return f"it has\n    {one}\nand should have\n    {other}"
    return None if len(found[1].splitlines()) == len(render(facts).splitlines()) else "its length differs"
