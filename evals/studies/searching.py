"""Gain and cost of searching without training: `python -m mmreward.evals.studies.searching`.

mini-flow draws pictures for held-out captions. Every method chooses by a checklist that mini-vlm answers;
the oracle, which no method ever asks, says how many of the chosen pictures show exactly what was asked for.
NFE are forwards of the network per row, two per step with classifier-free guidance; a backward pass counts as
two more. Calls are scores, gradients of scores and verdicts asked of a model. Figures: evals/tuning.md.

Of plain best-of-n the table also has the expected checklist score of the chosen picture, estimated without
bias from all independent samples of the run, and the bound on the KL divergence from the generator.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

from mmreward import Engine, Media, Sample, load, models
from mmreward.compose import Recipe
from mmreward.generators.mini_flow import MiniFlow
from mmreward.mini import flow, oracle, tasks
from mmreward.mini.world import Caption
from mmreward.monitor.intervals import share_interval
from mmreward.sampling import media
from mmreward.search.best_of_n import best_of_n, expected_max, kl_bound
from mmreward.search.fk import fk_steering
from mmreward.search.guided import PixelTerm, RewardGuided
from mmreward.search.job import RewardFn, Selection
from mmreward.search.particles import Particles, values_of
from mmreward.search.pruning import Question, VlmJudge, prune
from mmreward.search.refine import Refinement, refine
from mmreward.search.reno import optimise_noise
from mmreward.search.reno_terms import Reno, Term
from mmreward.search.sampler import GeneratorSampler, generator_sampler
from mmreward.search.tree import tree_search
from mmreward.search.writers import Critic, emphasise

PROMPTS = 32
BUDGET = 8
"""Cost of a search at most, in plain samples."""
STRENGTH = 20.0
"""Inverse temperature: a tenth more of the checklist answered makes a sample e^2 times as likely."""
PLAIN = "one sample"


class SearchTask(NamedTuple):
    """The problem that every method solves: a generator, held-out captions, the reward, a judge of steps."""

    generator: MiniFlow
    captions: Sequence[Caption]
    samples: Sequence[Sample]
    selection: Selection
    judge: VlmJudge

    @property
    def prompts(self) -> list[str]:
        return [sample.prompt for sample in self.samples]

    @property
    def reward(self) -> RewardFn:
        return self.selection.reward_fn(self.samples)

    @property
    def budget(self) -> int:
        """Forwards per prompt."""
        return BUDGET * 2 * int(self.generator.steps)

    def sampler(self, kernel: str) -> GeneratorSampler:
        return generator_sampler(self.generator, self.generator.encode(self.prompts), kernel=kernel)


class SearchOutcome(NamedTuple):
    """The picture chosen for each caption (None where every score failed), and the cost of all.

    `scores` are those of independent plain samples, by caption; empty for methods that draw otherwise.
    """

    chosen: Sequence[Media | None]
    forwards: int
    calls: int
    scores: Sequence[Sequence[float]] = ()


Method = Callable[[SearchTask], SearchOutcome]


def best(task: SearchTask, n: int, kernel: str = "ode") -> SearchOutcome:
    """The best of n samples."""
    found = best_of_n(task.sampler(kernel), task.reward, n=n)
    scores = [values_of(one.scores).tolist() for one in found] if kernel == "ode" else ()
    return outcome(found)._replace(scores=scores)


def steering(task: SearchTask) -> SearchOutcome:
    """FK steering with as many particles as the budget has samples."""
    return outcome(fk_steering(task.sampler("cps"), task.reward, particles=BUDGET, strength=STRENGTH))


def tree(task: SearchTask, mode: Any) -> SearchOutcome:
    """Diffusion tree sampling or search; both give the best sample of the tree."""
    found = tree_search(
        task.sampler("cps"), task.reward, forwards=task.budget, mode=mode, strength=STRENGTH, power=0.35
    )
    return outcome(found)


def pruning(task: SearchTask) -> SearchOutcome:
    """As many paths as the budget has samples, some of which a judge abandons on the way."""
    return outcome(prune(task.sampler("ode"), task.judge, task.reward, paths=BUDGET))


def guided(task: SearchTask, n: int) -> SearchOutcome:
    """The best of n samples that the gradient of CLIPScore (mini-clip) has guided."""
    clip = load("clipscore", weights="mini-clip")
    generator = RewardGuided(task.generator, [PixelTerm(clip.score_tensor, 10.0)])
    sampler = generator_sampler(generator, generator.encode(task.prompts), kernel="ode")
    plain = outcome(best_of_n(sampler, task.reward, n=n))
    gradients = n * generator.steps * len(task.captions)
    return plain._replace(forwards=3 * plain.forwards, calls=plain.calls + gradients)


def noise(task: SearchTask) -> SearchOutcome:
    """ReNO for CLIPScore (mini-clip), in four steps without guidance; mini-vlm is not asked."""
    clip = Term(load("clipscore", weights="mini-clip").score_tensor, 1.0)
    settings = Reno(iterations=task.budget // (3 * 4), steps=4, guidance=1.0, checkpoint=False)
    found = optimise_noise(task.generator, task.samples, range(len(task.samples)), {"clip": clip}, settings)
    return SearchOutcome(media(found.pixels, None), 3 * found.spent.forwards, found.spent.calls)


def refined(task: SearchTask) -> SearchOutcome:
    """Generate-Critique-Refine: the checklist names what is wrong, the prompt asks for that first."""
    critics = {"answers": Critic(load("checklist", judge="mini-vlm"), 1.0)}
    settings = Refinement(rounds=BUDGET, patience=None)
    histories = refine(
        task.generator,
        task.samples,
        range(0, 100 * len(task.samples), 100),
        task.selection,
        critics,
        emphasise("lead"),
        settings,
    )
    chosen = [None if one.best is None else one.best.sample.image for one in histories]
    calls = sum(2 * len(one.attempts) for one in histories)
    return SearchOutcome(chosen, sum(one.forwards for one in histories), calls)


METHODS: Mapping[str, Method] = {
    PLAIN: partial(best, n=1),
    "one sample, CPS": partial(best, n=1, kernel="cps"),
    "best of 2": partial(best, n=2),
    "best of 4": partial(best, n=4),
    "best of 8": partial(best, n=8),
    "FK steering": steering,
    "DTS": partial(tree, mode="sample"),
    "DTS*": partial(tree, mode="search"),
    "step pruning": pruning,
    "NRG": partial(guided, n=1),
    "NRG, best of 2": partial(guided, n=2),
    "ReNO": noise,
    "refine": refined,
}
"""A method is a function of a `SearchTask`; one more line here is one more row in the table."""


def outcome(found: Sequence[Particles]) -> SearchOutcome:
    """The best sample of every prompt and the costs of all."""
    chosen = [None if one.best is None else one.media[one.best] for one in found]
    return SearchOutcome(
        chosen, sum(one.spent.forwards for one in found), sum(one.spent.calls for one in found)
    )


class SearchRow(NamedTuple):
    """One line of the table: means per prompt, and the oracle's verdicts.

    `expected` is the expected checklist score of the chosen picture and `kl` the bound on the KL divergence
    from the generator, in nats; None where the method is not plain best-of-n.
    """

    name: str
    forwards: float
    calls: float
    right: int
    number: int
    seconds: float
    expected: float | None = None
    kl: float | None = None

    @property
    def accuracy(self) -> float:
        return self.right / self.number


def measure(task: SearchTask, names: Sequence[str]) -> list[SearchRow]:
    """Run methods one after the other; a caption for which nothing was chosen counts as wrong."""
    rows, scores = [], []
    for name in names:
        begun = time.perf_counter()
        result = METHODS[name](task)
        seconds, number = time.perf_counter() - begun, len(task.captions)
        verdicts = [
            media is not None and oracle.judge(media.picture(), caption).strict
            for media, caption in zip(result.chosen, task.captions, strict=True)
        ]
        forwards, calls = result.forwards / number, result.calls / number
        rows.append(SearchRow(name, forwards, calls, sum(verdicts), number, seconds))
        scores.append(result.scores)
        print(f"{name}: {seconds:.0f} s", file=sys.stderr)
    return with_expectations(rows, scores)


def with_expectations(
    rows: Sequence[SearchRow], scores: Sequence[Sequence[Sequence[float]]]
) -> list[SearchRow]:
    """Results with `expected` and `kl` for those that have `scores`, one entry per result.

    Sample k of a caption is the same whatever n is, so all expectations come from the longest run: that of
    the best of 2 from all pairs among its samples. Captions with a failed score are left out.
    """
    sizes = [len(own[0]) if own else 0 for own in scores]
    longest = scores[sizes.index(max(sizes))]
    curves = [expected_max(own) for own in longest]
    whole = [curve for curve in curves if len(curve) == max(sizes)]
    return [
        row._replace(expected=fmean(curve[n - 1] for curve in whole), kl=kl_bound(n)) if n and whole else row
        for row, n in zip(rows, sizes, strict=True)
    ]


def table(rows: Sequence[SearchRow]) -> str:
    """Markdown; gains are against the first row, in points of oracle-strict accuracy."""
    lines = [
        "| method | NFE per prompt | reward calls per prompt | oracle strict (95 %) "
        "| gain | gain per 100 NFE | expected checklist | KL at most |",
        "|---|---|---|---|---|---|---|---|",
    ]
    plain = rows[0].accuracy
    for row in rows:
        interval = share_interval(row.right, row.number)
        gain = 100 * (row.accuracy - plain)
        lines.append(
            f"| {row.name} | {row.forwards:.0f} | {row.calls:.1f} | {100 * row.accuracy:.1f} %"
            f" ({100 * interval.low:.0f} to {100 * interval.high:.0f})"
            f" | {gain:+.1f} | {100 * gain / row.forwards:+.1f}"
            f" | {_figure(row.expected)} | {_figure(row.kl)} |"
        )
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def set_up(engine: Engine, number: int) -> SearchTask:
    """mini-flow, the first captions that were held out, and mini-vlm as reward and as judge."""
    captions = flow.held_out(number)
    samples = [
        Sample(
            id=str(index),
            prompt=str(caption),
            meta={"checklist": [{"question": q, "answer": a} for q, a in tasks.checklist(caption)]},
        )
        for index, caption in enumerate(captions)
    ]
    rewards = {"checklist": load("checklist", judge="mini-vlm", soft=True)}
    selection = Selection(engine, rewards, Recipe(weights={"checklist": 1.0}))
    judge = VlmJudge(
        engine,
        models.vlm("mini-vlm"),
        [sample.prompt for sample in samples],
        clarity=Question(tasks.ARTIFACT, good="no"),
    )
    return SearchTask(MiniFlow(), captions, samples, selection, judge)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompts", type=int, default=PROMPTS, help=f"held-out captions, default {PROMPTS}")
    parser.add_argument("--only", choices=METHODS, action="append", help="a method; may be repeated")
    given = parser.parse_args()
    if given.prompts < 1:
        parser.error(f"--prompts must be at least 1, not {given.prompts}")
    names = [PLAIN, *(name for name in given.only or METHODS if name != PLAIN)]
    with Engine() as engine:
        rows = measure(set_up(engine, given.prompts), names)
    print(f"{rows[0].number} captions, {sum(row.seconds for row in rows):.0f} s\n\n{table(rows)}")


if __name__ == "__main__":
    main()
