"""What the alarm made of a run, in plain words, and how the run ended."""

from typing import Literal, NamedTuple

from .markup import count
from .training_run import Evaluated, TrainingRun

Level = Literal["unknown", "ok", "warn", "alarm"]


class Verdict(NamedTuple):
    """The worst level of all evaluations (unknown after one), what it means, and what was watched."""

    level: Level
    headline: str
    told: tuple[str, ...]


def verdict(run: TrainingRun) -> Verdict:
    """The verdict over the whole run."""
    levels = {one.level for one in run.evaluations}
    if "alarm" in levels:
        return Verdict("alarm", "Alarm: the reward may be gamed", (_alarmed(run), _watched(run)))
    if "warn" in levels:
        times = sum(one.level == "warn" for one in run.evaluations)
        told = (
            f"{count(times, 'evaluation')} of {len(run.evaluations)} gave reason to worry; none often enough"
        )
        return Verdict("warn", "Warnings, no alarm", (f"{told} in a row to raise the alarm.", _watched(run)))
    if len(run.evaluations) == 1:
        told = "There is one evaluation so far, and nothing to compare it with."
        return Verdict("unknown", "Nothing to judge yet", (told,))
    return Verdict("ok", "No sign that the reward is gamed", (_watched(run),))


def worries(run: TrainingRun) -> list[Evaluated]:
    """The evaluations that had a reason to warn or worse."""
    return [one for one in run.evaluations if one.reasons]


def ending(run: TrainingRun) -> str:
    """How the run ended, or that it has not."""
    planned = int(run.config["rounds"])
    if run.ended is not None:
        return f"Ended after {count(run.done, 'round')}: {run.ended['reason']}."
    return (
        f"Not finished: {run.done} of {planned} rounds are written. It is under way or was interrupted; "
        "`mmreward tune` with the same config goes on where it stopped."
    )


def stopped(run: TrainingRun) -> bool:
    """Whether the alarm ended the run, in which case the weights of the best evaluation were kept."""
    return run.ended is not None and str(run.ended["reason"]).startswith("stopped by the alarm")


def _alarmed(run: TrainingRun) -> str:
    first = next(one for one in run.evaluations if one.level == "alarm")
    raised = f"It was raised after {count(first.after, 'round')}"
    if not stopped(run):
        return f"{raised}, and the run was not stopped by it: look at the pictures before using the weights."
    kept = f" (after {count(run.best.after, 'round')})" if run.best is not None else ""
    return f"{raised} and stopped the run. The weights kept are those of the best evaluation{kept}."


def _watched(run: TrainingRun) -> str:
    """What the verdict rests on, and what it cannot see."""
    if run.held_out:
        names = ", ".join(run.held_out)
        held_out = f"Watched for a fall while the optimised reward rises: {names}, which nobody optimises."
    else:
        held_out = (
            "No reward was held out, so a reward that rises for nothing would not have been noticed; "
            "only the pictures' textures and diversity were watched."
        )
    alarm = run.config.get("alarm")
    if alarm is None:
        return (
            f"{held_out} The config sets no alarm: the default bounds were used, and could not stop the run."
        )
    if len(run.evaluations) <= int(alarm["baseline"]):
        held_out += (
            f" Textures and diversity were not judged yet: their baseline is the first {alarm['baseline']} "
            f"evaluations, and there are {len(run.evaluations)}."
        )
    return held_out
