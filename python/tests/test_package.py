"""What is installed: all of the package and its licence, and nothing else."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

HERE = pathlib.Path(__file__).resolve().parents[1]


def test_the_licence_is_the_projects():
    assert (HERE / "LICENSE").read_text() == (HERE.parent / "LICENSE").read_text()


@pytest.mark.slow
def test_a_wheel_from_the_source_archive_has_all_of_it(tmp_path):
    """Built as pip does, in an environment without the checkout: the wheel out of the source archive."""
    pytest.importorskip("build")
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("pyproject.toml asks for a newer setuptools")
    source = tmp_path / "source"
    shutil.copytree(HERE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "*.so", "__pycache__", ".*"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {str(p.relative_to(HERE)) for p in (HERE / "tarry").rglob("*") if p.suffix in (".py", ".pyi", ".typed")}
    built = {name for name in found if name.startswith("tarry/runs/_threads.") and name.endswith(".so")}
    assert found - built == wanted
    assert len(built) == 1 or shutil.which("cc") is None
    assert any(name.endswith("LICENSE") for name in zipfile.ZipFile(wheel).namelist())
    metadata = next(n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("METADATA"))
    lines = zipfile.ZipFile(wheel).read(metadata).split(b"\n")
    (needed,) = [line for line in lines if line.startswith(b"Requires-Dist") and b"extra ==" not in line]
    assert needed.startswith(b"Requires-Dist: greenlet")


PUBLIC = ["patch_all", "wsgi", "once", "gather", "relay", "resume", "capture", "completed", "sleep", "direct", "rerun", "suspend"]


def test_the_public_functions_are_at_the_top_typed_and_described():
    import inspect
    import typing

    import tarry

    assert set(PUBLIC) <= set(tarry.__all__) and sorted(tarry.__all__) == list(tarry.__all__)
    for name in tarry.__all__:
        thing = getattr(tarry, name)
        assert inspect.getdoc(thing) and not inspect.getdoc(thing).startswith(f"{name}("), f"tarry.{name} has no docstring"
        if inspect.isfunction(thing):
            hints = typing.get_type_hints(thing)
            untyped = [p for p in inspect.signature(thing).parameters if p not in hints]
            assert "return" in hints and not untyped, f"tarry.{name}: {untyped} have no type"
