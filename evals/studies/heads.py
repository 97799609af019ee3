"""Preference heads on mini-clip or mini-vlm, before and after a fit on pairs by the oracle: `python -m
mmreward.evals.studies.heads`.

Four pictures of a caption: two that mini-flow drew, one of them again with an artifact, and the rendering of
a caption that differs in a colour, a shape or a count, with an artifact or without. The oracle, which shares
no code with a network, says which of two is the better one, and where neither is. The pairs are written as
`mmreward pairs --ties` writes them, and `mmreward fit head` is run on them with every loss, from several
seeds of the split, the weights and the batches. `--backbone mini-vlm` takes its states, and `--rank` trains a
LoRA adapter along. Prints a table. Figures: evals/heads.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, get_args

import numpy as np
from PIL import Image

from mmreward import Engine, Media
from mmreward.data.pair_folder import PreferencePair, read_pairs, write_pairs
from mmreward.data.pairs import Candidate, Rules, choose_pairs
from mmreward.mini import flow, oracle, world
from mmreward.mini.clip import negatives
from mmreward.mini.corrupt import corrupt
from mmreward.models.head_facts import Loss
from mmreward.monitor.intervals import Measured
from mmreward.tune.fit_head import HeadSummary, fit_head
from mmreward.tune.fit_loop import HeadSettings

CAPTIONS, CAPTION_SEED = 800, 30_011
DRAWN, STEPS = 2, 8
"""Pictures of a caption that mini-flow draws, and its steps."""
TOGETHER = 96
"""Pictures that are drawn together."""


class Row(NamedTuple):
    """A fit with one loss from one seed."""

    seed: int
    summary: HeadSummary


def sample_captions(number: int, seed: int = CAPTION_SEED) -> list[world.Caption]:
    """Different captions; equal seeds, equal captions."""
    rng = np.random.default_rng(seed)
    found: dict[str, world.Caption] = {}
    while len(found) < number:
        caption = world.describe(world.sample_scene(rng), rng, relations=0.5)
        found.setdefault(str(caption), caption)
    return list(found.values())


def pictures_of(captions: Sequence[world.Caption], seed: int = CAPTION_SEED) -> list[list[Image.Image]]:
    """Pictures of each caption: drawn by mini-flow, one of them with an artifact, one of another scene."""
    network, rng = flow.load(), np.random.default_rng(seed)
    texts = [str(caption) for caption in captions for _ in range(DRAWN)]
    drawn: list[Image.Image] = []
    for start in range(0, len(texts), TOGETHER):
        some = texts[start : start + TOGETHER]
        drawn += flow.draw(network, some, range(seed + start, seed + start + len(some)), STEPS)
    groups = [drawn[start : start + DRAWN] for start in range(0, len(drawn), DRAWN)]
    return [
        [*group, _spoiled(group[0], rng), _near_miss(caption, rng)]
        for caption, group in zip(captions, groups, strict=True)
    ]


def _spoiled(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return corrupt(picture, rng, float(rng.uniform(0.35, 1)))


def _near_miss(caption: world.Caption, rng: np.random.Generator) -> Image.Image:
    """Rendering of a caption that differs in one thing, every second time with an artifact."""
    (wrong,) = negatives(caption, rng, 1)
    kinds = [kind for kind, number in wrong.kinds for _ in range(number)]
    picture = world.render(world.sample_scene(rng, kinds), flow.SIZE)
    return _spoiled(picture, rng) if rng.random() < 0.5 else picture


def judged_pairs(
    captions: Sequence[world.Caption], pictures: Sequence[Sequence[Image.Image]]
) -> list[PreferencePair]:
    """All pairs of a caption's pictures, ties included, by the oracle: mean of the object F1 and of whether
    the scene is exactly the caption's."""
    media, candidates = {}, []
    for number, (caption, group) in enumerate(zip(captions, pictures, strict=True)):
        for place, picture in enumerate(group):
            verdict = oracle.judge(picture, caption)
            name = f"{number:05}-{place}"
            media[name] = Media(picture)
            score = (verdict.f1 + verdict.strict) / 2
            candidates.append(Candidate(name, (str(caption),), score, media[name].key))
    chosen, _ = choose_pairs(candidates, Rules(choose="all", ties=True))
    return [
        PreferencePair(
            prompt=pair.chosen.group[0],
            chosen=media[pair.chosen.id],
            rejected=media[pair.rejected.id],
            facts={"margin": pair.margin, "tie": pair.margin == 0},
        )
        for pair in chosen
    ]


def fits(
    folder: Path,
    pairs: Path,
    losses: Sequence[Loss],
    seeds: Sequence[int],
    backbone: str = "mini-clip",
    rank: int = 0,
    steps: int = 2000,
) -> list[Row]:
    """A fit with every loss from every seed."""
    rows = []
    with Engine("cpu") as engine:
        for loss in losses:
            for seed in seeds:
                settings = HeadSettings(loss=loss, seed=seed, rank=rank, steps=steps)
                out = folder / f"{loss}-{seed}"
                rows.append(Row(seed, fit_head(pairs, backbone, out, engine, settings)))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Markdown table of held-out accuracies with their intervals."""
    own = rows[0].summary.own.partition(" of ")[0]
    lines = [
        f"| loss | seed | pairs fitted, held out | prompts held out | {own} | head | gain in points "
        "| surer half | other half | best step |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for seed, one in rows:
        found = one.accuracy
        cells = [
            one.loss,
            str(seed),
            f"{one.fitted}, {found.after.n}",
            str(found.after.units),
            _shown(found.before),
            _shown(found.after),
            found.gain.signed(1),
            _shown(found.sure),
            _shown(found.unsure),
            str(one.step),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(share: Measured) -> str:
    low, high = share.interval or (float("nan"),) * 2
    return f"{share.mean:.3f} ({low:.3f} to {high:.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, judge, fit and print."""
    known = get_args(Loss)
    parser = argparse.ArgumentParser(prog="python -m mmreward.evals.studies.heads", description=__doc__)
    parser.add_argument("--captions", type=int, default=CAPTIONS, help="different captions")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the fits")
    parser.add_argument("--losses", nargs="+", choices=known, default=list(known))
    parser.add_argument("--caption-seed", type=int, default=CAPTION_SEED, help="of captions and pictures")
    parser.add_argument("--backbone", default="mini-clip", help="mini-clip or mini-vlm")
    parser.add_argument("--rank", type=int, default=0, help="of a LoRA adapter of mini-vlm")
    parser.add_argument("--steps", type=int, default=2000, help="of a fit, at most")
    parser.add_argument("--pairs", type=Path, help="keep the pairs here; what is there is not redrawn")
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        place = options.pairs or Path(folder) / "pairs"
        if not place.exists():
            captions = sample_captions(options.captions, options.caption_seed)
            write_pairs(place, judged_pairs(captions, pictures_of(captions, options.caption_seed)))
        pairs = read_pairs(place)
        prompts, ties = len({pair.prompt for pair in pairs}), sum(pair.tie for pair in pairs)
        print(f"{len(pairs)} pairs of {prompts} captions by the oracle, {ties} of them ties\n", flush=True)
        how = (options.backbone, options.rank, options.steps)
        print(table(fits(Path(folder), place, options.losses, options.seeds, *how)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
