"""Commands that train or search: tune, fit, search, refine."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .app import app
from .arguments import present


@app.command()
def tune(
    config: Annotated[Path, typer.Argument(help="A YAML file, or a recipe such as tune/mini-grpo.")],
    dry_run: Annotated[bool, typer.Option(help="Print the plan and stop.")] = False,
    out: Annotated[str | None, typer.Option(help="Another folder for the run than the config's.")] = None,
) -> None:
    """Train a generator on rewards; run it again to go on where it stopped."""
    from ..config import config_at

    config = config_at(config)
    from ..tune.config import load_tune_config
    from ..tune.plan import plan
    from ..tune.trainer import tune as train

    described = load_tune_config(config)
    if out is not None:
        described = described.model_copy(update={"out": out})
    from mmreward.generators.loading import footprint, load

    if dry_run:
        typer.echo(plan(described, footprint))
    else:
        from ..progress import Display

        with Display() as shown:
            shown.phase("starting")
            train(described, load, shown.line, shown)


@app.command()
def fit(
    kind: Annotated[
        Literal["d2-align", "pisces"], typer.Argument(help="For the reward d2_align, or for pisces.")
    ],
    data: Annotated[
        Path,
        typer.Argument(
            help="Pictures with prompts. d2-align: drawn by the untuned generator; pisces: real ones."
        ),
    ],
    weights: Annotated[str, typer.Option(help="The dual encoder, as the reward will name it.")],
    out: Annotated[Path, typer.Option(help="The new .safetensors file.")],
    steps: Annotated[int | None, typer.Option(help="Default: 2000 for d2-align, 1000 for pisces.")] = None,
    seed: Annotated[int, typer.Option(help="Of the fit, and of which prompts are held out.")] = 0,
    push: Annotated[
        float | None, typer.Option(help="How far d2-align moves prompts along the bias; default: 1.5.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto: CUDA if any.")] = "auto",
) -> None:
    """Fit the file that a d2_align or pisces reward reads, and say what it does to held-out prompts."""
    present(data, "no data at {}")
    from ..engine.devices import check_device
    from ..engine.engine import Engine
    from ..tune.fit import fit_file

    check_device(device)
    with Engine(device) as engine:
        typer.echo(fit_file(kind, data, weights, out, engine, steps=steps, seed=seed, push=push))


@app.command()
def search(
    config: Annotated[Path, typer.Argument(help="A YAML file, or a recipe such as search/mini-bon.")],
) -> None:
    """Find better pictures without training: best-of-n, noise optimisation, ... Writes a folder."""
    from ..config import config_at

    config = config_at(config)
    from mmreward.generators.loading import load

    from ..progress import Display
    from ..search.run import search_file

    with Display() as shown:
        found = search_file(config, load, shown)
    typer.echo(found)


@app.command()
def refine(
    config: Annotated[Path, typer.Argument(help="A YAML file, or a recipe such as search/mini-refine.")],
) -> None:
    """Draw, let a critic say what is wrong, revise the prompt and draw again. Writes a folder."""
    from ..config import config_at

    config = config_at(config)
    from mmreward.generators.loading import load

    from ..progress import Display
    from ..search.run import refine_file

    with Display() as shown:
        found = refine_file(config, load, shown)
    typer.echo(found)
