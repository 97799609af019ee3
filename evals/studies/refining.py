"""Critics and writers of Generate-Critique-Refine: `python -m mmreward.evals.studies.refining --seeds 0 1 2`.

mini-flow draws pictures for held-out captions, at most eight rounds each. A round's picture is criticised by
the checklist that mini-vlm answers, or by mini-vlm's critique in words; the prompt is revised by a rule, by
mini-vlm as the writer, or not at all, so that only the noise is new. The picture with the best checklist
score is kept in all of them, and the oracle, which nobody asks, says whether it shows exactly what was asked
for. Every seed begins with other noise; intervals are over captions. Figures: evals/tuning.md.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from mmreward import Engine, load
from mmreward.mini import oracle
from mmreward.monitor.intervals import mean_of, paired_change
from mmreward.search.refine import Refined, Refinement, refine
from mmreward.search.writers import Critic, Writer, emphasise, vlm_writer

from .searching import BUDGET, SearchTask, set_up

PROMPTS = 16
APART = 1_000_000
"""Between the noises of two seeds."""
FIRST, NOISE = "the first picture", "new noise alone"


def checklist() -> Critic:
    """Questions, of which each wrong answer is a complaint."""
    return Critic(load("checklist", judge="mini-vlm"), 1.0)


def words() -> Critic:
    """Marks by aspect and their justifications; all below the best mark is a complaint."""
    return Critic(load("critique", judge="mini-vlm"), 4.0)


def no_writer() -> None:
    """Nobody revises the prompt."""


WAYS: Mapping[str, tuple[Callable[[], Critic], Callable[[], Writer | None]]] = {
    NOISE: (checklist, no_writer),
    "checklist, rule": (checklist, emphasise),
    "checklist, VLM writer": (checklist, lambda: vlm_writer("mini-vlm")),
    "critique, new noise alone": (words, no_writer),
    "critique, VLM writer": (words, lambda: vlm_writer("mini-vlm")),
}
"""A way is a critic and a writer; one more line here is one more row in the table."""


class Way(NamedTuple):
    """What a way found, an entry for each caption of each seed.

    `right` is 1 where the kept picture is right by the oracle, `first` the same of the first one; `rounds`,
    `forwards` and `revised` (prompts that the writer changed, of those it was asked for) are means.
    """

    right: list[float]
    first: list[float]
    rounds: float
    forwards: float
    asked: int
    revised: int


def run(task: SearchTask, seeds: Sequence[int], names: Sequence[str]) -> dict[str, Way]:
    """All ways, each with all seeds."""
    found = {}
    for name in names:
        make_critic, make_writer = WAYS[name]
        critic, writer = make_critic(), make_writer()
        histories: list[Refined] = []
        for seed in seeds:
            start = APART * seed
            histories += refine(
                task.generator,
                task.samples,
                range(start, start + 100 * len(task.samples), 100),
                task.selection,
                {"critic": critic},
                writer,
                Refinement(rounds=BUDGET, patience=None),
            )
            print(f"{name}, seed {seed}", file=sys.stderr)
        found[name] = way_of(histories, task)
    return found


def way_of(histories: Sequence[Refined], task: SearchTask) -> Way:
    """Figures of the histories of all captions, seed by seed."""
    captions = [*task.captions] * (len(histories) // len(task.captions))

    def right(attempt: object, caption: object) -> float:
        image = attempt.sample.image if attempt is not None else None  # type: ignore[attr-defined]
        return float(image is not None and oracle.judge(image.picture(), caption).strict)  # type: ignore[arg-type]

    revisions = [one.revision for own in histories for one in own.attempts if one.revision is not None]
    return Way(
        [right(own.best, caption) for own, caption in zip(histories, captions, strict=True)],
        [right(own.attempts[0], caption) for own, caption in zip(histories, captions, strict=True)],
        fmean(len(own.attempts) for own in histories),
        fmean(own.forwards for own in histories),
        len(revisions),
        sum(one.status == "ok" for one in revisions),
    )


def table(found: Mapping[str, Way], captions: Sequence[str], seeds: Sequence[int]) -> str:
    """Markdown: shares that are right, and points over new noise alone on the same captions and seeds."""
    units = [*captions] * len(seeds)
    base = next(iter(found.values()))
    lines = [
        f"| of {len(units)} pictures | right (95 %) | over {next(iter(found))} | rounds | NFE per prompt "
        "| revised |",
        "|---|---|---|---|---|---|",
        f"| {FIRST} | {_share(base.first, units)} | | 1.0 | {base.forwards / base.rounds:.0f} | |",
    ]
    for name, way in found.items():
        over = paired_change(base.right, way.right, 100, units).signed(1) if way is not base else ""
        revised = f"{way.revised} of {way.asked}" if way.asked else ""
        share = _share(way.right, units)
        lines.append(f"| {name} | {share} | {over} | {way.rounds:.1f} | {way.forwards:.0f} | {revised} |")
    return "\n".join(lines)


def _share(right: Sequence[float], units: Sequence[str]) -> str:
    found = mean_of(right, units)
    low, high = found.interval or (float("nan"), float("nan"))
    return f"{found.mean:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompts", type=int, default=PROMPTS, help=f"held-out captions, default {PROMPTS}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=WAYS, action="append", help="a way; may be repeated")
    given = parser.parse_args()
    if given.prompts < 2:
        parser.error(f"--prompts must be at least 2, not {given.prompts}")
    names = [NOISE, *(name for name in given.only or WAYS if name != NOISE)]
    with Engine() as engine:
        task = set_up(engine, given.prompts)
        print(table(run(task, given.seeds, names), task.prompts, given.seeds))


if __name__ == "__main__":
    main()
