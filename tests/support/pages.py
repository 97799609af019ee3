"""Reads an HTML page as a browser would, for tests of what stands on it."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}


class Page(HTMLParser):
    """What a browser would see: tags (checked for balance), attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.feed(html)
        self.close()
        assert not self.stack, f"never closed: {self.stack}"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in ("style", "script"):
            self.words += data

    def having(self, name: str, css: str = "") -> list[dict[str, str]]:
        """The attributes of every such tag, of those with this class when one is given."""
        found = [attrs for tag, attrs in self.tags if tag == name]
        return [attrs for attrs in found if not css or css in attrs.get("class", "").split(" ")]


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))
