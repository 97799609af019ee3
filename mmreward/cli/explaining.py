"""Explanations on the command line: `explain`, and what `score --explain` does with a row."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import app
from .arguments import chosen_rewards, parse_columns, present

if TYPE_CHECKING:
    from ..config import Config


@app.command()
def explain(
    reward: Annotated[
        str, typer.Argument(help="NAME or NAME:ARGUMENT=VALUE,...; those of --config where left out.")
    ] = "",
    response: Annotated[
        str | None, typer.Option(help="What the model wrote: text, @FILE, or - for stdin.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The right answer: JSON, or else text.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What was asked.")] = None,
    image: Annotated[Path | None, typer.Option(help="The picture.")] = None,
    video: Annotated[Path | None, typer.Option(help="The clip.")] = None,
    given: Annotated[
        list[Path] | None, typer.Option("--input", help="A picture in `inputs`; may be given several times.")
    ] = None,
    meta: Annotated[str | None, typer.Option(help='JSON, such as \'{"options": ["cat", "dog"]}\'.')] = None,
    source: Annotated[str | None, typer.Option(help="Whose route of --config it takes.")] = None,
    data: Annotated[Path | None, typer.Option(help="Take a row of these data, as for `score`.")] = None,
    row: Annotated[str | None, typer.Option("--id", help="Its id; other options replace its fields.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file: rewards or routes, compose.")] = None,
    mapped: Annotated[list[str] | None, typer.Option("--map", help="FIELD=COLUMN, as for `score`.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: CUDA if any.")] = None,
    machine: Annotated[bool, typer.Option("--json", help="One JSON array, for programs.")] = False,
) -> None:
    """Show how a response was read, step by step, and why it earned what it earned. Writes nothing."""
    if (data is None) != (row is None):
        raise ValueError("--data and --id belong together: the data, and the id of a row in them")
    if data is not None:
        present(data, "no data at {}")
    columns = parse_columns(mapped or (), data) if data is not None else {}
    fields = _fields(response, target, prompt, image, video, given, meta, source)
    if data is None and not fields:
        raise ValueError("nothing to explain: give --response TEXT --target TEXT, or --data DATA --id ID")
    from ..config import Config, load_config
    from ..data.columns import overruled

    settings = overruled(load_config(config), columns) if config is not None else Config(rewards={})
    if reward:
        settings = settings.model_copy(update={"rewards": {}, "routes": {}, "compose": None})
    explained(settings, [reward] if reward else [], data, row or "", columns, device, fields, machine)


def explained(
    settings: "Config",
    texts: Sequence[str],
    data: Path | None,
    row: str,
    columns: Mapping[str, str],
    device: str | None = None,
    fields: Mapping[str, Any] | None = None,
    machine: bool = False,
) -> None:
    """Print the explanations of one sample by the rewards of the settings and of the command line.

    Args:
        settings: rewards, routes, total and engine.
        texts: more rewards, as they are typed.
        data: a data set, whose row is meant.
        row: its id.
        columns: see `rows.read_rows`.
        device: in the place of the settings' own.
        fields: of the sample; they replace those of the row.
        machine: print JSON.
    """
    import json

    from ..config import EngineConfig
    from ..data.explain import explain_row, row_of
    from ..data.routing import NAME as ROUTED
    from ..data.routing import Router
    from ..engine.devices import check_device
    from ..engine.engine import Engine
    from ..limits import set_limits
    from ..loading import resolve
    from ..trust import redacted
    from ..types import Sample

    set_limits(settings.limits)
    chosen = chosen_rewards(settings.rewards, texts)
    if settings.routes:
        chosen[ROUTED] = Router(settings.routes).reward
    if not chosen:
        raise ValueError("no rewards: give REWARD or --config FILE; `mmreward list` shows what there is")
    rewards = resolve(chosen)
    recipe = settings.compose.build() if settings.compose is not None else None
    if recipe is not None:
        recipe.check(rewards)
    engine_config = settings.engine
    if device is not None:
        engine_config = EngineConfig(**{**engine_config.model_dump(), "device": device})
    if engine_config.ray is None:
        check_device(engine_config.device)
    compares = any(reward.info.arity != "point" for reward in rewards.values())
    compares = compares or (recipe is not None and recipe.compares)
    others: list[Sample] = []
    if data is not None:
        sample, others = row_of(data, row, columns, group=compares)
        sample = replace(sample, **(fields or {}))
    else:
        sample = Sample(**(fields or {}))
    with Engine.from_config(engine_config) as engine:
        found = explain_row(sample, rewards, engine, recipe=recipe, others=others)
    records = [one.record() for one in found]
    text = json.dumps(records, indent=2) if machine else "\n\n".join(map(str, found))
    typer.echo(redacted(text))


def _fields(
    response: str | None,
    target: str | None,
    prompt: str | None,
    image: Path | None,
    video: Path | None,
    inputs: Sequence[Path] | None,
    meta: str | None,
    source: str | None,
) -> dict[str, Any]:
    """Fields of the sample that were given; the others are left out."""
    for path in (image, video, *(inputs or ())):
        if path is not None:
            present(path, "no picture or clip at {}")
    found = {
        "response": _response(response),
        "target": None if target is None else _target(target),
        "prompt": prompt,
        "image": image,
        "video": video,
        "inputs": inputs or None,
        "meta": None if meta is None else _meta(meta),
        "source": source,
    }
    return {name: value for name, value in found.items() if value is not None}


def _response(text: str | None) -> str | None:
    if text == "-":
        return sys.stdin.read()
    if text is not None and text.startswith("@"):
        path = Path(text[1:])
        present(path, "no file at {}; a response that begins with @ itself is given on stdin, --response -")
        return path.read_text(encoding="utf-8")
    return text


def _target(text: str) -> Any:
    """JSON, or the text itself; `NaN` and the like are text."""
    import json

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return text


def _meta(text: str) -> dict[str, Any]:
    import json

    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--meta {text[:80]!r} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f'--meta is a JSON object such as {{"step": 30}}, not {text[:80]!r}')
    return found
