"""Makes the wheel: the Python package, built from python/, with the compiled proxy and its extension modules put in.

    pack.py --out FOLDER [--tag PLATFORM] [--proxy BINARY] [--extension FILE]… [--licenses FOLDER]

A part of scripts/build-wheel, which says what it is given. Prints the wheel's path."""

from __future__ import annotations

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns("build", "dist", "*.egg-info", "__pycache__", "*.so", "tests", ".*_cache", "setup.py")


def run(*command: object, cwd: pathlib.Path) -> None:
    done = subprocess.run([str(part) for part in command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"pack.py: {command[0]} {command[1]} failed:\n{done.stdout}")


def only(folder: pathlib.Path, pattern: str) -> pathlib.Path:
    [found] = folder.glob(pattern)
    return found


def build_pure(folder: pathlib.Path) -> pathlib.Path:
    """The package as its pyproject.toml says. Without setup.py, which would compile for this machine's Python alone."""
    sources = folder / "sources"
    shutil.copytree(TOP / "python", sources, ignore=LEFT_OUT)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "pure", sources, cwd=folder)
    return only(folder / "pure", "*.whl")


def put_in(tree: pathlib.Path, args: argparse.Namespace) -> None:
    info = only(tree, "*.dist-info")
    if args.proxy:
        target = tree / "tarry" / "bin" / "tarry"
        target.parent.mkdir()
        shutil.copy(args.proxy, target)
        target.chmod(0o755)
    for extension in args.extension:
        shutil.copy(extension, tree / "tarry" / "runs" / extension.name)
    if args.licenses:
        shutil.copytree(args.licenses, info / "licenses" / "linked")
    lines = [line for line in (info / "WHEEL").read_text().splitlines() if not line.startswith(("Tag:", "Root-Is-Purelib:"))]
    lines += ["Root-Is-Purelib: false", *(f"Tag: py3-none-{platform}" for platform in args.tag.split("."))]
    (info / "WHEEL").write_text("\n".join(line for line in lines if line) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tag")
    parser.add_argument("--proxy", type=pathlib.Path)
    parser.add_argument("--extension", type=pathlib.Path, action="append", default=[])
    parser.add_argument("--licenses", type=pathlib.Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        wheel = build_pure(folder)
        if args.tag:
            run(sys.executable, "-m", "wheel", "unpack", "-d", folder / "tree", wheel, cwd=folder)
            put_in(only(folder / "tree", "*"), args)
            (folder / "packed").mkdir()
            run(sys.executable, "-m", "wheel", "pack", "-d", folder / "packed", only(folder / "tree", "*"), cwd=folder)
            wheel = only(folder / "packed", "*.whl")
        print(shutil.copy(wheel, args.out))


main()
