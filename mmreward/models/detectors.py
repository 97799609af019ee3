"""Object detectors in transformers format: Mask2Former, and every model of boxes alone (DETR and its kin).

Op "objects". Boxes and scores of a Mask2Former are those of mmdet's instance post-processing, by which the
published detectors of GenEval and its kin were read: a query stands once for every class that is among the
100 likeliest pairs, its score is the class's probability times the mean mask probability inside the mask,
and its box is the mask's. transformers' own post-processing gives each query one class and lets masks hide
one another.

Pictures of one input size run together and no others: padding would change what the network sees.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F

from ..engine.batching import Cost
from ..engine.engine import current
from ..media import Media
from .base import TorchNetwork, loading
from .pictures import decoded, in_turn

MOST = 100
"""Pairs of query and class that are looked at, as mmdet's `max_per_image`."""
TOKENS = 2048
"""Cost of a picture: eight of them fill a batch."""
Mask = np.ndarray[Any, np.dtype[np.uint8]]
Box = tuple[float, float, float, float]


class Found(NamedTuple):
    """One object: label of the checkpoint, box (x1, y1, x2, y2) in pixels inside the picture, score 0 to 1.

    `mask` has one bit for every pixel of the box, row by row as `numpy.packbits` packs them; None where the
    detector has no masks.
    """

    label: str
    box: Box
    score: float
    mask: Mask | None = None

    def inside(self) -> "np.ndarray[Any, np.dtype[np.bool_]] | None":
        """The mask as booleans of the box's height and width; None without one."""
        if self.mask is None:
            return None
        x1, y1, x2, y2 = map(int, self.box)
        height, width = y2 - y1, x2 - x1
        return np.unpackbits(self.mask, count=height * width).reshape(height, width).astype(bool)


class Seen(NamedTuple):
    """All that a detector says of a picture: its labels, and the objects that it found, the surest first."""

    labels: tuple[str, ...]
    found: tuple[Found, ...]


class Sighting(NamedTuple):
    """Picture, and the score that an object must be above."""

    media: Media
    least: float


class Ready(NamedTuple):
    """Network input of pictures of one input size: their rows in the batch, pixels, the part that is no
    padding, and the (height, width) of each picture."""

    rows: list[int]
    pixels: torch.Tensor
    inner: tuple[int, int]
    sizes: list[tuple[int, int]]
    least: list[float]


