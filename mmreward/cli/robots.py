"""Commands for recordings of robots: lerobot."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .arguments import present


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
