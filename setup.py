"""What pyproject.toml cannot say: the list of packages, and the README as a package index shows it.

An index has the page alone, without the files beside it: there a relative link leads nowhere and a picture of
the repository is broken. With an address named `Source` under [project.urls] both lead to the repository;
without one pictures are left out and a link is its words.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")
"""A picture (with !) or link to a file of this repository."""


def index_page(text: str, source: str | None) -> str:
    """The Markdown with its relative links led to `source`, or without them."""

    def led(found: re.Match[str]) -> str:
        picture, words, path = found.groups()
        if source is None:
            return "" if picture else words
        return f"{picture}[{words}]({source.rstrip('/')}/{'raw' if picture else 'blob'}/HEAD/{path})"

    fenced = re.split(r"(^```.*?^```\n)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else tidy(LINK.sub(led, part)) for part in fenced)


def tidy(prose: str) -> str:
    """The text without the holes that pictures leave."""
    return re.sub(r"\n{3,}", "\n\n", prose)


def page() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = project.get("urls", {}).get("Source")
    return index_page((ROOT / "README.md").read_text(encoding="utf-8"), source)


def packages() -> list[str]:
    """Every package there is, under its name in mmreward; a list kept by hand once left out a room."""
    found = []
    for top in ("mmreward", "generators", "evals", "assets", "configs"):
        parts = [file.parent.relative_to(ROOT).parts for file in sorted((ROOT / top).rglob("__init__.py"))]
        found += [".".join(part if top == "mmreward" else ("mmreward", *part)) for part in parts]
    return found


if __name__ == "__main__":
    setup(packages=packages(), long_description=page(), long_description_content_type="text/markdown")
