"""The same prompts from the same seeds, before and after training, side by side."""

from PIL import Image

from mmreward.media import Media
from mmreward.tune.journal import read_grid

from .markup import count, text
from .pictures import MAX_SIDE, embedded
from .training_run import Evaluated, TrainingRun

PROMPT_CHARS = 600


def pairs(run: TrainingRun, limit: int) -> str:
    """A card per prompt: before, at the best evaluation where that is another, and after."""
    shown = list(run.prompts[:limit])
    if not shown:
        return ""
    moments = _moments(run)
    columns, troubles = [], []
    for name, one in moments:
        try:
            columns.append((name, read_grid(run.folder, one.after, len(run.prompts))))
        except (OSError, Image.DecompressionBombError) as error:
            troubles.append(f"{name}: {error}")
    trouble = "".join(f'<p class="absent">No pictures of {text(words)}.</p>' for words in troubles)
    cards = "".join(_card(i, prompt, columns) for i, prompt in enumerate(shown)) if columns else ""
    lead = f'<p class="lead">{_explained(run, shown, moments)}</p>'
    return (
        f'<section><h2 id="pictures">Before and after</h2>{lead}{trouble}'
        f'<div class="pairs">{cards}</div></section>'
    )


def _moments(run: TrainingRun) -> list[tuple[str, Evaluated]]:
    first, last, best = run.evaluations[0], run.evaluations[-1], run.best
    moments = [("before", first)]
    if best is not None and best is not first and best is not last:
        moments.append((f"best, {count(best.after, 'round')}", best))
    return moments if last is first else [*moments, (f"after {count(last.after, 'round')}", last)]


def _explained(run: TrainingRun, shown: list[str], moments: list[tuple[str, Evaluated]]) -> str:
    number = f"{count(len(shown), 'held-out prompt')}, never trained on"
    hidden = len(run.prompts) - len(shown)
    left_out = f" {count(hidden, 'further one')} not shown." if hidden else ""
    same = "each drawn from one fixed seed without noise in the steps, not picked by hand"
    alone = " There is nothing after training yet." if len(moments) == 1 else ""
    return f"{number}, {same}.{left_out}{alone}"


def _card(index: int, prompt: str, columns: list[tuple[str, list[Image.Image]]]) -> str:
    drawn = "".join(
        f'<figure><div class="picture">{_embedded(pictures[index], f"{name}: {prompt}")}</div>'
        f"<figcaption>{text(name)}</figcaption></figure>"
        for name, pictures in columns
    )
    words = f'<p class="prompt" dir="auto">{text(prompt, PROMPT_CHARS)}</p>'
    return f'<article class="card pair">{words}<div class="moments">{drawn}</div></article>'


def _embedded(picture: Image.Image, alt: str) -> str:
    return embedded(Media(picture), MAX_SIDE, alt)
