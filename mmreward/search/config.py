"""YAML files of `mmreward search` and `mmreward refine`: generator, prompts, rewards, method, output folder.

Keys are checked as strictly as in `mmreward.config`; the options of a method, a refinement or a writer are
checked against the signature of the function or settings class that takes them (`construct`).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, Field, ValidationError, create_model

from ..config import EngineConfig, LimitsGiven, Positive, ShapingSteps, SharedRewards, Strict, problems
from ..data.rows import read_rows, rows_of
from ..errors import nearest
from ..tune.config import PromptsConfig
from ..tune.data import load_prompts
from ..types import Sample, lacking

T = TypeVar("T")


def _named(given: str | dict[str, Any]) -> str | dict[str, Any]:
    if isinstance(given, dict) and not isinstance(given.get("name"), str):
        raise ValueError("a mapping needs the key 'name'")
    return given


Named = Annotated[str | dict[str, Any], AfterValidator(_named)]
"""A name, or a mapping with the key `name` and options."""


def split(given: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and options of a `Named`."""
    if isinstance(given, str):
        return given, {}
    return given["name"], {key: value for key, value in given.items() if key != "name"}


def entry(name: str, table: Mapping[str, T], what: str) -> T:
    """Entry of a table by name.

    Raises:
        ValueError: there is none; the message offers the nearest.
    """
    if name not in table:
        raise ValueError(f"no {what} named {name!r}: {nearest(name, table)}")
    return table[name]


def construct(make: Callable[..., T], given: Mapping[str, Any], where: str, **fixed: Any) -> T:
    """`make(**given, **fixed)`, with `given` checked against the annotations of `make`.

    Args:
        make: a function, or a settings dataclass.
        given: the options in the file; a key of `fixed` is unknown here.
        where: the section of the file, for messages.
        fixed: arguments that come from elsewhere.

    Raises:
        ValueError: an unknown key, a missing one, a value of the wrong type, or one that `make` refuses.
    """
    fields: dict[str, Any] = {
        name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(make).parameters.items()
        if name not in fixed
    }
    model = create_model(where, __base__=Strict, **fields)
    try:
        options = model.model_validate(dict(given))
    except ValidationError as error:
        raise ValueError(f"{where}: " + "; ".join(problems(error, model))) from None
    try:
        return make(**{name: getattr(options, name) for name in fields}, **fixed)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


SomeRewards = Annotated[SharedRewards, Field(min_length=1)]


class RunConfig(Strict):
    """Keys that both commands share. Relative paths are relative to the working directory.

    Args:
        generator: a name, or a mapping with the key `name` and the options of the loader of generators.
        prompts: texts, or mappings of the fields of `Sample`; or a data set, as `mmreward score` reads it; or
            prompts as of `mmreward tune`, such as {data: shapes-world, count: 100}.
        rewards: their sum selects; name -> arguments, as in `Config`, or a score file whose rewards they are.
        weights: of their sum; a reward without one has 1, or -1 where lower is better.
        shaping: steps that rewrite the rewards' scores before they are summed, see `shaping_steps`; steps
            that compare a group are refused, as a search scores pictures as it draws them.
        held_out: rewards that score the result and have no say in the search.
        seed: of the noises.
        steps: Euler steps; default the generator's.
        guidance: classifier-free guidance; default the generator's.
        batch: pictures in memory at once.
        timeout: seconds one score may take.
        out: the folder that is written.
        engine: as in `Config`.
        limits: the same.
    """

    generator: Named
    prompts: str | Annotated[list[str | dict[str, Any]], Field(min_length=1)] | PromptsConfig
    rewards: SomeRewards
    weights: dict[str, float] = Field(default_factory=dict)
    shaping: ShapingSteps = ()
    held_out: SharedRewards = Field(default_factory=dict)
    seed: int = 0
    steps: Positive | None = None
    guidance: float | None = None
    batch: Positive = 16
    timeout: float | None = None
    out: Path
    engine: EngineConfig = EngineConfig()
    limits: LimitsGiven = Field(default_factory=dict)


class SearchConfig(RunConfig):
    """`mmreward search`.

    Args:
        method: a name in `methods.METHODS`, or a mapping with `name` and the method's options.
    """

    method: Named


class SynthesisConfig(Strict):
    """`mmreward synthesize`: preference pairs that a generator, a judge and its tools make together.

    Args:
        generator: as of a search.
        prompts: the same; left out where the method has a taxonomy.
        judge: the reward that chooses, of one picture or of two; name -> arguments. It is told what the tools
            say with the argument `knowledge: knowledge` (`critique`, `preference`).
        tools: rewards whose notes, or parts, are told.
        rater: the reward of one picture that says how good a pair is; of the method anyprefer.
        method: "anyprefer" or "instruct", or a mapping with `name` and the method's options, see `synthesis`.
        writer: a name in `run.WRITERS`, or a mapping with `name` and options: it revises prompts.
        thresholds: of the rater's parts, below which the writer is told of them, as of `mmreward refine`.
        seed, steps, guidance, batch, timeout, engine, limits: as of a search.
        out: the folder of pairs, with a record of every prompt in history.jsonl.
    """

    generator: Named
    prompts: str | Annotated[list[str | dict[str, Any]], Field(min_length=1)] | PromptsConfig | None = None
    judge: SomeRewards
    tools: SharedRewards = Field(default_factory=dict)
    rater: SharedRewards = Field(default_factory=dict)
    method: Named
    writer: Named = "emphasise"
    thresholds: dict[str, float] = Field(default_factory=dict)
    seed: int = 0
    steps: Positive | None = None
    guidance: float | None = None
    batch: Positive = 16
    timeout: float | None = None
    out: Path
    engine: EngineConfig = EngineConfig()
    limits: LimitsGiven = Field(default_factory=dict)


class RefineConfig(RunConfig):
    """`mmreward refine`.

    Args:
        critics: rewards that say what is wrong; name -> arguments.
        thresholds: critic -> value below which it complains; default the best its dimensions can have.
        writer: "emphasise", "vlm" or "none", or a mapping with `name` and the arguments of
            `writers.emphasise` or `writers.vlm_writer`.
        refinement: the other settings of `refine.Refinement`.
    """

    critics: SomeRewards
    thresholds: dict[str, float] = Field(default_factory=dict)
    writer: Named = "emphasise"
    refinement: dict[str, Any] = Field(default_factory=dict)


class Prompts(NamedTuple):
    """Samples of a run, and the problems of the rows that are none, by id."""

    samples: list[Sample]
    problems: dict[str, str]


def read_prompts(given: str | Sequence[str | dict[str, Any]] | PromptsConfig) -> Prompts:
    """Samples of a run that have a prompt; each is a group of its own.

    Raises:
        ValueError: no such data set, or no usable prompt in it.
    """
    if isinstance(given, PromptsConfig):
        return Prompts([replace(sample, group=sample.id) for sample in load_prompts(given)], {})
    if isinstance(given, str):
        rows = list(read_rows(given))
    else:
        rows = list(rows_of([{"prompt": row} if isinstance(row, str) else row for row in given], Path()))
    samples, problems = [], {}
    for row in rows:
        if row.sample is None:
            problems[row.id] = row.problem
        elif problem := lacking(row.sample, ("prompt",)):
            problems[row.id] = problem
        else:
            samples.append(replace(row.sample, group=row.id))
    if not samples:
        raise ValueError(f"no usable prompts: {next(iter(problems.values()), 'the data set is empty')}")
    return Prompts(samples, problems)
