"""Commands that serve, show and time: serve, demo, bench."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .app import app


@app.command()
def serve(
    routes: Annotated[Path, typer.Argument(help="A YAML file: rewards or routes, compose, engine, limits.")],
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
        from ..server.app import serve as run
    except ModuleNotFoundError as error:
        raise ValueError(f'{error.name} is not installed: pip install "mmreward[server]"') from None
    more: dict[str, Any] = {"key_env": key_env} if key_env else {}
    run(routes, host, port, workers, timeout, failed, **more)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder it writes.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Of the pictures.")] = 0,
    rounds: Annotated[
        int, typer.Option(min=0, help="Of the training that follows, about 5 seconds each; 0: none.")
    ] = 24,
    stats: Annotated[bool, typer.Option("--stats", help="Print the engine's counters too.")] = False,
) -> None:
    """Generate pictures, grade them with six kinds of reward and an oracle, train on one, and write pages."""
    from mmreward.evals.demo import demo as run

    run(out, seed, rounds, stats=stats)


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
    against: Annotated[
        list[str] | None,
        typer.Option(help="Rivals: loop, batches or bare; may be given several times. All by default."),
    ] = None,
    pictures: Annotated[
        int | None, typer.Option(help="Of a judge's round, in place of the scale's.", show_default=False)
    ] = None,
    words: Annotated[
        int | None, typer.Option(help="Of a critique, in place of the scale's.", show_default=False)
    ] = None,
) -> None:
    """Time the engine beside a loop, fixed batches and the bare forward. Exits with 1 when values differ."""
    from mmreward.evals.speed.speed import bench as run

    if not run(scale, device, dtype, only or (), repeats, out, markdown, against or (), pictures, words):
        raise typer.Exit(1)
