"""The light core: verifiers, rules, server and adapters run with the group `light` of pyproject alone."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LIGHT = PYPROJECT["dependency-groups"]["light"]
EXTRAS = [*PYPROJECT["project"]["optional-dependencies"]["math"], "fastapi", "uvicorn"]
"""Extras that go with it: `math` and `server`."""
REFUSING = """
import sys
ALLOWED = set({allowed!r})
class Refused:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in KNOWN and top not in ALLOWED:
            raise ModuleNotFoundError(f"No module named {{top!r}}", name=top)
KNOWN = set({known!r})
sys.meta_path.insert(0, Refused())
{code}
"""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(requirements: list[str]) -> set[str]:
    """Names of these packages and of all that they need, as far as they are installed."""
    found: set[str] = set()
    left = [Requirement(line) for line in requirements]
    while left:
        one = left.pop()
        if plain(one.name) in found or (one.marker is not None and not one.marker.evaluate({"extra": ""})):
            continue
        try:
            needs = distribution(one.name).requires or ()
        except PackageNotFoundError:
            continue
        found.add(plain(one.name))
        left += map(Requirement, needs)
    return found


def lightly(code: str, *extras: str) -> subprocess.CompletedProcess[str]:
    """Run code where only the light packages can be imported."""
    allowed = closure([*LIGHT, *extras])
    owners = packages_distributions()
    known = [top for top in owners if top != "mmreward" and not top.startswith("__editable")]
    there = [top for top in known if {plain(one) for one in owners[top]} & allowed]
    script = REFUSING.format(allowed=sorted(there), known=sorted(known), code=code)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_it_is_a_part_of_what_is_installed_usually() -> None:
    assert set(LIGHT) <= set(PYPROJECT["project"]["dependencies"])
    heavy = {"torch", "torchvision", "transformers", "diffusers", "open_clip_torch", "accelerate", "av"}
    assert not heavy & {Requirement(line).name for line in LIGHT}


def test_nothing_heavy_can_be_imported_there() -> None:
    """So that the tests below mean something."""
    for name in ("torch", "transformers", "diffusers", "open_clip", "av"):
        assert "No module named" in lightly(f"import {name}").stderr


@pytest.fixture
def commands(tmp_path: Path) -> list[list[str]]:
    rows = [
        {"id": str(i), "prompt": "2+2?", "response": f"<answer>{i}</answer>", "target": "4"} for i in (4, 5)
    ]
    data, out = tmp_path / "data.jsonl", tmp_path / "out.parquet"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        ["--version"],
        ["env"],
        ["list", "--needs", "response"],
        ["show", "math"],
        ["score", str(data), "--reward", "label", "--reward", "math", "--out", str(out)],
        ["report", str(out)],
        ["compare", str(out), str(out)],
        ["explain", "label", "--response", "<answer>4</answer>", "--target", "4"],
    ]


def test_the_commands_of_verifiers_work(commands: list[list[str]]) -> None:
    code = f"""
from mmreward.cli import app
for arguments in {commands!r}:
    app(arguments, standalone_mode=False)
assert not {{"torch", "transformers", "diffusers", "open_clip", "av"}} & set(sys.modules)
"""
    done = lightly(code, *EXTRAS)
    assert done.returncode == 0, done.stderr
    assert "torch is not installed: verifiers" in done.stdout


def test_python_the_server_and_the_adapters_work() -> None:
    code = """
import mmreward
scored = mmreward.score([{"response": "<answer>4</answer>", "target": "4"}], ["label", "format"])
assert scored[0].scores["label"].value == 1.0
from mmreward.server import app
from mmreward.adapters import easyr1, ms_swift, openrlhf, trl, verl
assert not {"torch", "transformers", "diffusers", "open_clip", "av"} & set(sys.modules)
"""
    done = lightly(code, *EXTRAS)
    assert done.returncode == 0, done.stderr


def test_a_reward_that_needs_more_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"id": "a", "prompt": "p"}\n')
    arguments = ["score", str(tmp_path / "data.jsonl"), "--reward", "clipscore:weights=mini-clip"]
    arguments += ["--out", str(tmp_path / "o.parquet")]
    code = f"from mmreward.cli import main; sys.argv[1:] = {arguments!r}; main()"
    done = lightly(code)
    assert done.returncode == 2 and "torch is not installed: pip install" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
