"""`mmreward search` and `mmreward refine`: from a config file to a folder, and a table of gains.

The folder has pictures/, samples.jsonl, scores.parquet and history.jsonl; `mmreward report` shows it. The
table compares, reward by reward, the chosen picture with the first picture of the same prompt. The loader of
generators is handed in, as this package knows no family of them.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, NamedTuple

from ..compose import Recipe, total_of, weights_of
from ..config import load_yaml
from ..data.inputs import Inputs
from ..data.results import TOTAL, Result, Results
from ..data.rows import read_rows
from ..data.run import about_run
from ..engine.engine import Engine
from ..files import sole_writer
from ..generator import Generator
from ..limits import set_limits
from ..loading import resolve
from ..media import Media
from ..monitor.intervals import paired_change
from ..progress import Display, loading
from ..registry import Reward
from ..rewards.judged.critique import scale_of_marks
from ..types import Sample, Score
from .config import RefineConfig, RunConfig, SearchConfig, construct, entry, read_prompts, split
from .job import Found, Job, Method, Selection
from .methods import METHODS
from .refine import Refinement, found_of, refine
from .writers import Critic, Writer, emphasise, vlm_writer

Loader = Callable[..., Generator]
"""`load(name, **options)`."""
WRITERS: Mapping[str, Callable[..., Writer | None]] = {
    "emphasise": emphasise,
    "vlm": vlm_writer,
    "none": lambda: None,
}


def search_file(path: Path, load: Loader, display: Display | None = None) -> str:
    """Run `mmreward search` and return what to print; `display` shows how far it is.

    Raises:
        ValueError: a mistake in the file, with its place; or its folder holds a run already.
    """
    config = load_yaml(path, SearchConfig)
    set_limits(config.limits)
    name, options = split(config.method)
    make = entry(name, METHODS, "method")
    of_the_job = {"steps", "guidance"} & set(inspect.signature(make).parameters)
    # The generator, which may be slow to load, knows the defaults; the user's options are checked before.
    method = construct(make, options, "method", **dict.fromkeys(of_the_job, 1))

    def run(job: Job) -> list[Found]:
        complete: Method = replace(method, **{key: getattr(job, key) for key in of_the_job})
        return complete.search(job)

    return _Search(config, name, display=display).finish(load, run)


def refine_file(path: Path, load: Loader, display: Display | None = None) -> str:
    """Run `mmreward refine` and return what to print; arguments and errors as of `search_file`."""
    config = load_yaml(path, RefineConfig)
    set_limits(config.limits)
    critics = critics_of(resolve(config.critics), config.thresholds)
    writer = writer_of(config.writer)
    fixed = {"steps": config.steps, "guidance": config.guidance, "batch": config.batch}
    settings = construct(Refinement, config.refinement, "refinement", **fixed)

    def run(job: Job) -> list[Found]:
        histories = refine(job.generator, job.samples, job.seeds, job.selection, critics, writer, settings)
        return [found_of(history) for history in histories]

    every = {name: critic.reward for name, critic in critics.items()}
    search = _Search(config, "refine", every, display)
    return search.finish(load, run)


def critics_of(rewards: Mapping[str, Reward], thresholds: Mapping[str, float]) -> dict[str, Critic]:
    """Critics with their thresholds.

    The default is the best a dimension can have: a reward's argument `high` where it has one, as `critique`
    does, else the top of its range.

    Raises:
        ValueError: a threshold for a critic that is not there, or none for one whose range has no top.
    """
    if unknown := [name for name in thresholds if name not in rewards]:
        raise ValueError(f"thresholds of {', '.join(unknown)}: the critics are {', '.join(rewards)}")
    return {name: Critic(reward, thresholds.get(name, _best_of(reward))) for name, reward in rewards.items()}


def _best_of(reward: Reward) -> float:
    """The best that a part of its scores can have."""
    if reward.info.name == "critique":
        return scale_of_marks(reward.args)[1]
    return float(reward.args.get("high", reward.info.range[1]))


def writer_of(given: str | Mapping[str, Any]) -> Writer | None:
    """The writer that a config names; None for "none".

    Raises:
        ValueError: no such writer, or options that it does not take.
    """
    name, options = split(given)
    return construct(entry(name, WRITERS, "writer"), options, "writer")


class _Search:
    """A run of either command: everything is checked before the generator is loaded."""

    def __init__(
        self,
        config: RunConfig,
        title: str,
        critics: Mapping[str, Reward] = MappingProxyType({}),
        display: Display | None = None,
    ) -> None:
        self.config, self.title, self._display = config, title, display
        self.rewards = resolve(config.rewards)
        self.held_out = resolve(config.held_out) if config.held_out else {}
        self.recipe = Recipe(weights=weights_of(self.rewards, config.weights), shaping=config.shaping)
        self.recipe.check(self.rewards)
        if self.recipe.compares:
            raise ValueError("shaping: a search scores pictures as it draws them, and cannot compare a group")
        self.prompts = read_prompts(config.prompts)
        self.every = {**critics, **self.rewards, **self.held_out}
        _check_names(self.rewards, critics, self.held_out)

    def finish(self, load: Loader, run: Callable[[Job], list[Found]]) -> str:
        """Search, write the folder, and return the text to print: gains, rows skipped, and the folder."""
        with sole_writer(new_folder(self.config.out)):
            return self._write(load, run)

    def _write(self, load: Loader, run: Callable[[Job], list[Found]]) -> str:
        config, out = self.config, self.config.out
        name, options = split(config.generator)
        with loading(name):
            generator = load(name, **options)
        with Engine.from_config(config.engine) as engine:
            job = Job(
                generator,
                self.prompts.samples,
                Selection(engine, self.rewards, self.recipe, config.timeout),
                self.held_out,
                config.seed,
                generator.steps if config.steps is None else config.steps,
                generator.guidance if config.guidance is None else config.guidance,
                config.batch,
            )
            with _counted(generator, self._display, f"{self.title}: drawing and scoring"):
                found = numbered(run(job))
            write_samples(out, found)
            if self._display is not None:
                self._display.phase("scoring by every reward")
            columns = write_scores(out, found, self.every, job.selection, self.title)
        write_history(out, found, self.prompts.problems)
        table = gain_table(found, columns, self.title)
        skipped = [f"skipped {row}: {problem}" for row, problem in self.prompts.problems.items()]
        return "\n".join(
            [table, *curve_lines(found), *skipped, f"pictures, samples, scores and history -> {out}"]
        )


@contextmanager
def _counted(generator: Generator, display: Display | None, name: str) -> Iterator[None]:
    """Block in which a display counts the rows that go through the generator's network."""
    if display is None:
        yield
        return
    shown, rows = display, 0

    def count(module: Any, given: Any, named: Mapping[str, Any], made: Any) -> None:
        nonlocal rows
        first = next((one for one in (*given, *named.values()) if hasattr(one, "shape")), None)
        rows += len(first) if first is not None and len(first.shape) else 1
        shown.update(rows)

    display.phase(name, "passes of the network")
    hook = generator.network.register_forward_hook(count, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _check_names(
    rewards: Mapping[str, Reward], critics: Mapping[str, Reward], held_out: Mapping[str, Reward]
) -> None:
    """A held-out reward must have no say, under whatever name; a name must mean one reward."""
    deciding = [*rewards.items(), *critics.items()]
    for name, reward in held_out.items():
        if any(name == other or reward.fingerprint == one.fingerprint for other, one in deciding):
            raise ValueError(
                f"held_out {name} has a say in the search: hold out another reward, or name it so"
            )
    for name in rewards.keys() & critics.keys():
        if rewards[name].fingerprint != critics[name].fingerprint:
            raise ValueError(f"{name} is a reward and a critic with other arguments; give one another name")
    if TOTAL in {name for name, _ in deciding} | set(held_out):
        raise ValueError(f"{TOTAL!r} is the name of the weighted sum; give the reward another name")


# --- folder of a run ----------------------------------------------------------------------------------------


def new_folder(out: Path) -> Path:
    """Make the folder of a run; whoever writes to it holds its lock (see `files.sole_writer`).

    Raises:
        ValueError: it holds a run already.
    """
    if (out / "samples.jsonl").exists():
        raise ValueError(f"{out} holds a run already: give another folder, or remove it")
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    return out


def numbered(found: Sequence[Found]) -> list[Found]:
    """Results with an id for every shot: its prompt's, and its number."""
    return [
        replace(one, shots=[replace(shot, id=f"{shot.group}-{i:03d}") for i, shot in enumerate(one.shots)])
        for one in found
    ]


def write_samples(out: Path, found: Sequence[Found]) -> None:
    """Write the pictures, and a row for each with all that its rewards need."""
    lines = []
    for prompt, one in enumerate(found):
        for number, (shot, facts) in enumerate(zip(one.shots, one.facts, strict=True)):
            row = _row(out, shot, f"{prompt:05d}-{number:03d}")
            row |= {**facts, "chosen": number == one.best}
            lines.append(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    (out / "samples.jsonl").write_text("".join(lines), encoding="utf-8")


def write_scores(
    out: Path, found: Sequence[Found], rewards: Mapping[str, Reward], selection: Selection, title: str
) -> dict[str, list[Score]]:
    """Score every shot and write scores.parquet, with the weighted sum as "total".

    Pictures that the search has scored already come out of the engine's cache.
    """
    shots = [shot for one in found for shot in one.shots]
    columns = selection.engine.score(shots, rewards, timeout=selection.timeout)
    selected = {name: columns[name] for name in selection.rewards}
    columns[TOTAL] = total_of(selected, selection.recipe, shots)
    path = out / "scores.parquet"
    results = Results(path, about_run(out / "samples.jsonl", rewards, path, title))
    prints = {name: reward.fingerprint for name, reward in rewards.items()}
    prints[TOTAL] = ",".join(prints[name] for name in selection.rewards)
    inputs = Inputs(read_rows(out / "samples.jsonl"))
    for name, column in columns.items():
        for shot, score in zip(shots, column, strict=True):
            digests = inputs.quick(shot.id), inputs.content(shot.id)
            results.add(Result.of(shot.id, name, score, prints[name], *digests))
    results.finish((shot.id, name) for shot in shots for name in columns)
    return columns


def write_history(out: Path, found: Sequence[Found], problems: Mapping[str, str]) -> None:
    """Write a line per prompt; rows of the data without one have a line with the problem."""
    records = [
        {
            "id": one.shots[0].group,
            "prompt": one.shots[0].prompt,
            "forwards": one.forwards,
            "best": None if one.best is None else one.shots[one.best].id,
            **one.history,
        }
        for one in found
    ]
    records += [{"id": name, "problem": problem} for name, problem in problems.items()]
    lines = "".join(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records)
    (out / "history.jsonl").write_text(lines, encoding="utf-8")


def _row(out: Path, shot: Sample, stem: str) -> dict[str, Any]:
    row: dict[str, Any] = {"id": shot.id, "prompt": shot.prompt, "group": shot.group}
    for name in ("image", "video"):
        if (media := getattr(shot, name)) is not None:
            row[name] = _saved(out, media, stem)
    if shot.inputs:
        row["inputs"] = [_saved(out, media, f"{stem}-input{i}") for i, media in enumerate(shot.inputs)]
    for name in ("response", "target", "source"):
        if value := getattr(shot, name):
            row[name] = value
    return {**row, "meta": dict(shot.meta)}


def _saved(out: Path, media: Media, stem: str) -> str:
    """Path of the media relative to samples.jsonl; media from a file stay where they are."""
    if isinstance(media.source, Path):
        return str(media.source.resolve())
    data, suffix = media.lossless()
    place = Path("pictures") / f"{stem}{suffix}"
    (out / place).write_bytes(data)
    return place.as_posix()


# --- gains --------------------------------------------------------------------------------------------------


class Gain(NamedTuple):
    """Means over the prompts whose two scores both worked, and the mean difference."""

    first: float
    best: float
    margin: float
    """Half the width of the difference's 95 % interval (Student's t over prompts); NaN below two prompts."""
    number: int

    @property
    def difference(self) -> float:
        return self.best - self.first


def gain_of(first: Sequence[Score], best: Sequence[Score]) -> Gain | None:
    """Paired gain; None when no pair worked. Failed scores are left out, with their partner."""
    pairs = [(a.value, b.value) for a, b in zip(first, best, strict=True) if a.ok and b.ok]
    if not pairs:
        return None
    before, after = [a for a, _ in pairs], [b for _, b in pairs]
    return Gain(fmean(before), fmean(after), paired_change(before, after).margin, len(pairs))


def gain_table(found: Sequence[Found], columns: Mapping[str, Sequence[Score]], title: str) -> str:
    """Table of gains in plain text: a line per reward, `columns` being the scores of all shots in order."""
    firsts, bests, position = [], [], 0
    for one in found:
        if one.best is not None:
            firsts.append(position)
            bests.append(position + one.best)
        position += len(one.shots)
    cost = fmean(one.forwards for one in found)
    lines = [
        f"{title}: {len(found)} prompts, {position} pictures, {cost:.0f} forward passes per prompt",
        f"{'reward':<20} {'first':>8} {'chosen':>8} {'gain':>8}  95 % interval     prompts",
    ]
    for name, column in columns.items():
        gain = gain_of([column[index] for index in firsts], [column[index] for index in bests])
        if gain is None:
            lines.append(f"{name:<20} {'-':>8} {'-':>8} {'-':>8}  {'-':<16}  0 of {len(found)}")
            continue
        low, high = gain.difference - gain.margin, gain.difference + gain.margin
        interval = f"[{low:+.3f}, {high:+.3f}]" if gain.number > 1 else "-"
        lines.append(
            f"{name:<20} {gain.first:8.3f} {gain.best:8.3f} {gain.difference:+8.3f}  {interval:<16}  "
            f"{gain.number} of {len(found)}"
        )
    return "\n".join(lines)


def curve_lines(found: Sequence[Found]) -> list[str]:
    """Mean of `expected_max` over the prompts whose pictures all have a total, and the bound on the KL.

    A line for best-of-n with two pictures or more; none for other methods.
    """
    curves = [one.history["expected_max"] for one in found if "expected_max" in one.history]
    n = len(found[0].shots)
    whole = [curve for curve in curves if len(curve) == n]
    if n < 2 or not whole:
        return []
    sizes = sorted({2**power for power in range(n.bit_length())} | {n})
    means = ", ".join(f"{fmean(curve[k - 1] for curve in whole):.3f}" for k in sizes)
    numbers, bound = ", ".join(map(str, sizes)), found[0].history["kl_bound"]
    return [
        f"expected best total of {numbers} pictures: {means} ({len(whole)} of {len(found)} prompts); "
        f"KL from the generator at most {bound:.3f} nats"
    ]
