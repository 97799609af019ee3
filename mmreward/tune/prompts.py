"""The prompts of a run: rows of a data set, or captions of the miniature's world; or preference pairs."""

from ..data import read_rows
from ..pair_folder import PreferencePair, read_pairs
from ..types import Sample
from .config import PromptsConfig

WORLD = "shapes-world"


def load_prompts(config: PromptsConfig) -> list[Sample]:
    """One sample per prompt, without a picture; its other fields go to the rewards as they are.

    Raises:
        ValueError: no such data, rows that cannot be read, none at all, or rows without a prompt.
    """
    samples = _captions(config) if config.data == WORLD else _rows(config)
    if not samples:
        raise ValueError(f"{config.data} has no rows")
    empty = [sample.id for sample in samples if not sample.prompt.strip()]
    if empty:
        raise ValueError(f"{config.data}: {len(empty)} rows have no prompt, the first is {empty[0]!r}")
    return samples


def load_pairs(config: PromptsConfig) -> list[PreferencePair]:
    """Preference pairs, the first `count` of them.

    Raises:
        ValueError: as `read_pairs`.
    """
    return read_pairs(config.data)[: config.count]


def _captions(config: PromptsConfig) -> list[Sample]:
    from ..mini import flow, tasks

    captions = flow.held_out(config.count or 256, config.seed)
    return [
        Sample(
            id=f"{config.seed}-{number}",
            prompt=str(caption),
            meta={"checklist": [{"question": q, "answer": a} for q, a in tasks.checklist(caption)]},
        )
        for number, caption in enumerate(captions)
    ]


def _rows(config: PromptsConfig) -> list[Sample]:
    rows = list(read_rows(config.data))
    bad = [row for row in rows if row.sample is None]
    if bad:
        raise ValueError(
            f"{config.data}: {len(bad)} rows cannot be read; the first is {bad[0].id}: {bad[0].problem}"
        )
    samples = [row.sample for row in rows if row.sample is not None]
    return samples[: config.count]
