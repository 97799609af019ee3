"""Generate-Critique-Refine: draw, let critics say what is wrong, revise the prompt, draw again.

After RationalRewards (arXiv:2604.11626), for many prompts at once. The best picture is kept, always judged
against the original prompt, whatever prompt it was drawn from. A critique or revision that fails costs its
own row a revision and nothing else. `refine` runs the rounds; `found_of` is a prompt's refinement as the
folder of a run holds it: a shot per picture, and the whole history.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine.engine import Engine
from ..errors import Status
from ..evaluation import failure
from ..generator import Generator
from ..sampling import encoded, filled, forwards
from ..sampling import sample as draw
from ..types import Sample, Score
from .job import Found, Selection, best_of
from .writers import Critic, Critique, RevisionRequest, Writer, bounded, critique_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """Settings of `refine`; every budget is per prompt, so that a prompt ends as it would alone.

    Args:
        rounds: at most.
        width: pictures per round; the best of them is criticised.
        pictures: at most; None is rounds x width.
        forwards: forward passes of the generator's network, at most; None is no limit.
        patience: rounds without a better picture after which a prompt is given up; None never.
        reseed: a new noise for every picture; without it only the prompt changes.
        max_chars: longest revised prompt.
        keep_words: share of the original prompt's words that a revision must still have.
        steps: Euler steps; None is the generator's default.
        guidance: classifier-free guidance; None is the generator's default.
        batch: pictures drawn at once.

    Raises:
        ValueError: a setting outside its range.
    """

    rounds: int = 4
    width: int = 1
    pictures: int | None = None
    forwards: int | None = None
    patience: int | None = 2
    reseed: bool = True
    max_chars: int = 600
    keep_words: float = 0.5
    steps: int | None = None
    guidance: float | None = None
    batch: int = 64

    def __post_init__(self) -> None:
        for name in ("rounds", "width", "pictures", "forwards", "patience", "max_chars", "steps", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if not 0 <= self.keep_words <= 1:
            raise ValueError(f"keep_words is a share from 0 to 1, not {self.keep_words}")


@dataclass(frozen=True, slots=True)
class Revision:
    """Prompt of the next round. When the writer failed it is the old one, and status and note say why."""

    prompt: str
    status: Status = "ok"
    note: str = ""


@dataclass(slots=True)
class Attempt:
    """One picture: its prompt and seed, its scores, and the critique and revision that followed."""

    round: int
    prompt: str
    """The prompt it was drawn from."""
    seed: int
    sample: Sample
    """The original sample with the picture."""
    scores: Mapping[str, Score]
    """Of the selection's rewards, against the original prompt."""
    total: Score
    critique: Critique | None = None
    """Of the round's best picture only."""
    revision: Revision | None = None
    """Answer to the critique; None where the prompt ended here."""


@dataclass(slots=True)
class Refined:
    """The whole history of one prompt."""

    sample: Sample
    seed: int
    attempts: list[Attempt] = field(default_factory=list)
    stopped: str = ""
    """Reason for which it ended; empty while it goes on."""
    forwards: int = 0
    """Forward passes of the generator's network."""

    @property
    def best(self) -> Attempt | None:
        """The attempt with the largest total; None when no picture could be scored."""
        index = best_of([attempt.total for attempt in self.attempts])
        return None if index is None else self.attempts[index]

    @property
    def prompt(self) -> str:
        """Prompt of the next picture: the last revision, or the original prompt."""
        revisions = [attempt.revision for attempt in self.attempts if attempt.revision is not None]
        return revisions[-1].prompt if revisions else self.sample.prompt

    @property
    def without_gain(self) -> int:
        """Rounds since the one that drew the best picture."""
        return self.attempts[-1].round - (self.best.round if self.best is not None else -1)


