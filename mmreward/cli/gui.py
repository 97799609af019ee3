"""The commands `gui ...`: grounding sets from a user's own pages."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .exits import CODES

gui = typer.Typer(help="Pages in a real browser, for GUI agents.", no_args_is_help=True)
app.add_typer(gui, name="gui")


@gui.callback()
def options() -> None:
    """Keeps `record` a command of its own name."""


@gui.command(epilog=CODES)
def record(
    url: Annotated[str, typer.Argument(help="http://..., https://... or a file of HTML.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    width: Annotated[int, typer.Option(min=100, max=8000, help="Of the screen, in pixels.")] = 1280,
    height: Annotated[int, typer.Option(min=100, max=8000, help="Of the screen, in pixels.")] = 800,
    pages: Annotated[int, typer.Option(min=1, help="Of the site, along its links.")] = 1,
    screens: Annotated[int, typer.Option(min=1, help="Of each page, from its top down.")] = 1,
) -> None:
    """Make a grounding set of a site: screenshots, and the boxes and names of what can be clicked.

    It is in ScreenSpot's form, so `mmreward benchmark screenspot PREDICTIONS --data OUT` measures on it.
    Needs a Chromium or Chrome on the PATH, or named in MMREWARD_CHROMIUM.
    """
    from mmreward.evals.browsing.browser import Browser, page_address
    from mmreward.evals.browsing.recording import record as recorded

    address = page_address(url)
    with Browser(width, height) as browser:
        found = recorded(browser, address, out, pages=pages, screens=screens)
    for page, reason in found.failed.items():
        typer.echo(f"not recorded: {page}: {reason}", err=True)
    lost = f", {found.ambiguous} left out that share their name with another" if found.ambiguous else ""
    typer.echo(f"{found.rows} elements on {found.screens} screens{lost} -> {found.labels}")
