"""The frame around a page: one HTML document with its style and script inside, which reaches for nothing."""

from datetime import datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template

from .markup import text

HERE = Path(__file__).parent


def framed(title: str, content: str, styles: tuple[str, ...] = ("report.css",)) -> str:
    """The document with this HTML as its content; `styles` are files beside this one."""
    frame = Template((HERE / "report.html").read_text(encoding="utf-8"))
    style = "\n".join((HERE / name).read_text(encoding="utf-8") for name in styles)
    return frame.substitute(title=text(title), style=style, content=content)


def made_by() -> str:
    """What wrote the page."""
    return f"Page by mmreward {escape(version('mmreward'))}"


def date(stamp: str) -> str:
    """An ISO 8601 moment in words; as it is where it is none."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return text(stamp)
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".strip()