def refine(
    generator: Generator,
    samples: Sequence[Sample],
    seeds: Sequence[int],
    selection: Selection,
    critics: Mapping[str, Critic],
    writer: Writer | None = None,
    settings: Refinement = Refinement(),
) -> list[Refined]:
    """Refine every prompt; in each round, the prompts still active are drawn, scored and revised together.

    A prompt ends when no critic complains, when `patience` rounds brought nothing better, when its budget is
    spent, or when neither its prompt nor its noise would change.

    Args:
        generator: draws.
        samples: the prompts, with all that the rewards need beside a picture.
        seeds: one per sample, of its first picture; the others follow it by ones, as in `picture_seed`.
        selection: decides what is kept. Its rewards must not compare samples: rounds are judged apart.
        critics: by name.
        writer: revises prompts; None draws again with new noise only.
        settings: see `Refinement`.

    Raises:
        ValueError: no critics, not as many seeds as samples, a selection that compares samples, neither a
            writer nor new noise, or a budget below one picture.
    """
    _check(samples, seeds, selection, critics, writer, settings)
    histories = [Refined(sample, seed) for sample, seed in zip(samples, seeds, strict=True)]
    if not histories:
        return []
    guidance = generator.guidance if settings.guidance is None else settings.guidance
    steps = generator.steps if settings.steps is None else settings.steps
    cost = forwards(encoded(generator, samples[:1]), guidance, steps)
    if not _width(histories[0], cost, settings):
        raise ValueError(f"forwards {settings.forwards} does not pay for one picture, which takes {cost}")
    for number in range(settings.rounds):
        rows = [(h, _width(h, cost, settings)) for h in histories if not h.stopped]
        if not rows:
            break
        champions = _round(number, rows, generator, selection, settings, cost)
        _criticise(champions, selection.engine, critics)
        for history, champion in champions:
            history.stopped = _reason(history, champion, settings, cost)
        active = [(history, champion) for history, champion in champions if not history.stopped]
        selection.engine.run(_revise(active, writer, settings))
        for history, champion in active:
            assert champion.revision is not None
            if champion.revision.prompt == champion.prompt and not settings.reseed:
                history.stopped = f"nothing left to change: {champion.revision.note}"
    return histories


def _check(
    samples: Sequence[Sample],
    seeds: Sequence[int],
    selection: Selection,
    critics: Mapping[str, Critic],
    writer: Writer | None,
    settings: Refinement,
) -> None:
    if not critics:
        raise ValueError("no critics: give at least one reward that says what is wrong with a picture")
    if len(seeds) != len(samples):
        raise ValueError(f"{len(samples)} samples but {len(seeds)} seeds; give one seed per sample")
    comparing = [name for name, reward in selection.rewards.items() if reward.info.arity != "point"]
    if comparing or selection.recipe.normalise != "none":
        what = ", ".join(comparing) or "group z-scores"
        raise ValueError(f"select by rewards that look at one picture: values of {what} differ by round")
    if writer is None and not settings.reseed:
        raise ValueError("without a writer and without new noise every round is the first; set reseed")


