"""Commands that score and look at scores: score, check, questions, pairs, report, compare."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer

from .app import app
from .arguments import chosen_rewards, parse_columns, parse_share, present
from .exits import BUDGET, CODES
from .explaining import explained

Mapped = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="FIELD=COLUMN takes a field from a column of another name, or from a key of meta, before "
        "`columns:` in YAML; may be given several times.",
    ),
]


@app.command(epilog=CODES)
def score(
    data: Annotated[
        Path,
        typer.Argument(
            help="A folder of pictures, .jsonl, .parquet, .csv, .tsv, tars, a saved dataset, or one picture."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where the scores go: .parquet, .jsonl, .csv or .tsv. One picture needs none.",
            show_default=False,
        ),
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME or NAME:ARGUMENT=VALUE,...; may be given several times; YOURS=NAME:... renames it; "
            "FILE.py:FUNCTION is one of your own."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file: rewards or routes, compose, engine, limits.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: CUDA if any.")] = None,
    max_failures: Annotated[str, typer.Option(help="Failed scores that are tolerated: 5% or 0.05.")] = "5%",
    timeout: Annotated[float | None, typer.Option(help="Seconds one score may take.")] = None,
    retry_failed: Annotated[bool, typer.Option(help="Compute failed scores again.")] = False,
    tracker: Annotated[
        list[str] | None,
        typer.Option(help="Log the run there too: tensorboard, wandb, trackio; may be given several times."),
    ] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Print the engine's counters too.")] = False,
    explain: Annotated[
        str | None, typer.Option(help="Only the row of this id: show why it earns what it earns.")
    ] = None,
    mapped: Mapped = None,
) -> None:
    """Score a data set; run it again to go on where it stopped. Scores of other data in the file stay."""
    present(data, "no data at {}")
    budget = parse_share(max_failures)
    if out is not None:
        from ..data.results import check_ending

        check_ending(out)
    columns = parse_columns(mapped or (), data)
    from ..adapters.notebook import score as score_samples
    from ..config import Config, EngineConfig, load_config
    from ..data.columns import overruled
    from ..data.failures import lines
    from ..data.routing import NAME as ROUTED
    from ..data.routing import Router
    from ..data.rows import is_media
    from ..data.run import score_file
    from ..engine.devices import check_device
    from ..engine.engine import Engine
    from ..engine.preconditions import check_rewards
    from ..limits import set_limits
    from ..loading import resolve
    from ..monitor.tables import score_table, source_table, unit_note
    from ..monitor.trackers import check_trackers, track
    from ..progress import Display
    from .tables import alone_table

    settings = overruled(load_config(config), columns) if config is not None else Config(rewards={})
    set_limits(settings.limits)
    trackers = tuple(dict.fromkeys((*settings.trackers, *(tracker or ()))))
    check_trackers(trackers)
    if explain is not None:
        explained(settings, reward or (), data, explain, columns, device)
        return
    chosen = chosen_rewards(settings.rewards, reward or ())
    if settings.routes:
        chosen[ROUTED] = Router(settings.routes).reward
    if not chosen:
        raise ValueError(
            "no rewards: give --reward NAME or --config FILE; `mmreward list` shows what there is"
        )
    if out is None and (settings.routes or settings.compose is not None or not is_media(data)):
        raise ValueError("no place for the scores: give --out scores.parquet (one picture alone needs none)")
    rewards = resolve(chosen)
    engine_config = settings.engine
    if device is not None:
        engine_config = EngineConfig(**{**engine_config.model_dump(), "device": device})
    recipe = settings.compose.build() if settings.compose is not None else None
    if engine_config.ray is None:
        check_device(engine_config.device)
    check_rewards(rewards)
    if out is None:
        with Engine.from_config(engine_config) as engine:
            alone = score_samples(data, rewards, engine=engine, timeout=timeout)
        typer.echo(alone_table(alone[0].scores))
        if sum(group.number for group in alone.failures) > budget * len(rewards):
            raise typer.Exit(BUDGET)
        return
    with Engine.from_config(engine_config) as engine, Display() as shown:
        shown.phase("scoring", "scores")
        summary = score_file(
            data,
            rewards,
            out,
            engine,
            recipe=recipe,
            timeout=timeout,
            retry_failed=retry_failed,
            title=data.name,
            columns=columns,
            progress=shown.scored,
        )
        counters = str(engine.stats()) if stats else ""
    typer.echo(score_table(summary.values, summary.statuses, summary.units))
    if note := unit_note(summary.units):
        typer.echo(note)
    if by_source := source_table(summary.values, summary.sources):
        typer.echo(by_source)
    stayed = f", {summary.stayed} other scores stay" if summary.stayed else ""
    typer.echo(f"{summary.rows} rows, {summary.fresh} new scores{stayed} -> {out}")
    if counters:
        typer.echo(counters)
    if summary.skipped:
        typer.echo(f"files that are no rows: {summary.skipped}")
    for line in lines(summary.failures):
        typer.echo(line, err=True)
    track(trackers, summary, data, out, columns=columns, most_failures=budget)
    if summary.failure_rate > budget:
        typer.echo(
            f"failed: {summary.failed} scores ({summary.failure_rate:.1%}), above {budget:.1%}", err=True
        )
        raise typer.Exit(BUDGET)
    typer.echo(f"next: mmreward report {quote(str(out))}")


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="What a trainer will be given: .jsonl, .parquet, a dataset.")],
    config: Annotated[Path | None, typer.Option(help="A YAML file: rewards or routes.")] = None,
    reward: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME:ARGUMENT=VALUE,...; may be given several times.")
    ] = None,
    mapped: Mapped = None,
) -> None:
    """Find targets that can never be paid, before a training, and why. Exits with 3 when there are any."""
    present(data, "no data at {}")
    columns = parse_columns(mapped or (), data)
    from ..config import Config, load_config
    from ..data.check import check_targets
    from ..data.columns import overruled
    from ..data.routing import Router
    from ..engine.engine import Engine
    from ..limits import set_limits
    from ..loading import resolve

    settings = overruled(load_config(config), columns) if config is not None else Config(rewards={})
    set_limits(settings.limits)
    chosen = chosen_rewards(settings.rewards, reward or [])
    if not chosen and not settings.routes:
        raise ValueError("no rewards: give --config FILE with rewards or routes, or --reward NAME")
    router = Router(settings.routes) if settings.routes else None
    with Engine("cpu") as engine:
        found = check_targets(
            data, engine, rewards=resolve(chosen) if chosen else {}, router=router, columns=columns
        )
    typer.echo(found.report())
    if found.unpaid or found.problems:
        raise typer.Exit(BUDGET)


@app.command(epilog=CODES)
def questions(
    data: Annotated[Path, typer.Argument(help="Rows with prompts, as `mmreward score` reads them.")],
    out: Annotated[Path, typer.Option(help="The new .jsonl file.")],
    writer: Annotated[
        str | None,
        typer.Option(help="A VLM by name, or MODEL@URL, that writes them; default: a grammar of captions."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="By the grammar: a and an ask for exactly one.")
    ] = False,
    ask_back: Annotated[
        bool, typer.Option(help="Ask the writer its questions about the prompt, and drop what fails.")
    ] = True,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto: CUDA if any.")] = "auto",
    max_failures: Annotated[str, typer.Option(help="Prompts without questions that are tolerated.")] = "5%",
    mapped: Mapped = None,
) -> None:
    """Write what each prompt asks of its picture into the rows: for checklist, probes and evidence."""
    present(data, "no data at {}")
    columns = parse_columns(mapped or (), data) or None
    budget = parse_share(max_failures)
    from .. import models
    from ..data.question_writer import write_questions
    from ..engine.devices import check_device
    from ..engine.engine import Engine

    check_device(device)
    vlm = None if writer is None else models.vlm(writer)
    with Engine(device) as engine:
        done = write_questions(data, out, engine, writer=vlm, exact=exact, ask_back=ask_back, columns=columns)
    typer.echo(str(done))
    if done.failure_rate > budget:
        raise typer.Exit(BUDGET)


@app.command()
def pairs(
    data: Annotated[Path, typer.Argument(help="What was scored: several pictures or clips per prompt.")],
    results: Annotated[
        list[Path] | None,
        typer.Argument(help="The scores: files that `mmreward score` wrote; none with --from."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of pairs it writes.")] = None,
    judges: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            help="NAME or NAME:ARGUMENT=VALUE,...: a reward that judges now, of one sample or of two; may be "
            "given several times, for --agree.",
        ),
    ] = None,
    reward: Annotated[
        str | None, typer.Option(help="By whose scores; default: the first --from, total, or the only one.")
    ] = None,
    choose: Annotated[
        Literal["best_worst", "ends", "all"], typer.Option(help="Which samples of a prompt meet.")
    ] = "best_worst",
    margin: Annotated[float, typer.Option(help="Smallest difference of scores that counts.")] = 0.0,
    per_prompt: Annotated[int | None, typer.Option(help="Pairs of one prompt at most.")] = None,
    agree: Annotated[
        list[str] | None,
        typer.Option(help="A reward that must not prefer the rejected one; may be given several times."),
    ] = None,
    confidence: Annotated[
        float, typer.Option(help="Least confidence of the judge (of votes or probabilities), 0 to 1.")
    ] = 0.0,
    swing: Annotated[
        float | None, typer.Option(help="Largest disagreement of both orders of a judge of pairs; 0: none.")
    ] = None,
    sure: Annotated[
        float, typer.Option(help="The margin is at least so many of its standard deviations.")
    ] = 0.0,
    ties: Annotated[
        bool, typer.Option("--ties", help="Equal scores make pairs too, marked as ties.")
    ] = False,
    responses: Annotated[
        bool, typer.Option("--responses", help="Compare the responses to one question, for DPO of a VLM.")
    ] = False,
    actions: Annotated[
        bool,
        typer.Option("--actions", help="Compare a robot's actions from one moment, for DPO of a policy."),
    ] = False,
    contrast: Annotated[
        list[str] | None,
        typer.Option(
            help="wrong=REWARD, inconsistent=REWARD, repetitive=REWARD: sound responses against those with "
            "each flaw (VerIPO); with --responses."
        ),
    ] = None,
    keep_solved: Annotated[
        float, typer.Option(help="Share of the prompts without a wrong response that --contrast keeps.")
    ] = 0.0,
    config: Annotated[Path | None, typer.Option(help="The YAML file of the scores, for its limits.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Of --from: cpu, cuda, ...; default: CUDA if any.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Of --from: seconds one score may take.")] = None,
    mapped: Mapped = None,
) -> None:
    """Build preference pairs from scored samples, for DPO; `datasets` and `mmreward tune` read them."""
    present(data, "no data at {}")
    if out is None:
        raise ValueError("no place for the pairs: give --out FOLDER")
    if responses and actions:
        raise ValueError("--responses and --actions are two kinds of pairs: give one")
    if not results and not judges:
        raise ValueError("no scores: give files that `mmreward score` wrote, or a judge with --from NAME")
    columns = parse_columns(mapped or (), data) or None
    from ..config import load_config
    from ..data.pair_columns import Judging
    from ..data.pairs import Rules, pair_file
    from ..limits import set_limits

    if config is not None:
        set_limits(load_config(config).limits)
    rules = Rules(
        choose=choose,
        margin=margin,
        per_prompt=per_prompt,
        ties=ties,
        confidence=confidence,
        swing=math.inf if swing is None else swing,
        sure=sure,
    )
    if contrast:
        if judges or reward is not None or agree or not responses:
            raise ValueError("--contrast names its own rewards: give it with --responses, without the others")
        from ..data.contrast import contrast_file, parse_axes

        axes = parse_axes(contrast)
        typer.echo(
            contrast_file(
                data, results or (), out, axes, rules=rules, keep_solved=keep_solved, columns=columns
            )
        )
        return
    made = partial(
        pair_file,
        data,
        results or (),
        out,
        reward=reward,
        agree=agree or (),
        rules=rules,
        columns=columns,
        halves="responses" if responses else "actions" if actions else "media",
    )
    if not judges:
        typer.echo(made())
        return
    from ..engine.engine import Engine
    from ..engine.preconditions import check_rewards
    from ..loading import resolve

    rewards = resolve(chosen_rewards({}, judges))
    check_rewards(rewards)
    with Engine(device) if device is not None else Engine() as engine:
        typer.echo(made(judge=Judging(engine, rewards, timeout)))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A results file, a log of metrics, or the folder of a run.")],
    out: Annotated[
        Path | None, typer.Option(help="The page; default: report.html in a run's folder, else NAME.html.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The data set, if it has moved.")] = None,
    limit: Annotated[int, typer.Option(help="Samples or prompts shown with their pictures.")] = 64,
    reference: Annotated[
        str | None,
        typer.Option(help="The reward that the others are compared with; default: oracle, if there is one."),
    ] = None,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Show the page in a browser instead, and follow a run that goes on."),
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Of --serve; 0: any that is free.")] = 8193,
    mapped: Mapped = None,
) -> None:
    """Write one self-contained HTML page about a run: of scores, a search, a training, or metrics."""
    if serve and out is not None:
        raise ValueError("--serve writes no page: leave --out away, or --serve")
    if (
        not serve and not run.with_name(run.name + ".parts").exists()
    ):  # an unfinished run has a message of its own
        present(run, "no results at {}; run `mmreward score` first")
    from mmreward.evals.report.report import made, write_report

    if mapped and data is None:
        raise ValueError("--map says how a data set is read: name it with --data")
    columns = parse_columns(mapped, data) if mapped and data is not None else None
    if serve:
        _followed(run, lambda: made(run, data, limit, reference, columns, so_far=True)[1], port)
    else:
        typer.echo(write_report(run, out, data, limit, reference, columns=columns))


def _followed(run: Path, make: Callable[[], str], port: int) -> None:
    """Serve the page of a run until Ctrl-C."""
    from mmreward.evals.report.serving import Live, server_of

    with server_of(Live(run, make), port) as server:
        typer.echo(f"http://127.0.0.1:{server.server_port}/ follows {run}; Ctrl-C ends it")
        server.serve_forever()


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Results files, or their folders; the first is the base.")
    ],
    reward: Annotated[
        list[str] | None, typer.Option(help="Only this reward; may be given several times.")
    ] = None,
    machine: Annotated[bool, typer.Option("--json", help="One JSON array, for programs.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also an HTML page, with what moved most side by side.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Samples on the page at each end of each reward.")] = 4,
) -> None:
    """Compare runs of scores on the samples they share: paired differences, intervals, win rates."""
    for run in runs:
        present(run, "no results at {}; run `mmreward score` first")
    from mmreward.evals.report.compare import as_json, compare_runs
    from mmreward.evals.report.comparison import write_comparison

    from .tables import comparison_table

    found = (
        compare_runs(runs, reward or ()) if out is None else write_comparison(runs, out, reward or (), limit)
    )
    typer.echo(as_json(found) if machine else comparison_table(found))
    if out is not None:
        typer.echo(out, err=machine)
