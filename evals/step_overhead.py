"""What training costs beyond the network: `python -m mmreward.evals.step_overhead`.

A round of Flow-GRPO on mini-flow, whose reward costs nothing, against the same forwards, backwards, decodes
and optimiser step in a bare loop. Both run in turn in one process on one thread, and the ratio of their times
is printed, round by round. Exits with 1 above the bar of 5 percent.
Then one round with a real judge, and when drawing and scoring were under way.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from mmreward.generators.mini_flow import MiniFlow

from mmreward import Engine, Sample, Score, load
from mmreward.compose import weights_of
from mmreward.registry import Reward
from mmreward.tune.config import PolicyConfig, TuneConfig
from mmreward.tune.grading import Grading
from mmreward.tune.journal import Timeline, seconds
from mmreward.tune.learner import Learner
from mmreward.tune.online import Online, encode
from mmreward.tune.policy_gradient import PolicyGradient
from mmreward.tune.prompts import load_prompts
from mmreward.tune.sampling import media
from mmreward.tune.weights import Weights
from mmreward.types import RewardInfo

ROUNDS = 6
BAR = 0.05
CONFIG = TuneConfig.model_validate(
    {
        "generator": "mini-flow",
        "prompts": {"data": "shapes-world", "count": 64, "seed": 1},
        "rewards": {"oracle": {}},
        "method": {"name": "grpo"},
        "rollout": {"prompts": 6, "group": 12, "micro_batch": 24, "steps": 8, "guidance": 1.0},
        "lora": {"rank": 16},
        "ema": None,
        "evaluation": {"prompts": {"data": "shapes-world", "count": 8}},
        "out": "unused",
    }
)


async def free(sample: Sample) -> Score:
    """A score that takes no time, different from row to row."""
    return Score(hash(sample.id) % 97 / 97)


FREE = Reward(RewardInfo(name="free", needs=("image",), range=(0, 1)), {}, free)


def bare(learner: Learner, samples: list[Sample], number: int) -> None:
    """The network evaluations of a round, and nothing that decides what they are for."""
    generator, rollout = learner.generator, CONFIG.rollout
    sigmas = generator.sigmas(rollout.steps)
    kept = []
    for start in range(0, len(samples), rollout.micro_batch):
        rows = samples[start : start + rollout.micro_batch]
        conditioning = encode(generator, rows)
        latents = generator.noise(range(number, number + len(rows)))
        with torch.no_grad():
            for now, after in itertools.pairwise(sigmas):
                kept.append((latents, now, conditioning))
                latents = latents + (after - now) * generator.velocity(latents, now, conditioning)
            media(generator.decode(latents))
        kept.pop()  # the last step is not trained
    for latents, now, conditioning in kept:
        torch.autograd.backward(generator.velocity(latents, now, conditioning).square().mean())
    learner.step()


def timed(what: Any, *arguments: Any) -> float:
    begun = time.perf_counter()
    what(*arguments)
    return time.perf_counter() - begun


def overhead(online: Online, learner: Learner, samples: list[Sample]) -> float:
    """Median over rounds of (round / bare loop) - 1; a first pair warms up."""
    ratios = []
    for number in range(ROUNDS + 1):
        pair = timed(online.round, number), timed(bare, learner, samples, number)
        if number:
            print(f"round {pair[0]:.2f} s, bare loop {pair[1]:.2f} s: {pair[0] / pair[1] - 1:+.1%}")
            ratios.append(pair[0] / pair[1])
    return statistics.median(ratios) - 1


def make(engine: Engine, learner: Learner, rewards: Mapping[str, Reward]) -> tuple[Online, Timeline]:
    timeline = Timeline()
    method = PolicyGradient(PolicyConfig(name="grpo"))
    grading = Grading(engine, rewards, None, timeline)
    config = CONFIG.model_copy(update={"weights": weights_of(rewards, {})})
    return Online(config, method, learner, grading, load_prompts(config.prompts), timeline), timeline


def drawn(timeline: Timeline, width: int = 72) -> str:
    """The spans of a round as rows of characters."""
    spans = timeline.take()
    first, last = min(a for _, a, _ in spans), max(b for _, _, b in spans)
    lines = []
    for what in ("generate", "score", "wait", "update"):
        row = [" "] * width
        for _, a, b in (span for span in spans if span[0] == what):
            for cell in range(int((a - first) / (last - first) * width), width):
                if first + cell / width * (last - first) >= b:
                    break
                row[cell] = "#"
        lines.append(f"{what:<9}|{''.join(row)}| {seconds(spans, what):5.2f} s")
    return "\n".join(lines)


def main() -> bool:
    """Print both; True when the overhead is within the bar."""
    torch.set_num_threads(1)
    generator = MiniFlow()
    learner = Learner(
        generator, Weights(generator, rank=16), CONFIG.optimiser, CONFIG.ema, Accelerator(cpu=True)
    )
    rows = CONFIG.rollout.prompts * CONFIG.rollout.group
    samples = (load_prompts(CONFIG.prompts) * rows)[:rows]
    with Engine("cpu") as engine:
        found = overhead(make(engine, learner, {"free": FREE})[0], learner, samples)
        print(f"median overhead {found:+.1%}, bar {BAR:.0%}\n")
        online, timeline = make(
            engine, learner, {"checklist": load("checklist", judge="mini-vlm", soft=True)}
        )
        online.round(0)
        timeline.take()
        online.round(1)
        print(drawn(timeline))
    return found <= BAR


if __name__ == "__main__":
    sys.exit(not main())
