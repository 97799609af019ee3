"""Commands about what there is: list, show."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app


@app.command("list")
def list_command(
    glob: Annotated[str, typer.Argument(help="Which rewards, such as 'clip*'.")] = "*",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The page mmreward/rewards/README.md, of all own rewards.")
    ] = False,
) -> None:
    """List the registered rewards."""
    if markdown:
        from .catalogue import rewards_page

        typer.echo(rewards_page(), nl=False)
        return
    from ..registry import list_rewards

    infos = list_rewards(glob)
    if not infos:
        raise ValueError(f"no reward matches {glob!r}; `mmreward list` shows them all")
    width = max(len(info.name) for info in infos)
    for info in infos:
        low, high = info.range
        facts = f"[{low:g}, {high:g}]  {info.arity}  needs {info.needed}"
        facts += "  differentiable" if info.differentiable else ""
        typer.echo(f"{info.name:<{width}}  {info.summary}\n{'':<{width}}  {facts}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="The reward's name.")]) -> None:
    """Show what a reward does, what it needs and which arguments it takes."""
    import inspect
    import json

    from ..registry import find

    entry = find(name)
    info = entry.info
    typer.echo(f"{name}: {inspect.getdoc(entry.factory)}\n")
    direction = "higher is better" if info.higher_is_better else "lower is better"
    typer.echo(f"range    [{info.range[0]:g}, {info.range[1]:g}], {direction}")
    typer.echo(f"needs    {info.needed} ({info.arity})")
    typer.echo(f"gradient {'yes, through score_tensor' if info.differentiable else 'no'}")
    if info.paper:
        typer.echo(f"paper    {info.paper}")
    if info.licence:
        typer.echo(f"licence  {info.licence}")
    typer.echo(f"file     {Path(inspect.getfile(entry.factory)).name}")
    if info.example:
        typer.echo(f"\nexample row, beside a prompt and an image\n  {json.dumps(info.example)}")
    typer.echo("\narguments")
    for parameter in inspect.signature(entry.factory).parameters.values():
        typer.echo(f"  {parameter}")
