"""Things built here: the page of a package index, the packages, the promises of pyproject.toml."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]


@pytest.fixture(scope="module")
def made():
    """setup.py as a module; it sets up nothing unless it is run."""
    spec = importlib.util.spec_from_file_location("made_page", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_link_or_picture_of_the_page_is_relative(made) -> None:
    page = made.page()
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(r"\]\((?!https?://|#)[^)]*\)", prose)
    assert not re.search(r'(src|href)="(?!https?://|#)', prose)


def test_nothing_else_of_the_readme_changes(made) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
    assert blocks.findall(made.page()) == blocks.findall(text)
    for heading in re.findall(r"^#+ .*$", text, re.MULTILINE):
        assert heading in made.page()


@pytest.mark.parametrize(
    ("text", "alone", "led"),
    [
        ("see [rules](a/b.md#c).", "see rules.", "see [rules](https://h.example/o/r/blob/HEAD/a/b.md#c)."),
        ("![four cards](a.png)", "", "![four cards](https://h.example/o/r/raw/HEAD/a.png)"),
        ("[paper](https://p.example/1)", "[paper](https://p.example/1)", "[paper](https://p.example/1)"),
        ("[above](#start)", "[above](#start)", "[above](#start)"),
        ("```python\nx[0](y)\n```\n", "```python\nx[0](y)\n```\n", "```python\nx[0](y)\n```\n"),
    ],
)
def test_links_lead_to_the_address_or_are_their_words(made, text, alone, led) -> None:
    assert made.index_page(text, None) == alone
    assert made.index_page(text, "https://h.example/o/r/") == led


def test_an_address_is_one(made) -> None:
    """No address is invented: there may be none, and what stands there must be reachable from anywhere."""
    for name, address in PROJECT.get("urls", {}).items():
        assert re.fullmatch(r"https://[\w.-]+\.[a-z]+/\S*", address), (name, address)


def test_every_python_that_is_allowed_and_promised_is_named() -> None:
    named = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    assert named == ["3.11", "3.12", "3.13"] and PROJECT["requires-python"] == ">=3.11"


def test_every_folder_of_code_is_packaged(made) -> None:
    there = {
        ".".join(("mmreward", *folder.parts) if folder.parts[0] != "mmreward" else folder.parts)
        for top in ("mmreward", "generators", "evals", "assets", "configs")
        for folder in (file.parent.relative_to(ROOT) for file in (ROOT / top).rglob("*.py"))
    }
    assert set(made.packages()) == there and "mmreward.rewards.published" in there


def test_every_file_that_is_no_code_goes_with_a_package() -> None:
    """Templates, recipes and weights, by the patterns of package-data; READMEs are for the repository."""
    data = SETUPTOOLS["package-data"]
    tops = {
        "mmreward.assets": "assets",
        "mmreward.configs": "configs",
        "mmreward.evals.report": "evals/report",
    }
    packaged = {
        file
        for name, globs in data.items()
        for glob in globs
        for file in (ROOT / tops.get(name, name)).glob(glob)
    }
    for top in ("mmreward", "generators", "evals", "assets", "configs"):
        for file in (ROOT / top).rglob("*"):
            if file.is_file() and file.suffix not in {".py", ".pyc", ".md", ".png"}:
                assert file in packaged, f"{file.relative_to(ROOT)} is in no pattern of package-data"