def _width(history: Refined, cost: int, settings: Refinement) -> int:
    """Number of pictures that the budget still allows this prompt in one round."""
    limits = [settings.width]
    if settings.pictures is not None:
        limits.append(settings.pictures - len(history.attempts))
    if settings.forwards is not None:
        limits.append((settings.forwards - history.forwards) // cost)
    return max(0, min(limits))


def _round(
    number: int,
    rows: Sequence[tuple[Refined, int]],
    generator: Generator,
    selection: Selection,
    settings: Refinement,
    cost: int,
) -> list[tuple[Refined, Attempt]]:
    """Draw and score one round: every history with its round's best picture, or its first if all failed."""
    owners = [history for history, width in rows for _ in range(width)]
    seeds = [
        history.seed + (len(history.attempts) if settings.reseed else 0) + offset
        for history, width in rows
        for offset in range(width)
    ]
    prompts = [history.prompt for history in owners]
    inputs = [history.sample.inputs for history in owners]
    pixels = draw(
        generator,
        prompts,
        seeds,
        settings.steps,
        settings.guidance,
        inputs=inputs if any(inputs) else (),
        batch=settings.batch,
    )
    shown = filled([history.sample for history in owners], pixels, generator.fps)
    scored = selection(shown)
    for index, history in enumerate(owners):
        total, scores = scored.totals[index], scored.row(index)
        attempt = Attempt(number, prompts[index], seeds[index], shown[index], scores, total)
        history.attempts.append(attempt)
        history.forwards += cost
    champions = []
    for history, width in rows:
        new = history.attempts[-width:]
        champions.append((history, new[best_of([attempt.total for attempt in new]) or 0]))
    return champions


def _criticise(
    champions: Sequence[tuple[Refined, Attempt]], engine: Engine, critics: Mapping[str, Critic]
) -> None:
    shown = [attempt.sample for _, attempt in champions]
    columns = engine.score(shown, {name: critic.reward for name, critic in critics.items()})
    for index, (_, attempt) in enumerate(champions):
        scores = {name: column[index] for name, column in columns.items()}
        attempt.critique = critique_of(attempt.sample, scores, critics)


def _reason(history: Refined, champion: Attempt, settings: Refinement, cost: int) -> str:
    """Reason for which this prompt ends after this round; empty when it goes on."""
    assert champion.critique is not None
    if champion.critique.satisfied:
        return "no critic complains"
    if champion.round == settings.rounds - 1:
        return f"{settings.rounds} rounds are over"
    if settings.patience is not None and history.without_gain >= settings.patience:
        return f"no better picture in {settings.patience} rounds"
    return "" if _width(history, cost, settings) else "the budget is spent"


async def _revise(
    active: Sequence[tuple[Refined, Attempt]], writer: Writer | None, settings: Refinement
) -> None:
    revisions = await asyncio.gather(*(_revised(attempt, writer, settings) for _, attempt in active))
    for (_, attempt), revision in zip(active, revisions, strict=True):
        attempt.revision = revision


async def _revised(attempt: Attempt, writer: Writer | None, settings: Refinement) -> Revision:
    critique = attempt.critique
    assert critique is not None
    if writer is None:
        return Revision(attempt.prompt, "na", "no writer: the same prompt with new noise")
    if not critique.complaints:
        failed = "; ".join(f"{name}: {score.note}" for name, score in critique.failed.items())
        return Revision(attempt.prompt, "missing", f"no critique to go by: {failed or 'nothing applies'}")
    original = attempt.sample.prompt
    try:
        text = await writer(RevisionRequest(original, attempt.prompt, attempt.sample.shown, critique))
        words = bounded(text, original, max_chars=settings.max_chars, keep_words=settings.keep_words)
    except Exception as error:  # becomes this row's status and note
        failed_score = failure(error, None)
        return Revision(attempt.prompt, failed_score.status, failed_score.note)
    return Revision(words)


def found_of(history: Refined) -> Found:
    """Every picture as a shot; the history has the scores, critique and revision of each."""
    facts = [
        {"seed": attempt.seed, "round": attempt.round, "drawn_from": attempt.prompt}
        for attempt in history.attempts
    ]
    rounds = [_attempt(attempt) for attempt in history.attempts]
    return Found(
        [attempt.sample for attempt in history.attempts],
        best_of([attempt.total for attempt in history.attempts]),
        history.forwards,
        facts,
        {"stopped": history.stopped, "attempts": rounds},
    )


def _attempt(attempt: Attempt) -> dict[str, Any]:
    record: dict[str, Any] = {
        "round": attempt.round,
        "prompt": attempt.prompt,
        "seed": attempt.seed,
        "scores": {name: _score(score) for name, score in attempt.scores.items()},
        "total": _score(attempt.total),
    }
    if attempt.critique is not None:
        record["critique"] = _critique(attempt.critique)
    if attempt.revision is not None:
        record["revision"] = {
            "prompt": attempt.revision.prompt,
            "status": attempt.revision.status,
            "note": attempt.revision.note,
        }
    return record


def _critique(critique: Critique) -> dict[str, Any]:
    return {
        "scores": {
            name: {"value": _score(score), "note": score.note, "parts": dict(score.parts)}
            for name, score in critique.scores.items()
        },
        "complaints": [complaint._asdict() for complaint in critique.complaints],
    }


def _score(score: Score) -> float | str:
    """The value, or the status of a failure."""
    return score.value if score.ok else score.status
