"""Commands about recipes, the YAML files that come with the package: configs lists them, init copies one."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from .app import app

STARTS = {
    "score": "grade files: rewards, a total, an engine",
    "tune": "train a generator",
    "search": "better samples of an unchanged generator",
    "vlm": "rewards by source, for the training of a VLM",
}
"""The commented starts, by the folder that each is in."""


@app.command()
def configs(
    glob: Annotated[str, typer.Argument(help="Which recipes, such as 'tune/*' or '*grpo*'.")] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, for programs.")] = False,
) -> None:
    """List the recipes of the package: what each is for, and the line that runs it."""
    from ..config import recipes

    found = {name: path for name, path in recipes().items() if fnmatchcase(name, glob)}
    if not found:
        raise ValueError(f"no recipe fits {glob!r}: `mmreward configs` names them all")
    if as_json:
        import json

        records = [
            {"name": name, "summary": summary(path), "command": command(path), "path": str(path)}
            for name, path in found.items()
        ]
        typer.echo(json.dumps(records, indent=2))
        return
    for name, path in found.items():
        typer.echo(f"{name}\n    {summary(path)}")
    typer.echo("run one by its name, as in `mmreward tune tune/mini-grpo`; `mmreward init NAME` copies it")


@app.command()
def init(
    name: Annotated[
        str, typer.Argument(help="score, tune, search or vlm, or a recipe such as tune/mini-grpo.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The new file; default: NAME.yaml in this folder.")
    ] = None,
) -> None:
    """Copy a commented start, or any recipe, into a file of your own; without a name, say what there is."""
    if not name:
        for start, what in STARTS.items():
            typer.echo(f"mmreward init {start:<8}{what}")
        typer.echo("`mmreward configs` lists the other recipes")
        return
    from ..config import recipe_at

    recipe, path = recipe_at(f"{name}/start" if name in STARTS else name)
    target = out if out is not None else Path(f"{name.rstrip('/').rpartition('/')[2]}.yaml")
    if target.suffix not in (".yaml", ".yml"):
        raise ValueError(f"a recipe is copied to a .yaml file, not {target.name!r}")
    text = path.read_text(encoding="utf-8").replace(f"configs/{recipe}.yaml", target.as_posix())
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ValueError(f"{target} is there already: name another file with --out") from None
    typer.echo(target)
    if line := command(target):
        typer.echo(f"next: {line}")


def header(path: Path) -> list[str]:
    """The comment lines that a recipe begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    size = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line[1:] for line in lines[:size]]


def summary(path: Path) -> str:
    """The words that a recipe begins with, up to the line that runs it."""
    words: list[str] = []
    for line in header(path):
        if line.startswith("   "):
            break
        words.append(line.strip())
    return " ".join(words)


def command(path: Path) -> str:
    """The line that runs a recipe, as its header has it; empty where it has none."""
    joined = "\n".join(header(path)).replace("\\\n", "")
    lines = [" ".join(line.split()) for line in joined.splitlines() if line.startswith("   ")]
    return next((line for line in lines if path.name in line), "")