class Detector(TorchNetwork):
    """Detector of the objects in one picture; preprocessing is the checkpoint's own.

    Args:
        weights, dtype: see `mmreward.models.detector`.
    """

    def __init__(self, weights: str, *, dtype: str = "float32") -> None:
        super().__init__(weights, dtype=dtype)

    async def objects(self, media: Media, least: float) -> Seen:
        """Objects with a score above `least`; of one class there may be many for the same thing.

        Raises:
            Unscorable: the picture is broken.
        """
        look = Sighting(media, least)
        return cast(Seen, await current().submit(self, "objects", look, key=(media.key, least)))

    def build(self) -> torch.nn.Module:
        from transformers import AutoModelForObjectDetection, AutoModelForUniversalSegmentation

        kind: Any = AutoModelForUniversalSegmentation if self.masked else AutoModelForObjectDetection
        return cast(torch.nn.Module, kind.from_pretrained(self.source, dtype=self.dtype))

    @cached_property
    def masked(self) -> bool:
        """True for a Mask2Former, False for a model of boxes."""
        from transformers import AutoConfig

        return str(AutoConfig.from_pretrained(self.source).model_type) == "mask2former"

    @cached_property
    def processor(self) -> Any:
        from transformers import AutoImageProcessor

        with loading(self.name):
            return AutoImageProcessor.from_pretrained(self.source)

    @property
    def labels(self) -> tuple[str, ...]:
        """The checkpoint's labels, in the order of its logits."""
        names = self.module.config.id2label
        return tuple(str(names[index]) for index in sorted(names))

    def cost(self, op: str, item: Sighting) -> Cost:
        height, width = item.media.size
        return Cost(TOKENS, 15 * height * width)  # as bytes, and as floats of about the input's size

    def prepare(self, op: str, items: list[Sighting]) -> list[Ready]:
        pictures = in_turn([item.media for item in items], lambda index: decoded(items[index].media).cpu())
        with self.processing:
            processor = self.processor
        groups: dict[tuple[Any, ...], list[tuple[int, torch.Tensor]]] = {}
        for row, picture in enumerate(pictures):
            inputs = processor(images=[picture], input_data_format="channels_first", return_tensors="pt")
            pixels = inputs["pixel_values"][0].to(self.dtype)
            shown = inputs["pixel_mask"][0] if "pixel_mask" in inputs else torch.ones(pixels.shape[1:])
            inner = int(shown.any(1).sum()), int(shown.any(0).sum())
            groups.setdefault((tuple(pixels.shape), inner), []).append((row, pixels))
        return [
            Ready(
                [row for row, _ in members],
                torch.stack([pixels for _, pixels in members]),
                inner,
                [(pictures[row].shape[1], pictures[row].shape[2]) for row, _ in members],
                [items[row].least for row, _ in members],
            )
            for (_, inner), members in groups.items()
        ]

    @torch.inference_mode()
    def forward(self, op: str, batch: list[Ready]) -> list[Any]:
        results: dict[int, Seen] = {}
        labels = self.labels
        read: Callable[[Ready], list[list[Found]]] = self._masks if self.masked else self._boxes
        for ready in batch:
            for row, found in zip(ready.rows, read(ready), strict=True):
                found.sort(key=lambda one: -one.score)
                results[row] = Seen(labels, tuple(found))
        return [results[row] for row in range(len(results))]

    def _masks(self, ready: Ready) -> list[list[Found]]:
        out = self.module(pixel_values=ready.pixels.to(self.device))
        whole = tuple(ready.pixels.shape[-2:])
        return [
            instances(logits.float(), masks.float(), self.labels, least, whole, ready.inner, size)
            for logits, masks, least, size in zip(
                out.class_queries_logits, out.masks_queries_logits, ready.least, ready.sizes, strict=True
            )
        ]

    def _boxes(self, ready: Ready) -> list[list[Found]]:
        shown = torch.zeros(ready.pixels.shape[-2:], dtype=torch.long)
        shown[: ready.inner[0], : ready.inner[1]] = 1
        given = {"pixel_values": ready.pixels.to(self.device)}
        if shown.min() == 0:
            given["pixel_mask"] = shown.expand(len(ready.pixels), -1, -1).to(self.device)
        out = self.module(**given)
        # Without a threshold, because that of this function is one for all rows.
        read = self.processor.post_process_object_detection(out, threshold=0.0, target_sizes=ready.sizes)
        found = []
        for one, (height, width), least in zip(read, ready.sizes, ready.least, strict=True):
            limits = torch.tensor([width, height, width, height])
            boxes = one["boxes"].float().cpu().clamp(min=0).minimum(limits)
            several = zip(boxes.tolist(), one["scores"].tolist(), one["labels"].tolist(), strict=True)
            names = self.module.config.id2label
            found.append(
                [
                    Found(str(names[label]), cast(Box, tuple(box)), score)
                    for box, score, label in several
                    if score > least
                ]
            )
        return found


def instances(
    logits: torch.Tensor,
    masks: torch.Tensor,
    labels: Sequence[str],
    least: float,
    whole: Sequence[int],
    inner: Sequence[int],
    size: Sequence[int],
) -> list[Found]:
    """Objects of one picture out of a Mask2Former's queries, as mmdet's `instance_postprocess` has them.

    Args:
        logits: (queries, classes + 1), the last for no object.
        masks: logits (queries, h, w) over the padded input.
        labels: of the classes.
        least: score that an object must be above. It is that of the class times that of the mask, so masks
            of classes below it are not looked at.
        whole: (height, width) of the input with its padding.
        inner: the same without it.
        size: of the picture.
    """
    scores = logits.softmax(-1)[:, :-1]
    likeliest, places = scores.flatten().topk(min(MOST, scores.numel()))
    queries, classes = places // scores.shape[1], places % scores.shape[1]
    height, width = inner
    upscaled: dict[int, torch.Tensor] = {}
    found = []
    for score, query, label in zip(likeliest.tolist(), queries.tolist(), classes.tolist(), strict=True):
        if score <= least:
            continue
        if query not in upscaled:
            enlarged = F.interpolate(masks[query][None, None], list(whole), mode="bilinear")
            own = enlarged[..., :height, :width]
            upscaled[query] = F.interpolate(own, list(size), mode="bilinear")[0, 0]
        mask = upscaled[query]
        solid = mask > 0
        covered = solid.float()
        certainty = (mask.sigmoid() * covered).sum() / (covered.sum() + 1e-6)
        if (value := score * float(certainty)) > least:
            found.append(_instance(labels[label], solid.cpu().numpy(), value))
    return found


def _instance(label: str, solid: "np.ndarray[Any, np.dtype[np.bool_]]", score: float) -> Found:
    rows, columns = (np.flatnonzero(solid.any(axis)) for axis in (1, 0))
    y1, y2, x1, x2 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return Found(label, (x1, y1, x2, y2), score, np.packbits(solid[y1:y2, x1:x2]))
