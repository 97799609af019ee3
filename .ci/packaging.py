"""The package outside its environment: its wheel as strangers install it, its tests at both ends.

    python .ci/packaging.py wheel            builds, checks, installs by uvx, pipx and pip --group light
    python .ci/packaging.py oldest newest    tests of models, generators, tune, adapters at both ends
    python .ci/packaging.py oldest -- tests/adapters -k trl

No part of .ci/run, as each environment is several GB of downloads. Everything lies in one temporary folder
(--keep leaves it, --folder says where) and is installed there by uv, which comes from PyPI into an
environment of its own and takes a Python from PATH. Tested is a copy of the files that git tracks.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("tests/models", "tests/generators", "tests/tune", "tests/adapters")
"""Tests of what touches torch, transformers, diffusers and trl."""
NAMED = ("torch", "torchvision", "transformers", "diffusers", "trl", "numpy", "pillow")
TOOLS = (
    "gymnasium[mujoco]",
    "hypothesis",
    "packaging",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "setuptools",
)
"""What tests need beside the extras; its versions are not the package's business."""


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """The output of a command, which must succeed."""
    words = [str(word) for word in command]
    print("$", " ".join(words), flush=True)
    done = subprocess.run(
        words, cwd=cwd, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nexit code {done.returncode}: {' '.join(words)}")
    return done.stdout


def copied(folder: Path) -> Path:
    """A copy of the tracked files, as they are now."""
    source = folder / "source"
    for name in run("git", "ls-files", cwd=ROOT).splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    return source


def tools(folder: Path) -> Path:
    """The programs that build, check and install."""
    venv.create(folder / "tools", with_pip=True)
    run(folder / "tools/bin/pip", "install", "--quiet", "uv", "build", "twine", "pipx")
    return folder / "tools/bin"


def missing(wheel: Path, source: Path) -> list[str]:
    """Files of the packages that the wheel lacks; tests and pictures of documents are none."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    lacking = []
    for top in ("mmreward", "generators", "evals", "assets", "configs"):
        for file in sorted((source / top).rglob("*")):
            name = file.relative_to(source)
            there = name if top == "mmreward" else Path("mmreward") / name
            wanted = file.suffix not in {".md", ".png"} and file.is_file()
            if wanted and "__pycache__" not in file.parts and str(there) not in inside:
                lacking.append(str(name))
    return lacking


def wheel(folder: Path, source: Path, binaries: Path) -> None:
    """Build, check, and use the wheel as uvx, pipx and a verifier-only machine would."""
    run(binaries / "python", "-m", "build", "--outdir", folder / "dist", source)
    [built] = (folder / "dist").glob("*.whl")
    print(run(binaries / "twine", "check", "--strict", *(folder / "dist").iterdir()))
    if lacking := missing(built, source):
        sys.exit(f"not in {built.name}: {', '.join(lacking)}")
    place = folder / "place"
    place.mkdir()
    shutil.copy(source / "assets/demo.png", place)
    row = {"prompt": "four cards", "image": "demo.png", "target": "4"}
    rows = [{"id": f"r{one}", "response": f"<answer>{one}</answer>", **row} for one in (4, 5)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    homes = {f"PIPX_{name}": str(folder / f"pipx-{name.lower()}") for name in ("HOME", "BIN_DIR", "MAN_DIR")}
    run(binaries / "pipx", "install", built, PATH=f"{binaries}:{os.environ['PATH']}", **homes)
    light = folder / "light"
    venv.create(light, with_pip=True)
    run(light / "bin/pip", "install", "--quiet", "--upgrade", "pip")
    run(light / "bin/pip", "install", "--quiet", "--no-deps", built)
    run(light / "bin/pip", "install", "--quiet", "--group", "light", cwd=source)
    doors: dict[str, list[str | Path]] = {
        "uvx": [binaries / "uvx", "--from", built, "mmreward"],
        "pipx": [folder / "pipx-bin_dir/mmreward"],
        "light": [light / "bin/mmreward"],
    }
    for name, door in doors.items():
        rewards = ["label", *(["clipscore:weights=mini-clip"] if name != "light" else [])]
        asked = [word for reward in rewards for word in ("--reward", reward)]
        printed = [
            run(*door, "--help", cwd=place),
            run(*door, "list", cwd=place),
            run(*door, "score", "rows.jsonl", *asked, "--out", f"{name}.parquet", cwd=place),
        ]
        wanted = ["score", "clipscore", r"^label +2/2 +0\.5"]  # the mean of one right and one wrong answer
        if name != "light":
            wanted.append(r"^clipscore +2/2 ")  # the miniature comes with the wheel
        for pattern in wanted:
            if not re.search(pattern, "\n".join(printed), re.MULTILINE):
                sys.exit(f"{name}: nothing like {pattern!r} in\n" + "\n".join(printed))
        print(f"{name}:\n{printed[-1]}", flush=True)


def requirements(folder: Path, uv: Path, source: Path, end: str) -> Path:
    """Every version of one end: the lowest that pyproject.toml names, or the highest it admits."""
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [
        word for extra in project["optional-dependencies"] if extra != "dev" for word in ("--extra", extra)
    ]
    listed = folder / f"{end}.txt"
    how = "lowest-direct" if end == "oldest" else "highest"
    command = [uv, "pip", "compile", "--quiet", "--no-annotate", "--resolution", how, "--output-file", listed]
    run(*command, "--python", python_of(end), *extras, source / "pyproject.toml")
    return listed


def python_of(end: str) -> str:
    """The oldest Python that is allowed, the newest that is promised."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    return min(promised, key=minor) if end == "oldest" else max(promised, key=minor)


def minor(version: str) -> int:
    return int(version.partition(".")[2])


def passes(end: str, folder: Path, source: Path, uv: Path, tests: Sequence[str], keep: bool) -> bool:
    """The suite, or the named part of it, in an environment of the oldest or the newest versions."""
    python = folder / end / "bin/python"
    listed = requirements(folder, uv, source, end)
    run(uv, "venv", "--quiet", "--python", python_of(end), folder / end)
    run(uv, "pip", "install", "--quiet", "--python", python, "--requirement", listed, *TOOLS)
    run(uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--editable", source)
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", listed.read_text(encoding="utf-8"), re.MULTILINE))
    print(f"{end}: Python {python_of(end)},", ", ".join(f"{name} {pins[name]}" for name in NAMED), flush=True)
    command = [str(python), "-m", "pytest", *(tests or ("-n", "1", *PARTS))]
    done = subprocess.run(command, cwd=source, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False)
    if not keep:
        shutil.rmtree(folder / end)
    return done.returncode == 0


def main() -> None:
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=("wheel", "oldest", "newest"))
    parser.add_argument("--folder", type=Path, help="a new folder to work in; default: a temporary one")
    parser.add_argument("--keep", action="store_true", help="leave the folder as it is")
    options = parser.parse_args(sys.argv[1:cut])
    folder = options.folder or Path(tempfile.mkdtemp(prefix="mmreward-packaging-"))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("UV_CACHE_DIR", str(folder / "cache"))
    try:
        source, binaries = copied(folder), tools(folder)
        if "wheel" in options.what:
            wheel(folder, source, binaries)
        ends = [end for end in options.what if end != "wheel"]
        failed = [
            end
            for end in ends
            if not passes(end, folder, source, binaries / "uv", sys.argv[cut + 1 :], options.keep)
        ]
    finally:
        if not options.keep:
            shutil.rmtree(folder)
    if failed:
        sys.exit(f"tests failed with the {' and the '.join(failed)} allowed versions")


if __name__ == "__main__":
    main()
