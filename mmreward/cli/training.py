"""Commands that train or search: tune, fit, search, refine, synthesize."""

from collections.abc import Mapping
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
        Literal["d2-align", "pisces", "head", "perceptual"],
        typer.Argument(help="For the reward d2_align, for pisces, for head, or for perceptual."),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            help="Pictures with prompts. d2-align: drawn by the untuned generator; pisces: real ones. "
            "head: the folder of pairs that `mmreward pairs` wrote. perceptual: a few demonstrations of one "
            "task, clips or episodes."
        ),
    ],
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            "--backbone",
            help="The dual encoder, as the reward will name it; for head also a Qwen-VL.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="The new .safetensors file; for head, the new folder; for perceptual, a .json."),
    ],
    steps: Annotated[
        int | None,
        typer.Option(
            help="Of the fit: by default 2000 for d2-align and (at most) head, 1000 for pisces. Of the task "
            "for perceptual: 3."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the fit, and of which prompts are held out.")] = 0,
    push: Annotated[
        float | None, typer.Option(help="How far d2-align moves prompts along the bias; default: 1.5.")
    ] = None,
    loss: Annotated[
        Literal["bt", "btt", "margin", "uncertainty", "integrated"] | None,
        typer.Option(help="Of a head: Bradley-Terry, with ties, with a margin, or rewards with a sigma."),
    ] = None,
    margin: Annotated[
        str | None, typer.Option(help="Of the loss margin: a number, or pairs for each pair's own.")
    ] = None,
    ties: Annotated[float | None, typer.Option(help="k of the loss btt; default: 5.")] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option(help="Of a head on a Qwen-VL: train a LoRA adapter along, of this rank."),
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(help="Of a head on a Qwen-VL: what it is asked, with {prompt}, to answer yes or no."),
    ] = None,
    form: Annotated[
        Literal["usual", "basereward"] | None,
        typer.Option(
            help="Of a head on a Qwen-VL: basereward is BaseReward's, two layers with SiLU on the state."
        ),
    ] = None,
    features: Annotated[
        int | None, typer.Option(help="Of perceptual: kept of each step; default: 32.")
    ] = None,
    least: Annotated[int | None, typer.Option(help="Of perceptual: frames of a step; default: 2.")] = None,
    frames: Annotated[
        str | None, typer.Option(help="Of perceptual: which frames are looked at; default: 64.")
    ] = None,
    view: Annotated[str | None, typer.Option(help="Of perceptual: the camera, of several.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto: CUDA if any.")] = "auto",
) -> None:
    """Fit what a d2_align, pisces, head or perceptual reward reads, and say what it does to what was held
    out."""
    present(data, "no data at {}")
    from ..engine.devices import check_device
    from ..engine.engine import Engine

    check_device(device)
    of_steps = {"features": features, "least": least, "frames": frames, "view": view}
    of_heads = {"loss": loss, "margin": margin, "ties": ties, "lora_rank": lora_rank, "question": question}
    of_heads |= {"form": form}
    _left_out(kind, "d2-align", {"push": push})
    _left_out(kind, "head", of_heads)
    _left_out(kind, "perceptual", of_steps)
    if kind == "perceptual":
        from ..tune.fit_perceptual import Finding, fit_perceptual

        given = {"steps": steps, **of_steps}
        finding = Finding(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
        with Engine(device) as engine:
            typer.echo(fit_perceptual(data, weights, out, engine, finding))
        return
    if kind == "head":
        from ..tune.fit_head import fit_head
        from ..tune.fit_loop import HeadSettings

        settings = HeadSettings(
            loss=loss or "bt",
            margin=_margin(margin),
            ties=ties,
            steps=2000 if steps is None else steps,
            seed=seed,
            form=form or "usual",
            rank=lora_rank or 0,
        )
        with Engine(device) as engine:
            typer.echo(fit_head(data, weights, out, engine, settings, question=question or ""))
        return
    from ..tune.fit import fit_file

    with Engine(device) as engine:
        typer.echo(fit_file(kind, data, weights, out, engine, steps=steps, seed=seed, push=push))


def _left_out(kind: str, owner: str, given: Mapping[str, object]) -> None:
    """Refuse options of another kind."""
    for name, value in given.items():
        if value is not None and kind != owner:
            raise ValueError(f"{name} {value} belongs to {owner}; leave it out for {kind}")


def _margin(given: str | None) -> float | Literal["pairs"] | None:
    if given is None or given == "pairs":
        return "pairs" if given else None
    try:
        return float(given)
    except ValueError:
        raise ValueError(f"margin is a number or pairs, not {given!r}") from None


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


@app.command()
def synthesize(
    config: Annotated[
        Path, typer.Argument(help="A YAML file, or a recipe such as synthesize/mini-anyprefer.")
    ],
) -> None:
    """Make preference pairs with a generator, a judge and its tools. Writes a folder of pairs."""
    from ..config import config_at

    config = config_at(config)
    from mmreward.generators.loading import load

    from ..search.synthesize import synthesize_file

    typer.echo(synthesize_file(config, load))
