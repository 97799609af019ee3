"""The command `benchmark`: a file of predictions or a reward, measured by a benchmark's published rules."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .arguments import chosen_rewards, present
from .exits import CODES


@app.command(epilog=CODES)
def benchmark(
    name: Annotated[str | None, typer.Argument(help="Of the benchmark; without one, all are listed.")] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Argument(
            help="A .jsonl, .csv, .tsv or .parquet file of predictions; of several, each is compared with "
            "the first."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The benchmark's labels, as they are published; nothing is fetched.")
    ] = None,
    reward: Annotated[
        str | None, typer.Option(help="In the place of predictions: NAME or NAME:ARGUMENT=VALUE,...")
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(help="Where a reward's scores go; a second run goes on there.", show_default=False),
    ] = None,
    machine: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
    table: Annotated[bool, typer.Option("--csv", help="One CSV row for each rule.")] = False,
    seed: Annotated[int, typer.Option(help="Of the bootstraps.")] = 0,
    draws: Annotated[int, typer.Option(min=100, help="Of each bootstrap.")] = 1000,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: CUDA if any.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds one score may take.")] = None,
    retry_failed: Annotated[bool, typer.Option(help="Compute failed scores again.")] = False,
) -> None:
    """Measure predictions, or a reward, by a benchmark: every rule, over all items and over the valid ones.

    With --reward the scores go to --scores (default: NAME-REWARD.parquet); the same command goes on there.
    """
    from mmreward.evals import benchmarks
    from mmreward.evals.benchmarks import show
    from mmreward.evals.benchmarks.against import against
    from mmreward.evals.benchmarks.against import as_json as compared_json
    from mmreward.evals.benchmarks.against import as_text as compared_text
    from mmreward.evals.benchmarks.benchmark import measured
    from mmreward.evals.benchmarks.predictions import read_predictions
    from mmreward.evals.benchmarks.scored import scored_answers

    if machine and table:
        raise ValueError("--json and --csv are two forms of one output: give one of them")
    if name is None:
        every = benchmarks.benchmarks()
        typer.echo(show.listed_json(every) if machine else show.listed(every))
        return
    chosen = benchmarks.benchmark(name)
    if (not predictions) == (reward is None):
        raise ValueError("give a file of predictions or --reward NAME, one of them")
    if data is None:
        raise ValueError(f"give the labels with --data: {chosen.labels}")
    present(data, "no labels at {}")
    items = chosen.read(data)
    if predictions:
        for path in predictions:
            present(path, "no predictions at {}")
        several = [read_predictions(path, chosen, items) for path in predictions]
    else:
        from ..engine.engine import Engine
        from ..engine.preconditions import check_rewards
        from ..loading import resolve
        from ..progress import Display

        rewards = resolve(chosen_rewards({}, [str(reward)]))
        check_rewards(rewards)
        ((own, loaded),) = rewards.items()
        out = scores if scores is not None else Path(f"{name}-{own}.parquet")
        with Engine(device) if device is not None else Engine() as engine, Display() as shown:
            shown.phase("scoring", "scores")
            answers = scored_answers(
                chosen, items, data, own, loaded, out, engine,
                timeout=timeout, retry_failed=retry_failed, progress=shown.scored,
            )  # fmt: skip
        typer.echo(f"scores -> {out}", err=True)
        several = [answers]
    found = [measured(chosen, items, one, seed=seed, draws=draws) for one in several]
    compared = against(chosen, items, several, seed=seed, draws=draws) if len(several) > 1 else None
    if machine:
        runs = [show.as_json(one) for one in found]
        typer.echo(runs[0] if compared is None else compared_json(compared, runs))
    elif table:
        head, *_ = show.as_csv(found[0]).split("\n", 1)
        typer.echo("\n".join([head, *(show.as_csv(one).split("\n", 1)[1] for one in found)]))
    else:
        texts = [show.as_text(one) for one in found]
        typer.echo("\n\n".join(texts if compared is None else [*texts, compared_text(compared)]))
