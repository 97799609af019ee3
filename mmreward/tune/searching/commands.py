"""`mmreward search` and `mmreward refine`: from a config file to a folder, and a table of what was gained.

The loader of generators is handed in, as this package knows no family of them.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...assembly import engine_of
from ...compose import Recipe, weights_of
from ...config import load_yaml
from ...loading import resolve
from ...registry import Reward
from ...run import TOTAL
from ..generator import Generator
from ..refine.critics import Critic
from ..refine.loop import Refinement, refine
from ..refine.writers import Writer, emphasise, vlm_writer
from ..selection import Selection
from .gains import gain_table
from .job import Found, Job
from .methods import METHODS
from .options import called, picked, split
from .record import fresh, numbered, write_history, write_samples, write_scores
from .refined import found_of
from .settings import RefineConfig, RunConfig, SearchConfig, read_prompts

Loader = Callable[..., Generator]
"""`load(name, **options)`."""
WRITERS: Mapping[str, Callable[..., Writer | None]] = {
    "emphasise": emphasise,
    "vlm": vlm_writer,
    "none": lambda: None,
}


def search_file(path: Path, load: Loader) -> str:
    """Run `mmreward search` and return what to print.

    Raises:
        ValueError: a mistake in the file, with its place; or its folder holds a run already.
    """
    config = load_yaml(path, SearchConfig)
    name, options = split(config.method)
    method = picked(name, METHODS, "method")
    taken = {"steps", "guidance"} & set(inspect.signature(method.settings).parameters)
    # The generator, which may be slow to load, knows the defaults; the user's options are checked before.
    settings = called(method.settings, options, "method", **dict.fromkeys(taken, 1))

    def run(job: Job) -> list[Found]:
        return method.run(job, replace(settings, **{key: getattr(job, key) for key in taken}))

    return _Search(config, name).finish(load, run)


def refine_file(path: Path, load: Loader) -> str:
    """Run `mmreward refine` and return what to print; raises as `search_file`."""
    config = load_yaml(path, RefineConfig)
    critics = critics_of(resolve(config.critics), config.thresholds)
    writer = writer_of(config.writer)
    fixed = {"steps": config.steps, "guidance": config.guidance, "batch": config.batch}
    settings = called(Refinement, config.refinement, "refinement", **fixed)

    def run(job: Job) -> list[Found]:
        histories = refine(job.generator, job.samples, job.seeds, job.selection, critics, writer, settings)
        return [found_of(history) for history in histories]

    search = _Search(config, "refine", {name: critic.reward for name, critic in critics.items()})
    return search.finish(load, run)


def critics_of(rewards: Mapping[str, Reward], thresholds: Mapping[str, float]) -> dict[str, Critic]:
    """Critics that complain below their thresholds.

    The default is the best a dimension can have: a reward's argument `high` where it has one, as `critique`
    does, else the top of its range.

    Raises:
        ValueError: a threshold for a critic that is not there, or none for one whose range has no top.
    """
    if unknown := [name for name in thresholds if name not in rewards]:
        raise ValueError(f"thresholds of {', '.join(unknown)}: the critics are {', '.join(rewards)}")
    return {
        name: Critic(reward, thresholds.get(name, float(reward.args.get("high", reward.info.range[1]))))
        for name, reward in rewards.items()
    }


def writer_of(given: str | Mapping[str, Any]) -> Writer | None:
    """The writer that a config names; None for "none".

    Raises:
        ValueError: no such writer, or options that it does not take.
    """
    name, options = split(given)
    return called(picked(name, WRITERS, "writer"), options, "writer")


class _Search:
    """One run of either command: everything is checked before the generator is loaded."""

    def __init__(
        self, config: RunConfig, title: str, critics: Mapping[str, Reward] = MappingProxyType({})
    ) -> None:
        self.config, self.title = config, title
        self.rewards = resolve(config.rewards)
        self.held_out = resolve(config.held_out) if config.held_out else {}
        self.recipe = Recipe(weights=weights_of(self.rewards, config.weights))
        self.prompts = read_prompts(config.prompts)
        self.every = {**critics, **self.rewards, **self.held_out}
        _check_names(self.rewards, critics, self.held_out)

    def finish(self, load: Loader, run: Callable[[Job], list[Found]]) -> str:
        """Search, write the folder, and say what was gained."""
        config, out = self.config, fresh(self.config.out)
        name, options = split(config.generator)
        generator = load(name, **options)
        with engine_of(config.engine) as engine:
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
            found = numbered(run(job))
            write_samples(out, found)
            columns = write_scores(out, found, self.every, job.selection, self.title)
        write_history(out, found, self.prompts.problems)
        table = gain_table(found, columns, self.title)
        skipped = [f"skipped {row}: {problem}" for row, problem in self.prompts.problems.items()]
        return "\n".join([table, *skipped, f"pictures, samples, scores and history -> {out}"])


def _check_names(
    rewards: Mapping[str, Reward], critics: Mapping[str, Reward], held_out: Mapping[str, Reward]
) -> None:
    """What is held out must have no say, under whatever name; a name must mean one reward."""
    voices = [*rewards.items(), *critics.items()]
    for name, reward in held_out.items():
        if any(name == other or reward.fingerprint == voice.fingerprint for other, voice in voices):
            raise ValueError(
                f"held_out {name} has a say in the search: hold out another reward, or name it so"
            )
    for name in rewards.keys() & critics.keys():
        if rewards[name].fingerprint != critics[name].fingerprint:
            raise ValueError(f"{name} is a reward and a critic with other arguments; give one another name")
    if TOTAL in {name for name, _ in voices} | set(held_out):
        raise ValueError(f"{TOTAL!r} is the name of the weighted sum; give the reward another name")
