"""The documentation held against the code: links lead somewhere, commands, options and names exist."""

import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer

from mmreward.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in ROOT.rglob("*.md") if not {".venv", "runs"} & set(path.parts))
RECIPES = sorted((ROOT / "configs").glob("*/*.yaml"))
PAGE_IDS = [str(path.relative_to(ROOT)) for path in PAGES]


def commands(path: Path) -> list[str]:
    """Commands of ours: in fenced bash blocks, in a recipe's header, and whole spans of inline code."""
    text = path.read_text(encoding="utf-8").replace("\\\n#", "").replace("\\\n", "")
    if path.suffix == ".yaml":
        found = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#   ")]
    else:
        blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        found = [line for block in blocks for line in block.splitlines()]
        found += re.findall(r"`(python -m mmreward[^`]+)`", text)
    return [line for line in found if line.startswith(("mmreward ", "python -m mmreward"))]


COMMANDS = [
    pytest.param(line, id=f"{path.relative_to(ROOT)}: {line}")
    for path in [*PAGES, *RECIPES]
    for line in dict.fromkeys(commands(path))
]


@pytest.mark.parametrize("path", PAGES, ids=PAGE_IDS)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#([\w-]+))?\)", text)
    lost = [name for name, _ in links if not (path.parent / name).exists()]
    assert not lost
    for name, anchor in links:
        target = path.parent / name
        if anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{name}#{anchor}"


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist_with_these_options(line):
    words = shlex.split(line, comments=True)
    if words[0] == "mmreward":
        command = typer.main.get_command(app).commands.get(words[1])
        assert command is not None, f"mmreward has no command {words[1]}"
        if not any(word.isupper() and word.startswith("[") for word in words):
            command.make_context(words[1], words[2:], resilient_parsing=False)
    else:
        spec = importlib.util.find_spec(words[2])
        assert spec is not None and spec.origin is not None
        assert "__main__" in Path(spec.origin).read_text(encoding="utf-8"), f"{words[2]} is no command"
    for word in words:
        if word.startswith("configs/"):
            assert list(ROOT.glob(word)), f"there is no {word}"


@pytest.mark.parametrize("path", PAGES, ids=PAGE_IDS)
def test_named_modules_are_there(path):
    if path.name == "CHANGELOG.md":
        return  # of each version, as it was then
    for name in re.findall(r"`(mmreward(?:\.[A-Za-z_]+)+)`", path.read_text(encoding="utf-8")):
        assert exists(name), name


def exists(name: str) -> bool:
    """A module, or something in one."""
    module, _, last = name.rpartition(".")
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # the part before the last dot is no package
        found = None
    return found is not None or hasattr(importlib.import_module(module), last)
