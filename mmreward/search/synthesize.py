"""Run of `mmreward synthesize`: everything is checked before the generator is loaded, and the folder of pairs
appears whole, with a record of every prompt in history.jsonl.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config import load_yaml
from ..data.pair_folder import refuse_present, write_pairs
from ..engine.engine import Engine
from ..engine.preconditions import check_rewards
from ..generator import Generator
from ..limits import set_limits
from ..loading import resolve
from ..progress import loading
from .config import SynthesisConfig, construct, entry, read_prompts, split
from .run import critics_of, writer_of
from .synthesis import METHODS, Instruct, Synthesis, Work


def synthesize_file(path: Path, load: Callable[..., Generator]) -> str:
    """Run `mmreward synthesize` and return what to print.

    Args:
        path: the YAML file, see `config.SynthesisConfig`.
        load: loads generators, which this package knows no family of.

    Raises:
        ValueError: a mistake in the file, with its place; a folder that is not empty; no pair at all.
    """
    config = load_yaml(path, SynthesisConfig)
    set_limits(config.limits)
    refuse_present(config.out)
    name, options = split(config.method)
    method = construct(entry(name, METHODS, "method"), options, "method")
    judge, tools, rater = (
        resolve(given) if given else {} for given in (config.judge, config.tools, config.rater)
    )
    if len(judge) != 1 or len(rater) > 1:
        raise ValueError(f"one judge chooses and one rater rates; there are {len(judge)} and {len(rater)}")
    if comparing := [one for one, reward in tools.items() if reward.info.arity != "point"]:
        raise ValueError(f"tools: {comparing[0]} compares samples; a tool looks at one picture")
    critics, writer = critics_of(rater, config.thresholds), writer_of(config.writer)
    has_taxonomy = isinstance(method, Instruct) and bool(method.taxonomy)
    if (config.prompts is None) != has_taxonomy:
        raise ValueError("prompts: name them, or a taxonomy of the method instruct, and not both")
    prompts = read_prompts(config.prompts) if config.prompts is not None else None
    method.check(critics)
    check_rewards({**judge, **tools, **rater})
    generator_name, generator_options = split(config.generator)
    with loading(generator_name):
        generator = load(generator_name, **generator_options)
    with Engine.from_config(config.engine) as engine:
        work = Work(
            generator=generator,
            engine=engine,
            judge=judge,
            tools=tools,
            rater=critics,
            seed=config.seed,
            steps=generator.steps if config.steps is None else config.steps,
            guidance=generator.guidance if config.guidance is None else config.guidance,
            batch=config.batch,
            timeout=config.timeout,
        )
        found = method.run(work, prompts.samples if prompts is not None else [], writer)
    problems: dict[str, str] = prompts.problems if prompts is not None else {}
    return _written(config.out, found, problems)


def _written(out: Path, found: Synthesis, problems: dict[str, str]) -> str:
    skipped = [f"skipped {row}: {problem}" for row, problem in problems.items()]
    if not found.pairs:
        raise ValueError("\n".join([f"no pairs, so nothing was written:\n{found}", *skipped]))
    write_pairs(out, found.pairs)
    records: list[dict[str, Any]] = [*found.records]
    records += [{"id": row, "problem": problem} for row, problem in problems.items()]
    lines = "".join(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records)
    (out / "history.jsonl").write_text(lines, encoding="utf-8")
    return "\n".join([str(found), *skipped, f"-> {out}"])
