"""Forwards that writing costs with and without refilling: `python -m mmreward.evals.speed.refills`.

Texts of very different lengths are written in batches, one after another as a batch ends with its longest
text, and then by `refilling`, which lets the next batch's texts take the room of those that have ended.
Forwards of the language model and rows in them are counted, so that neither the machine nor the moment
matters; processor time is shown beside them. Four texts are about one picture, as votes are.

The judge's weights are random. At a high temperature each of its tokens is as likely as any other, and a set
share of them ends a text, so lengths are geometric: most are short, and one in fifty is four times the mean.
Every text has a seed of its own. It exits with 1 where a text differs between the two, or where refilling
does not save `SAVED` of the forwards.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from transformers.utils.logging import disable_progress_bar

from mmreward import Media, models
from mmreward.models.vlms.answers import Sampling
from mmreward.models.vlms.asks import asked
from mmreward.models.vlms.qwen import Item

from .inputs import SCALES, Checkpoints, draw_pictures, texts

SAVED = 0.3
"""Bar: share of the forwards that refilling saves."""
VOTES = 4
"""Texts on one picture, whose prompt they share."""
HOT = 100.0
"""Temperature at which every token is as likely as any other."""


class Written(NamedTuple):
    """Tokens written, positions of prompts that were computed, forwards with a token of each row, rows in
    them, and processor seconds."""

    tokens: int
    read: int
    forwards: int
    rows: int
    seconds: float


class _Feed:
    """A feed of batches that all wait already."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.waiting = list(batches)
        self.results: dict[int, list[Any]] = {}

    def take(self) -> Any:
        return self.waiting.pop(0) if self.waiting else None

    def done(self, number: int, results: list[Any]) -> None:
        self.results[number] = results


@contextmanager
def _counted(network: Any) -> Iterator[list[tuple[int, int]]]:
    """Rows and positions of each forward of the language model in the block."""
    forwards: list[tuple[int, int]] = []

    def count(module: Any, args: Any, kwargs: Any) -> None:
        rows, positions = kwargs["inputs_embeds"].shape[:2]
        forwards.append((rows, positions))

    hook = network.module.model.language_model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield forwards
    finally:
        hook.remove()


def _measured(network: Any, run: Callable[[], list[list[Any]]]) -> tuple[Written, list[Any]]:
    with _counted(network) as forwards:
        begun = time.process_time()
        found = [text for batch in run() for text in batch]
        seconds = time.process_time() - begun
    steps = [rows for rows, positions in forwards if positions == 1]
    read = sum(rows * positions for rows, positions in forwards if positions > 1)
    tokens = sum(text.tokens for text in found)
    return Written(tokens, read, len(steps), sum(steps), seconds), found


def compared(
    judge: str, pictures: Sequence[Path], count: int, size: int, mean: int, most: int
) -> tuple[Written, Written, bool]:
    """What `count` texts cost in batches of `size`, by turns and refilled; and whether all are equal.

    Args:
        judge: weights of a Qwen-VL.
        pictures: each with VOTES texts.
        count: texts.
        size: texts of a batch.
        mean: tokens of a text, about.
        most: tokens of a text, at most.
    """
    vlm: Any = models.vlm(judge)
    network = vlm.network
    network.__dict__["_stops"] = set(range(0, len(network.processor.tokenizer), mean))
    items = [
        Item(
            asked(Media(pictures[number // VOTES]), "What is wrong with it?", "", (), ()),
            vlm.view,
            Sampling(most, HOT, number),
        )
        for number in range(count)
    ]
    batches = [network.prepare("write", items[start : start + size]) for start in range(0, count, size)]
    for batch in batches:  # which encodes the pictures, and finds everything cold
        network.forward("write", (batch[0], [one._replace(detail=Sampling(1, 0.0, 0)) for one in batch[1]]))
    feed = _Feed(batches)

    def refilled() -> list[list[Any]]:
        network.forward_on("write", feed)
        return [feed.results[number] for number in range(len(batches))]

    try:
        plain, first = _measured(network, lambda: [network.forward("write", batch) for batch in batches])
        filled, second = _measured(network, refilled)
    finally:
        del network.__dict__["_stops"]
    return plain, filled, first == second


def table(plain: Written, filled: Written, equal: bool) -> str:
    """Markdown, and the bars with met or MISSED."""
    lines = ["| | tokens | positions read | forwards | rows in them | tokens per forward | processor s |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for name, one in (("batch after batch", plain), ("refilled", filled)):
        per = one.tokens / one.forwards
        lines.append(
            f"| {name} | {one.tokens} | {one.read} | {one.forwards} | {one.rows} | {per:.1f} "
            f"| {one.seconds:.1f} |"
        )
    saved = 1 - filled.forwards / plain.forwards
    lines.append(f"\nthe texts are equal: {'met' if equal else 'MISSED'}")
    met = "met" if saved >= SAVED else "MISSED"
    return "\n".join([*lines, f"at least {SAVED:.0%} of the forwards are saved: {saved:.0%} {met}"])


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="small", help="of the judge's weights")
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16, help="texts of a batch")
    parser.add_argument("--mean", type=int, default=32, help="tokens of a text")
    parser.add_argument("--most", type=int, default=256, help="tokens of a text, at most")
    options = parser.parse_args(given)
    if min(options.texts, options.batch, options.mean, options.most) < 1:
        parser.error("--texts, --batch, --mean and --most are 1 or more")
    disable_progress_bar()
    scale = SCALES[options.scale]
    with TemporaryDirectory(prefix="mmreward-refills-") as folder:
        places = Checkpoints(Path(folder), scale, texts(), torch.float32)
        sizes = [scale.sizes[0]] * -(-options.texts // VOTES)
        pictures = draw_pictures(Path(folder) / "media", sizes, 0)
        judge = str(places.judge)
        plain, filled, equal = compared(
            judge, pictures, options.texts, options.batch, options.mean, options.most
        )
    print(table(plain, filled, equal))
    return 0 if equal and 1 - filled.forwards / plain.forwards >= SAVED else 1


if __name__ == "__main__":
    sys.exit(main())
