"""The command line: list, show, score, serve, pairs, fit, tune, search, refine; the others come from packages
that build on this.

Only what a command needs is imported, so `mmreward list` answers at once.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .arguments import Bar, chosen_rewards, parse_share, present
from .exits import BUDGET, CODES, run

app = typer.Typer(
    help="Rewards for images, video and vision-language output.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
    from .registry import list_rewards

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

    from .registry import find

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


@app.command(epilog=CODES)
def score(
    data: Annotated[Path, typer.Argument(help="A folder of pictures, .jsonl, .parquet, or a saved dataset.")],
    out: Annotated[Path, typer.Option(help="Where the scores go: .parquet or .jsonl.")],
    reward: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME or NAME:ARGUMENT=VALUE,...; may be given several times; YOURS=NAME:... renames it."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file: rewards or routes, compose, engine.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: CUDA if any.")] = None,
    max_failures: Annotated[str, typer.Option(help="Failed scores that are tolerated: 5% or 0.05.")] = "5%",
    timeout: Annotated[float | None, typer.Option(help="Seconds one score may take.")] = None,
    retry_failed: Annotated[bool, typer.Option(help="Compute failed scores again.")] = False,
) -> None:
    """Score a data set; run it again to go on where it stopped. Scores of other data in the file stay."""
    present(data, "no data at {}")
    from .config import Config, EngineConfig, load_config
    from .data.failures import lines
    from .data.preconditions import check_rewards
    from .data.routing import NAME as ROUTED
    from .data.routing import Router
    from .data.run import score_file
    from .engine.devices import check_device
    from .engine.engine import Engine
    from .loading import resolve

    settings = load_config(config) if config is not None else Config(rewards={})
    chosen = chosen_rewards(settings.rewards, reward or ())
    if settings.routes:
        chosen[ROUTED] = Router(settings.routes).reward
    if not chosen:
        raise ValueError(
            "no rewards: give --reward NAME or --config FILE; `mmreward list` shows what there is"
        )
    budget = parse_share(max_failures)
    rewards = resolve(chosen)
    engine_config = settings.engine
    if device is not None:
        engine_config = EngineConfig(**{**engine_config.model_dump(), "device": device})
    recipe = settings.compose.build() if settings.compose is not None else None
    if engine_config.ray is None:
        check_device(engine_config.device)
    check_rewards(rewards)
    with Engine.from_config(engine_config) as engine, Bar() as bar:
        summary = score_file(
            data,
            rewards,
            out,
            engine,
            recipe=recipe,
            timeout=timeout,
            retry_failed=retry_failed,
            title=data.name,
            progress=bar.update,
        )
    for name, counts in summary.statuses.items():
        typer.echo(f"{name:<20}" + "  ".join(f"{status} {n}" for status, n in sorted(counts.items())))
    stayed = f", {summary.stayed} other scores stay" if summary.stayed else ""
    typer.echo(f"{summary.rows} rows, {summary.fresh} new scores{stayed} -> {out}")
    if summary.skipped:
        typer.echo(f"files that are no rows: {summary.skipped}")
    for line in lines(summary.failures):
        typer.echo(line, err=True)
    if summary.failure_rate > budget:
        typer.echo(
            f"failed: {summary.failed} scores ({summary.failure_rate:.1%}), above {budget:.1%}", err=True
        )
        raise typer.Exit(BUDGET)


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="What a trainer will be given: .jsonl, .parquet, a dataset.")],
    config: Annotated[Path | None, typer.Option(help="A YAML file: rewards or routes.")] = None,
    reward: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME:ARGUMENT=VALUE,...; may be given several times.")
    ] = None,
) -> None:
    """Find targets that can never be paid, before a training, and why. Exits with 3 when there are any."""
    from .config import Config, load_config
    from .data.check import check_targets
    from .data.routing import Router
    from .engine.engine import Engine
    from .loading import resolve

    settings = load_config(config) if config is not None else Config(rewards={})
    chosen = chosen_rewards(settings.rewards, reward or [])
    if not chosen and not settings.routes:
        raise ValueError("no rewards: give --config FILE with rewards or routes, or --reward NAME")
    router = Router(settings.routes) if settings.routes else None
    with Engine("cpu") as engine:
        found = check_targets(data, engine, rewards=resolve(chosen) if chosen else {}, router=router)
    typer.echo(found.report())
    if found.unpaid or found.problems:
        raise typer.Exit(BUDGET)


@app.command()
def serve(
    routes: Annotated[Path, typer.Argument(help="A YAML file: rewards or routes, compose, engine.")],
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines ask.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 8192,
    workers: Annotated[int, typer.Option(min=1, help="Processes; each has its own engine.")] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds one score may take.")] = 60.0,
    failed: Annotated[
        float | None,
        typer.Option(help="What /get_reward pays a failed score; default: it answers 503."),
    ] = None,
    key_env: Annotated[
        str, typer.Option(help="Environment variable with the key that clients must send.")
    ] = "",
) -> None:
    """Answer a trainer's questions over HTTP: V-Triune's /judge and OpenRLHF's /get_reward."""
    try:
        from .server.app import serve as run
    except ModuleNotFoundError as error:
        raise ValueError(f'{error.name} is not installed: pip install "mmreward[server]"') from None
    typer.echo(f"http://{host}:{port}/judge and /get_reward", err=True)
    more = {"key_env": key_env} if key_env else {}
    run(routes, host, port, workers, timeout, failed, **more)


