"""Tokens that several votes on several aspects cost: `python -m mmreward.evals.speed.votes`.

A judge is asked for K votes on A aspects of one picture, each aspect in a text of its own, and its language
model's forwards are counted, not timed: positions read before anything is written (prefill), and tokens
written. Beside it one critique, which asks for all aspects in one text, and as many separate requests as
there are texts, which read picture and prompt again each. It exits with 1 where the votes read more than 1.3
times what one critique does, or the separate requests less than three times what the votes do.

Any judge of this process will do; the miniature needs neither a GPU nor the network. Figures:
evals/judges.md.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from mmreward import Engine, Sample, load, models
from mmreward.judges.miniature import sample_comparisons
from mmreward.rewards.judged.critique import ASPECTS

LARGEST, SMALLEST = 1.3, 3.0
"""Bars: prefill of the votes over that of one critique, and of separate requests over that of the votes."""


class Tokens(NamedTuple):
    """Positions read before writing, and tokens written after the first of each text."""

    read: int
    written: int


class Spent(NamedTuple):
    """Tokens of one critique, of K votes on A aspects, and of K x A separate requests."""

    one: Tokens
    votes: Tokens
    apart: Tokens

    @property
    def met(self) -> bool:
        """True where both bars are met."""
        return self.votes.read <= LARGEST * self.one.read and self.apart.read >= SMALLEST * self.votes.read


@contextmanager
def _counted(judge: str) -> Iterator[list[tuple[int, int]]]:
    """Rows and positions of each forward of the judge's language model in the block."""
    forwards: list[tuple[int, int]] = []

    def count(module: Any, args: Any, kwargs: Any) -> None:
        rows, positions = kwargs["inputs_embeds"].shape[:2]
        forwards.append((rows, positions))

    language = models.vlm(judge).network.module.model.language_model  # type: ignore[attr-defined]
    hook = language.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield forwards
    finally:
        hook.remove()


def spent(engine: Engine, sample: Sample, judge: str, votes: int, max_tokens: int) -> Spent:
    """Tokens for one picture; the engine's cache is emptied before each."""

    def cost(**options: Any) -> Tokens:
        engine.cache.clear()
        critic = load("critique", judge=judge, max_tokens=max_tokens, **options)
        with _counted(judge) as forwards:
            engine.score([sample], critic)
        read = sum(rows * positions for rows, positions in forwards if positions > 1)
        return Tokens(read, sum(rows for rows, positions in forwards if positions == 1))

    several = {"votes": votes, "temperature": 1.0}
    shared = cost(mode="each", **several)
    apart = [
        cost(aspects={name: text}, temperature=1.0, seed=seed)
        for name, text in ASPECTS.items()
        for seed in range(votes)
    ]
    return Spent(cost(), shared, Tokens(*(sum(column) for column in zip(*apart, strict=True))))


def table(found: Spent, votes: int) -> str:
    """Markdown, and both bars with met or MISSED."""
    names = ("one critique", f"{votes} votes on {len(ASPECTS)} aspects", "as many separate requests")
    lines = ["| | positions read | of one critique | tokens written |", "|---|---|---|---|"]
    for name, tokens in zip(names, found, strict=True):
        ratio = tokens.read / found.one.read
        lines.append(f"| {name} | {tokens.read} | {ratio:.2f} | {tokens.written} |")
    over, saved = found.votes.read / found.one.read, found.apart.read / found.votes.read
    for said, ratio, bar, met in (
        ("the votes read {:.2f} times one critique; at most {:.1f}", over, LARGEST, over <= LARGEST),
        (
            "separate requests read {:.1f} times the votes; at least {:.1f}",
            saved,
            SMALLEST,
            saved >= SMALLEST,
        ),
    ):
        lines.append(f"\n{said.format(ratio, bar)}: {'met' if met else 'MISSED'}")
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--judge", default="mini-vlm", help="a judge of this process")
    parser.add_argument("--votes", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=120)
    options = parser.parse_args(given)
    if options.votes < 2:
        parser.error(f"--votes must be at least 2, not {options.votes}")
    drawn = sample_comparisons(1, seed=5)[0].comparison
    sample = Sample(prompt=drawn.request, image=drawn.pictures[0])
    with Engine() as engine:
        found = spent(engine, sample, options.judge, options.votes, options.max_tokens)
    print(table(found, options.votes))
    return 0 if found.met else 1


if __name__ == "__main__":
    sys.exit(main())
