"""Vision towers by transformers' attention and by length: `python -m mmreward.evals.speed.towers`.

One tower with random weights attends as transformers has it, once for each picture or window, and as
`mmreward.models.varlen` has it, once for each different length, by turns on the same patches. Calls of
PyTorch's attention are counted, which no machine's load touches; seconds are medians of the rounds. It exits
with 1 where the features differ by more than `SAME`, or there are more than `CALLS` of transformers' calls.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from transformers.models.qwen2_5_vl import configuration_qwen2_5_vl, modeling_qwen2_5_vl
from transformers.models.qwen3_vl import configuration_qwen3_vl, modeling_qwen3_vl

from mmreward.models import varlen

from .contest import device_of

SAME = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.02}
"""Bar: how far a feature of the order of 1 may move."""
CALLS = 0.5
"""Bar: share of transformers' calls, of pictures that are all alike."""
ALIKE = [(1, 36, 36)] * 8
UNLIKE = [
    (1, 36, 36),
    (1, 32, 32),
    (1, 28, 40),
    (1, 18, 18),
    (1, 36, 36),
    (1, 40, 28),
    (1, 20, 44),
    (1, 8, 8),
]
"""Patches of eight pictures: (time, height, width)."""

TOWERS: dict[str, tuple[Any, Any, dict[str, dict[str, Any]]]] = {
    "Qwen2.5-VL": (
        configuration_qwen2_5_vl.Qwen2_5_VLVisionConfig,
        modeling_qwen2_5_vl.Qwen2_5_VisionTransformerPretrainedModel,
        {
            "toy": {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48}
            | {"out_hidden_size": 16, "fullatt_block_indexes": [1]},
            "small": {"depth": 8, "hidden_size": 320, "num_heads": 4, "intermediate_size": 856}
            | {"out_hidden_size": 512, "fullatt_block_indexes": [3, 7]},
            "large": {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420}
            | {"out_hidden_size": 3584, "fullatt_block_indexes": [7, 15, 23, 31]},
        },
    ),
    "Qwen3-VL": (
        configuration_qwen3_vl.Qwen3VLVisionConfig,
        modeling_qwen3_vl.Qwen3VLVisionModel,
        {
            "toy": {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48}
            | {"out_hidden_size": 16, "deepstack_visual_indexes": [0]},
            "small": {"depth": 8, "hidden_size": 384, "num_heads": 6, "intermediate_size": 1024}
            | {"out_hidden_size": 512, "deepstack_visual_indexes": [3]},
            "large": {"depth": 24, "hidden_size": 1024, "num_heads": 16, "intermediate_size": 4096}
            | {"out_hidden_size": 2048, "deepstack_visual_indexes": [5, 11, 17]},
        },
    ),
}
"""Configuration, tower, and its shape by scale; `large` is that of the 7B and of the 2B model."""


class Compared(NamedTuple):
    """Calls of the attention and seconds of one forward, by transformers and by length; the largest
    difference between the features."""

    calls: tuple[int, int]
    seconds: tuple[float, float]
    differ: float


@contextmanager
def _counted() -> Iterator[list[int]]:
    """Queries of each call of PyTorch's attention in the block."""
    found: list[int] = []
    usual = functional.scaled_dot_product_attention

    def counted(query: torch.Tensor, *given: Any, **options: Any) -> torch.Tensor:
        found.append(query.shape[-2])
        return usual(query, *given, **options)

    places: list[Any] = [functional, varlen]
    for place in places:
        place.scaled_dot_product_attention = counted
    try:
        yield found
    finally:
        for place in places:
            place.scaled_dot_product_attention = usual


@torch.inference_mode()
def compared(
    name: str, scale: str, grids: Sequence[tuple[int, int, int]], rounds: int, device: str, dtype: str
) -> Compared:
    """One tower both ways on the same patches.

    Args:
        name: of `TOWERS`.
        scale: toy, small or large.
        grids: patches of each picture.
        rounds: timed rounds.
        device: of torch.
        dtype: of torch, by name.
    """
    configuration, kind, shapes = TOWERS[name]
    torch.manual_seed(0)
    place = device_of(device)
    tower = kind._from_config(configuration(**shapes[scale]), attn_implementation="sdpa")
    tower = tower.to(place, getattr(torch, dtype)).eval()
    config = tower.config
    grid = torch.tensor(grids, device=place)
    width = config.in_channels * config.temporal_patch_size * config.patch_size**2
    patches = torch.randn(int(grid.prod(1).sum()), width, device=place).to(getattr(torch, dtype))

    def run(attention: str) -> tuple[float, torch.Tensor]:
        config._attn_implementation = attention
        begun = time.perf_counter()
        found: torch.Tensor = tower(patches, grid).pooler_output
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        return time.perf_counter() - begun, found

    varlen.attend_by_length(tower)
    ways, calls, features = ("sdpa", varlen.NAME), [], []
    for way in ways:
        with _counted() as each:
            features.append(run(way)[1])
        calls.append(len(each))
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            seconds[way].append(run(way)[0])
    theirs, ours = (median(seconds[way]) for way in ways)
    differ = float((features[0] - features[1]).abs().max())
    return Compared((calls[0], calls[1]), (theirs, ours), differ)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scale", choices=("toy", "small", "large"), default="small")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto: CUDA if any")
    parser.add_argument("--dtype", choices=SAME, default="float32")
    options = parser.parse_args(given)
    if options.rounds < 1:
        parser.error("--rounds is 1 or more")
    print("| tower | eight pictures | calls | by length | s | by length | times | differ |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    met = True
    for name in TOWERS:
        for what, grids in (("alike", ALIKE), ("unlike", UNLIKE)):
            one = compared(name, options.scale, grids, options.rounds, options.device, options.dtype)
            (theirs, ours), (usual, own) = one.calls, one.seconds
            times = f"{usual:.3f} | {own:.3f} | {usual / own:.2f}"
            print(f"| {name} | {what} | {theirs} | {ours} | {times} | {one.differ:.1e} |", flush=True)
            met &= one.differ <= SAME[options.dtype] and (what == "unlike" or ours <= CALLS * theirs)
    print(f"\nequal features, and at most {CALLS:.0%} of the calls: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