@app.command()
def pairs(
    data: Annotated[Path, typer.Argument(help="What was scored: several pictures or clips per prompt.")],
    results: Annotated[list[Path], typer.Argument(help="The scores: files that `mmreward score` wrote.")],
    out: Annotated[Path, typer.Option(help="The folder of pairs it writes.")],
    reward: Annotated[
        str | None, typer.Option(help="By whose scores; default: total, or the only reward.")
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
) -> None:
    """Build preference pairs from scored samples, for DPO; `datasets` and `mmreward tune` read them."""
    present(data, "no data at {}")
    from .data.pairs import Rules, pair_file

    rules = Rules(choose=choose, margin=margin, per_prompt=per_prompt)
    typer.echo(pair_file(data, results, out, reward=reward, agree=agree or (), rules=rules))


@app.command()
def tune(
    config: Annotated[Path, typer.Argument(help="A YAML file, or a recipe such as tune/mini-grpo.")],
    dry_run: Annotated[bool, typer.Option(help="Print the plan and stop.")] = False,
    out: Annotated[str | None, typer.Option(help="Another folder for the run than the config's.")] = None,
) -> None:
    """Train a generator on rewards; run it again to go on where it stopped."""
    from .config import config_at

    config = config_at(config)
    from .tune.config import load_tune_config
    from .tune.plan import plan
    from .tune.trainer import tune as train

    described = load_tune_config(config)
    if out is not None:
        described = described.model_copy(update={"out": out})
    from mmreward.generators.loading import footprint, load

    if dry_run:
        typer.echo(plan(described, footprint))
    else:
        train(described, load, typer.echo)


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
    from .engine.devices import check_device
    from .engine.engine import Engine
    from .tune.fit import fit_file

    check_device(device)
    with Engine(device) as engine:
        typer.echo(fit_file(kind, data, weights, out, engine, steps=steps, seed=seed, push=push))


@app.command()
def search(
    config: Annotated[Path, typer.Argument(help="A YAML file, or a recipe such as search/mini-bon.")],
) -> None:
    """Find better pictures without training: best-of-n, noise optimisation, ... Writes a folder."""
    from .config import config_at

    config = config_at(config)
    from mmreward.generators.loading import load

    from .search.run import search_file

    typer.echo(search_file(config, load))


@app.command()
def refine(
    config: Annotated[Path, typer.Argument(help="A YAML file, or a recipe such as search/mini-refine.")],
) -> None:
    """Draw, let a critic say what is wrong, revise the prompt and draw again. Writes a folder."""
    from .config import config_at

    config = config_at(config)
    from mmreward.generators.loading import load

    from .search.run import refine_file

    typer.echo(refine_file(config, load))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder it writes.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Of the pictures.")] = 0,
    rounds: Annotated[
        int, typer.Option(min=0, help="Of the training that follows, about 5 seconds each; 0: none.")
    ] = 24,
) -> None:
    """Generate pictures, grade them with six kinds of reward and an oracle, train on one, and write pages."""
    from mmreward.evals.demo import demo as run

    run(out, seed, rounds)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A results file, a log of metrics, or the folder of a run.")],
    out: Annotated[
        Path | None, typer.Option(help="The page; default: report.html in a run's folder, else NAME.html.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The data set, if it has moved.")] = None,
    limit: Annotated[int, typer.Option(help="Samples or prompts shown with their pictures.")] = 64,
) -> None:
    """Write one self-contained HTML page about a run: of scores, a search, a training, or metrics."""
    if not run.with_name(run.name + ".parts").exists():  # an unfinished run has a message of its own
        present(run, "no results at {}; run `mmreward score` first")
    from mmreward.evals.report.report import write_report

    typer.echo(write_report(run, out, data, limit))


@app.command()
def bench(
    scale: Annotated[str, typer.Option(help="small for a CPU, large for a GPU, toy for a test.")] = "small",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto: CUDA if any.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    only: Annotated[
        list[str] | None,
        typer.Option(help="How the names of the workloads to run begin; may be given several times."),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Timed rounds.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Where all that was measured goes, as JSON.")] = None,
    markdown: Annotated[bool, typer.Option(help="Print markdown instead of a table.")] = False,
) -> None:
    """Time the engine beside a loop, fixed batches and the bare forward. Exits with 1 when values differ."""
    from mmreward.evals.speed.speed import bench as run

    if not run(scale, device, dtype, only or (), repeats, out, markdown):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; see `exits` for the codes it ends with."""
    run(app)


if __name__ == "__main__":
    main()
