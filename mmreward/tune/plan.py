"""Dry run of a training: memory, the samples of a round, calls per reward (`mmreward tune --dry-run`). Loads
no weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from accelerate import PartialState

from ..compose import weights_of
from ..errors import nearest
from ..limits import set_limits
from ..loading import resolve
from .config import ForwardProcessConfig, GradientConfig, PreferenceConfig, TuneConfig
from .data import draw_rows, load_pairs, load_prompts, share_out
from .offline import check_batches
from .steps import selector

Footprints = Callable[..., Mapping[str, Any]]
"""`footprint(name, dtype)` -> role -> what has `bytes` and `parameters`."""
GIGA = 1e9


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that accelerate would leave out with a warning: a run would log nothing, and succeed.

    Raises:
        ValueError: a tracker that accelerate does not know, or one whose package is not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
    there = set(map(str, get_available_trackers()))
    for name in names:
        if name not in (*known, "all"):
            raise ValueError(f"trackers: nothing is called {name!r}: {nearest(name, known)}")
        if name != "all" and name not in there:
            raise ValueError(
                f"trackers: {name} is not installed: pip install {name}, or leave it out of the config"
            )
    if "all" in names and not there:
        raise ValueError(f"trackers: all, and none is installed: pip install one of {', '.join(known)}")


def plan(config: TuneConfig, footprint: Footprints) -> str:
    """The plan in words: memory per role, samples and updates of a round, calls per reward.

    Raises:
        ValueError: parts of the config that do not go together, or a model that is not there.
    """
    set_limits(config.limits)
    lines = [*_memory(config, footprint), *_round(config), *_calls(config)]
    try:
        check_trackers(config.trackers)
    except ValueError as error:  # no obstacle to a plan, and one to the run
        lines.append(f"the run will be refused here: {error}")
    return "\n".join(lines)


def _memory(config: TuneConfig, footprint: Footprints) -> list[str]:
    name, dtype = config.generator["name"], config.generator.get("dtype", "float32")
    lines = [f"generator {name} ({dtype})"]
    roles = footprint(name, dtype)
    for role, size in roles.items():
        lines.append(f"  {role:<16} {size.bytes / GIGA:8.2f} GB  {size.parameters / 1e6:10.1f} M parameters")
    if config.lora is None:
        number = roles["network"].parameters
        copies = 4 + (config.ema is not None)  # gradient, two moments, the frozen reference, the average
        lines.append(
            f"  {'training':<16} {4 * copies * number / GIGA:8.2f} GB  beside the weights, in float32"
        )
    else:
        lines.append(
            f"  training         LoRA of rank {config.lora.rank}: weights, gradient, two moments"
            + ", average"
        )
    lines.append("  activations come on top, and depend on the size of a micro-batch")
    return lines


def _round(config: TuneConfig) -> list[str]:
    method, rollout = config.method, config.rollout
    if isinstance(method, PreferenceConfig):
        return _offline_round(config, method)
    number = len(load_prompts(config.prompts))
    rows = draw_rows(number, prompts=rollout.prompts, group=rollout.group, round=0, seed=config.seed)
    world, updates = PartialState().num_processes, getattr(method, "updates", 1)
    shares = share_out(rows, micro_batch=rollout.micro_batch, updates=updates, rank=0, world=world)
    if isinstance(method, GradientConfig) and method.name == "ctrl_u":
        trained = f"one step from each of two noise levels below {method.highest + method.gap:g}"
    elif isinstance(method, GradientConfig):
        trained = f"the gradient of up to {method.last if method.name == 'draft' else rollout.steps} steps"
    elif isinstance(method, ForwardProcessConfig):
        trained = f"{method.times.number} noise levels of each sample"
    else:
        arguments = dict(rollout.selector)
        chosen = selector(arguments.pop("name", "all_but_last"), **arguments)
        steps = chosen.steps(rollout.steps, 0, config.seed)
        trained = f"{len(steps)} of {rollout.steps} steps (in the first round {', '.join(map(str, steps))})"
    return [
        f"a round: {rollout.prompts} of {number} prompts x {rollout.group} = {len(rows)} samples, "
        f"{rollout.steps} steps each",
        f"  {world} process(es), {len(shares[0])} micro-batches of {rollout.micro_batch} "
        f"for each of {updates} update(s)",
        f"  trained on {trained}",
        *_evaluations(config),
    ]


def _offline_round(config: TuneConfig, method: PreferenceConfig) -> list[str]:
    number, world = len(load_pairs(config.prompts)), PartialState().num_processes
    check_batches(method, number, world)
    return [
        f"a round: {method.batch} of {number} pairs at {method.times.number} noise level(s); draws nothing",
        f"  {world} process(es), {method.batch // method.micro_batch // world} micro-batches of "
        f"{method.micro_batch} pairs",
        *_evaluations(config),
    ]


def _evaluations(config: TuneConfig) -> list[str]:
    given = config.evaluation
    lines = [f"{config.rounds} rounds, evaluated every {given.every}"]
    if given.larger is not None:
        number, size = min(given.shown, len(load_prompts(given.prompts))), given.larger
        lines.append(
            f"  {number} prompts also at height {size.height}, width {size.width}, for the monitors alone"
        )
    return lines


def _calls(config: TuneConfig) -> list[str]:
    offline = isinstance(config.method, PreferenceConfig)
    samples = 0 if offline else config.rollout.prompts * config.rollout.group
    evaluated = len(load_prompts(config.evaluation.prompts))
    lines = []
    rewards = resolve(config.rewards)
    weights = weights_of(rewards, config.weights)
    for name, reward in rewards.items():
        weight = weights[name]
        lines.append(f"reward {name} (weight {weight:g}): {samples} per round, {evaluated} per evaluation")
        lines += [f"  uses {network.name}" for network in reward.networks]
    for name in config.held_out:
        lines.append(f"held out {name}: {evaluated} per evaluation")
    return lines
