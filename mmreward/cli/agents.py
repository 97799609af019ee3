"""Commands for agents: `lerobot` writes scores into recordings, `design` lets a language model write reward
code, `credit` credits the steps of trajectories; `gui` makes grounding sets of pages, lets an agent do tasks,
takes the best of k candidates of a step, and makes pairs of corrections."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from .app import app
from .arguments import chosen_rewards, parse_columns, parse_share, present
from .exits import BUDGET, CODES
from .scoring import Mapped

gui = typer.Typer(help="For GUI agents: pages in a real browser, and the best of k.", no_args_is_help=True)
app.add_typer(gui, name="gui")


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


@gui.command(epilog=CODES)
def run(
    tasks: Annotated[Path, typer.Argument(help="A JSON list of tasks in WebArena's form.")],
    agent: Annotated[
        str, typer.Option(help="MODULE:NAME of a callable, or http://..., which is sent JSON for each step.")
    ],
    out: Annotated[Path, typer.Option(help="A new folder, for trajectories.jsonl and the screenshots.")],
    site: Annotated[
        str, typer.Option(help="What __SITE__ stands for: an address, or a folder; default: that of TASKS.")
    ] = "",
    space: Annotated[
        str, typer.Option(help="Of the agent's coordinates: pixel, norm_1000, qwen2.5-vl, ...")
    ] = "pixel",
    best_of: Annotated[
        int, typer.Option(min=1, help="Candidates for each step, of which --from takes one.")
    ] = 1,
    judge: Annotated[
        str, typer.Option("--from", help="NAME or NAME:ARGUMENT=VALUE,...: the judge of candidates.")
    ] = "",
    width: Annotated[int, typer.Option(min=100, max=8000, help="Of the screen, in pixels.")] = 1280,
    height: Annotated[int, typer.Option(min=100, max=8000, help="Of the screen, in pixels.")] = 800,
    max_steps: Annotated[int, typer.Option(min=1, help="After which a task ends.")] = 15,
    timeout: Annotated[
        float, typer.Option(help="Seconds within which a server, or a score, is there.")
    ] = 120.0,
    device: Annotated[
        str | None, typer.Option(help="Of --from: cpu, cuda, ...; default: CUDA if any.")
    ] = None,
) -> None:
    """Let an agent do tasks in a real browser; what the pages say in the end decides.

    Success is that all checks hold, that the agent said it is done, and that they did not hold before. The
    rows of trajectories.jsonl are what judges of trajectories score, as in `mmreward score
    OUT/trajectories.jsonl --reward agent_judge:tree=axtree`. Needs a Chromium or Chrome on the PATH, or named
    in MMREWARD_CHROMIUM.
    """
    present(tasks, "no tasks at {}")
    if (best_of > 1) != bool(judge):
        raise ValueError("the best of k needs both: --best-of K, and the judge of the k with --from")
    from ..evals.browsing.agents import agent_of
    from ..evals.browsing.browser import Browser
    from ..evals.browsing.running import run_tasks
    from ..evals.browsing.sites import served

    acting = agent_of(agent, timeout=timeout)
    with (
        served(site or tasks.parent) as address,
        _best_of(acting, best_of, judge, device, timeout) as chosen,
        Browser(width, height) as browser,
    ):
        outcomes = run_tasks(
            browser, tasks, address, chosen, out, space=space, max_steps=max_steps,
            told=lambda line: typer.echo(line, err=True),
        )  # fmt: skip
    succeeded = sum(one.success for one in outcomes)
    troubled = sum(bool(one.trouble) for one in outcomes)
    said = f", {troubled} in which the agent gave no words" if troubled else ""
    typer.echo(f"{succeeded} of {len(outcomes)} tasks succeeded{said} -> {out / 'trajectories.jsonl'}")


@contextmanager
def _best_of(agent: Any, count: int, judge: str, device: str | None, timeout: float) -> Iterator[Any]:
    """The agent, or of several candidates the one that a judge ranks first."""
    if not judge:
        yield agent
        return
    from ..engine.engine import Engine
    from ..engine.preconditions import check_rewards
    from ..evals.browsing.agents import BestOf
    from ..loading import resolve

    rewards = resolve(chosen_rewards({}, [judge]))
    check_rewards(rewards)
    (reward,) = rewards.values()
    with Engine(device) if device is not None else Engine() as engine:
        yield BestOf(agent, count, reward, engine, timeout)


@gui.command(epilog=CODES)
def choose(
    data: Annotated[Path, typer.Argument(help="Rows of candidates: prompt, steps, response, group, ...")],
    judge: Annotated[
        str, typer.Option("--from", help="NAME or NAME:ARGUMENT=VALUE,...: a reward of one sample or of two.")
    ],
    out: Annotated[Path, typer.Option(help="A JSONL file with a line for each step.")],
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: CUDA if any.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds one score may take.")] = None,
    mapped: Mapped = None,
) -> None:
    """Take the best of the candidates for each step, by any reward: a judge of steps, or a rule.

    Candidates are of one step where group, goal, screens and history are the same. A judge of pairs compares
    every two in both orders. A line has the row's id, its response, the margin to the next, and whether the
    two were equal; a step of which nothing could be judged has no id.
    """
    present(data, "no data at {}")
    from ..data.choosing import choose_file
    from ..data.pair_columns import Judging
    from ..engine.engine import Engine
    from ..engine.preconditions import check_rewards
    from ..loading import resolve

    rewards = resolve(chosen_rewards({}, [judge]))
    check_rewards(rewards)
    with Engine(device) if device is not None else Engine() as engine:
        found = choose_file(
            data, out, Judging(engine, rewards, timeout), parse_columns(mapped or (), data) or None
        )
    without = sum(not one.id for one in found)
    tied = sum(one.tied for one in found)
    said = [f"{without} of which nothing could be judged"] * bool(without) + [f"{tied} tied"] * bool(tied)
    typer.echo(f"{', '.join([f'{len(found)} steps', *said])} -> {out}")


@gui.command(epilog=CODES)
def correct(
    data: Annotated[Path, typer.Argument(help="Rows of proposed actions: prompt, steps, image, response.")],
    out: Annotated[Path, typer.Option(help="The folder of pairs it writes.")],
    judge: Annotated[
        str, typer.Option("--from", help="NAME or NAME:ARGUMENT=VALUE,...: a reward that corrects.")
    ] = "magicgui",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: CUDA if any.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds one score may take.")] = None,
    mapped: Mapped = None,
) -> None:
    """Pairs for DPO of a judge's corrections against the actions that were proposed, where it marks its own
    higher; in the form of `mmreward pairs --responses`.
    """
    present(data, "no data at {}")
    from ..data.correcting import correct_file
    from ..engine.engine import Engine
    from ..engine.preconditions import check_rewards
    from ..loading import resolve

    rewards = resolve(chosen_rewards({}, [judge]))
    check_rewards(rewards)
    (reward,) = rewards.values()
    columns = parse_columns(mapped or (), data) or None
    with Engine(device) if device is not None else Engine() as engine:
        found = correct_file(data, out, reward, engine, timeout=timeout, columns=columns)
    failed = f", {found.failed} could not be judged" if found.failed else ""
    typer.echo(f"{found.pairs} of {found.rows} actions corrected, {found.kept} kept{failed} -> {out}")


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
