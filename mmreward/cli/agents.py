"""Commands for agents: `lerobot` writes scores into recordings, `gui record` makes grounding sets."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .arguments import present
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


@app.command()
def lerobot(
    data: Annotated[Path, typer.Argument(help="A LeRobot dataset (v3.0), which is left as it is.")],
    scores: Annotated[Path, typer.Argument(help="Scores of its episodes, as `mmreward score` wrote them.")],
    out: Annotated[Path, typer.Option(help="The folder of the copy; nothing may be there.")],
    reward: Annotated[str, typer.Option(help="Whose scores; default: the only one that is there.")] = "",
    column: Annotated[str, typer.Option(help="Name of the column; default: reward.NAME.")] = "",
    kind: Annotated[
        str, typer.Option("--as", help="curve: the value at each frame; gain: what the next one is above it.")
    ] = "curve",
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a column that is there, such as next.reward.")
    ] = False,
    link: Annotated[bool, typer.Option("--link", help="Videos as hard links, which take no room.")] = False,
) -> None:
    """Write scores into a copy of a LeRobot dataset: a column with its statistics, and progress.parquet."""
    present(data, "no dataset at {}")
    present(scores, "no scores at {}")
    from ..data.lerobot_copy import KINDS, write_back
    from ..data.results import read

    results = read(scores)
    names = sorted({result.reward for result in results})
    if not reward and len(names) != 1:
        raise ValueError(f"{scores} has scores of {', '.join(names) or 'no reward'}: name one with --reward")
    if kind not in KINDS:
        raise ValueError(f"--as {kind!r}: {' or '.join(KINDS)}")
    written = write_back(
        data, results, reward or names[0], out, column=column, kind=kind, replace=replace, link=link
    )
    missing = f", {written.missing} without a score are NaN" if written.missing else ""
    typer.echo(f"{out}: {written.scored} episodes with {reward or names[0]}{missing}")
