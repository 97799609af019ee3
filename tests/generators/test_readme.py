"""README of the generators: its table is that of the code, its example and its command do what is shown."""

import importlib
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmreward.cli import app
from mmreward.generators.loading import FAMILIES

ROOT = Path(__file__).parents[2]
README = (ROOT / "generators" / "README.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| (\w+Pipeline)[^|]*\| (\w+: \w+) \|", README, re.MULTILINE))


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)


def test_the_table_is_that_of_the_code():
    assert {name: place.replace(": ", ":") for name, place in ROWS.items()} == FAMILIES


@pytest.mark.parametrize("pipeline", FAMILIES)
def test_defaults_are_those_of_the_class(pipeline):
    (row,) = re.findall(rf"^\| {pipeline}\b.*\| ([^|]*) \|$", README, re.MULTILINE)
    module, _, name = FAMILIES[pipeline].partition(":")
    family = getattr(importlib.import_module(f"mmreward.generators.{module}"), name)
    if module == "flux":  # decided by the checkpoint
        return
    steps = getattr(family, "full_steps", None) or family.steps
    scale = getattr(family, "full_guidance", None) or family.guidance
    assert row.startswith(f"{steps}, {scale:g}")


def test_the_example_runs():
    (example,) = blocks("python")
    found = {}
    exec(example, found)
    assert found["pixels"].shape == (2, 3, 32, 32)
    assert len(found["pictures"]) == 2


def test_the_dry_run_prints_what_is_shown(monkeypatch):
    monkeypatch.chdir(ROOT)
    (command,) = blocks("bash")
    said = CliRunner().invoke(app, command.split()[1:])
    assert said.exit_code == 0, said.output
    (shown,) = [block for block in blocks("text") if block.startswith("generator ")]
    assert said.output.startswith(shown)
