"""A prompt's refinement as it is stored: one shot per picture, and its whole history."""

from typing import Any

from ...types import Score
from ..refine.critics import Critique
from ..refine.loop import Attempt, Refined
from ..selection import best_of
from .job import Found


def found_of(history: Refined) -> Found:
    """Every picture as a shot; the history says what was thought of each and what was tried next."""
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
