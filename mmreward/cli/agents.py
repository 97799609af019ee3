"""Commands for agents: `lerobot` writes scores into recordings, `gui record` makes grounding sets, `design`
lets a language model write reward code, `credit` credits the steps of trajectories."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .arguments import parse_columns, parse_share, present
from .exits import BUDGET, CODES
from .scoring import Mapped

gui = typer.Typer(help="Pages in a real browser, for GUI agents.", no_args_is_help=True)
app.add_typer(gui, name="gui")


@gui.callback()
def options() -> None:
    """Keeps `record` a command of its own name."""


@gui.command(epilog=CODES)
def record(
    url: Annotated[str, typer.Argument(help="http://..., https://... or a file of HTML.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    width: Annotated[int, typer.Option(min=100, max=8000, help="Of the screen, in pixels.")] = 1280,
    height: Annotated[int, typer.Option(min=100, max=8000, help="Of the screen, in pixels.")] = 800,
    pages: Annotated[int, typer.Option(min=1, help="Of the site, along its links.")] = 1,
    screens: Annotated[int, typer.Option(min=1, help="Of each page, from its top down.")] = 1,
) -> None:
    """Make a grounding set of a site: screenshots, and the boxes and names of what can be clicked.

    It is in ScreenSpot's form, so `mmreward benchmark screenspot PREDICTIONS --data OUT` measures on it.
    Needs a Chromium or Chrome on the PATH, or named in MMREWARD_CHROMIUM.
    """
    from mmreward.evals.browsing.browser import Browser, page_address
    from mmreward.evals.browsing.recording import record as recorded

    address = page_address(url)
    with Browser(width, height) as browser:
        found = recorded(browser, address, out, pages=pages, screens=screens)
    for page, reason in found.failed.items():
        typer.echo(f"not recorded: {page}: {reason}", err=True)
    lost = f", {found.ambiguous} left out that share their name with another" if found.ambiguous else ""
    typer.echo(f"{found.rows} elements on {found.screens} screens{lost} -> {found.labels}")


@app.command()
def lerobot(
    data: Annotated[Path, typer.Argument(help="A LeRobot dataset (v3.0), which is left as it is.")],
    scores: Annotated[Path, typer.Argument(help="Scores of its episodes, as `mmreward score` wrote them.")],
    out: Annotated[Path, typer.Option(help="The folder of the copy; nothing may be there.")],
    reward: Annotated[str, typer.Option(help="Whose scores; default: the only one that is there.")] = "",
    column: Annotated[str, typer.Option(help="Name of the column; default: reward.NAME.")] = "",
    kind: Annotated[
        str,
        typer.Option(
            "--as",
            help="curve: the value at each frame; gain: what the next one is above it; "
            "weight: of behaviour cloning by the progress after it (RA-BC).",
        ),
    ] = "curve",
    chunk: Annotated[int, typer.Option(help="Of weight: frames ahead over which progress is.")] = 50,
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
        raise ValueError(f"--as {kind!r}: {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    written = write_back(
        data,
        results,
        reward or names[0],
        out,
        column=column,
        kind=kind,
        chunk=chunk,
        replace=replace,
        link=link,
    )
    missing = f", {written.missing} without a score are NaN" if written.missing else ""
    typer.echo(f"{out}: {written.scored} episodes with {reward or names[0]}{missing}")


@app.command(epilog=CODES)
def design(
    data: Annotated[Path, typer.Argument(help="Episodes with steps and labels of success.")],
    model: Annotated[str, typer.Option(help="The language model that writes: a VLM by name, or MODEL@URL.")],
    out: Annotated[Path, typer.Option(help="The new .py file.")],
    task: Annotated[str, typer.Option(help="In words; default: the prompt of the episodes.")] = "",
    label: Annotated[
        str, typer.Option(help="Key of meta, or target: true for success, or a number.")
    ] = "success",
    right: Annotated[float, typer.Option(help="Numbers from here up are success.")] = 0.5,
    rounds: Annotated[int, typer.Option(help="Drafts at most.")] = 4,
    critic: Annotated[bool, typer.Option(help="Ask the model to review each draft.")] = True,
    temperature: Annotated[float, typer.Option(help="Of the model.")] = 0.7,
    side: Annotated[
        int, typer.Option(help="Pixels of a side of the pictures that the code sees; 0: none.")
    ] = 0,
    seconds: Annotated[float, typer.Option(help="That the code may take for an episode.")] = 2.0,
    seed: Annotated[int, typer.Option(help="Of the model, and of which half is held out.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto: CUDA if any.")] = "auto",
    mapped: Mapped = None,
) -> None:
    """Let a language model write, review and improve reward code, and keep the draft that tells success from
    failure best.

    The file is read by the reward `code`. Nothing runs it before you name it; drafts run without imports,
    files or network.
    """
    present(data, "no data at {}")
    columns = parse_columns(mapped or (), data) or None
    from .. import models
    from ..engine.devices import check_device
    from ..engine.engine import Engine
    from ..tune.design import Designing
    from ..tune.design import design as designed

    how = Designing(
        rounds=rounds, label=label, right=right, critic=critic, temperature=temperature, side=side,
        seconds=seconds, seed=seed,
    )  # fmt: skip
    check_device(device)
    writer = models.vlm(model)
    with Engine(device) as engine:
        typer.echo(designed(data, out, engine, writer, task, how, columns=columns))


@app.command(epilog=CODES)
def credit(
    data: Annotated[Path, typer.Argument(help="Trajectories: rows with steps.")],
    by: Annotated[
        str, typer.Option(help="salt or oprl, of outcomes in groups; clip, delta or pure, of marks of steps.")
    ],
    out: Annotated[Path, typer.Option(help="The new .jsonl or .parquet file, a row for each trajectory.")],
    scores: Annotated[
        Path | None,
        typer.Option(help="From `mmreward score`: outcomes, and marks by frame; default: the rows' own."),
    ] = None,
    reward: Annotated[str, typer.Option(help="Whose scores; default: the only one that is there.")] = "",
    outcome: Annotated[str, typer.Option(help="Key of meta, or target, of the rows' outcomes.")] = "target",
    marks: Annotated[str, typer.Option(help="Key of a step that holds its mark.")] = "reward",
    advantage: Annotated[
        str, typer.Option(help="Of an outcome in its group: grpo, mean (less the mean alone), or none.")
    ] = "grpo",
    same: Annotated[str, typer.Option(help="Of salt: keys by which steps are equal.")] = "observation,action",
    history: Annotated[
        int | None, typer.Option(help="Of salt: equal steps before it; default: all from the first on.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Of clip; default: four fifths of the marks lie below.")
    ] = None,
    answered: Annotated[bool, typer.Option("--answered", help="Of delta: the last step answers.")] = False,
    temperature: Annotated[float, typer.Option(help="Of pure.")] = 0.1,
    beta: Annotated[float, typer.Option(help="Of oprl, as in the training on preferences.")] = 0.05,
    weight: Annotated[float, typer.Option(help="Of oprl: of the steps beside the outcome.")] = 1.0,
    max_failures: Annotated[str, typer.Option(help="Trajectories that may be without credit.")] = "50%",
    mapped: Mapped = None,
) -> None:
    """Credit each step of finished trajectories: an advantage or reward per step, in a file beside them."""
    present(data, "no data at {}")
    if scores is not None:
        present(scores, "no scores at {}")
    columns = parse_columns(mapped or (), data) or None
    budget = parse_share(max_failures)
    from ..data.credit import Crediting, credit_file

    how = Crediting(
        by=by, outcome=outcome, marks=marks, advantage=advantage, same=tuple(same.split(",")),  # type: ignore[arg-type]
        history=history, threshold=threshold, answered=answered, temperature=temperature, beta=beta,
        weight=weight,
    )  # fmt: skip
    found = credit_file(data, out, how, scores=scores, reward=reward, columns=columns)
    typer.echo(str(found))
    if found.failure_rate > budget:
        raise typer.Exit(BUDGET)
