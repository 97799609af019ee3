"""Optical flow of two frames by RAFT (arXiv:2003.12039), from its publisher's file or torchvision's copy.

Op "fastest": mean length, in pixels, of the flow at the five per cent of pixels that move most, as VBench
(arXiv:2311.17982) reads it. The architecture is torchvision's; widths are read off the tensors, so that any
RAFT without the "small" blocks is loaded. raft-things.pth and torchvision's C_T_V1 are the same weights.
"""

import math
import re
from collections.abc import Mapping
from functools import cached_property
from typing import cast

import torch
import torch.nn.functional as F

from ..engine.batching import Cost
from ..engine.engine import current
from ..errors import Unscorable
from ..media import Media
from .base import TorchNetwork, loading
from .checkpoints import fill, state_of
from .pictures import decoded, in_turn
from .weights import placed

STRIDE = 8
"""Pixels along a place of the feature maps."""
LEVELS = 4
"""Of the pyramid of correlations."""
LEAST = STRIDE * 2**LEVELS
"""Pixels of the shorter side, padded: below, the pyramid's top is one place wide, and its flow is NaN."""
UPDATES = 20
"""Of the flow, as VBench has it."""
SHARE = 0.05
"""Of the pixels, which VBench looks at."""
PUBLISHED = (
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(\w+_encoder)\.(conv|norm)1\.", r"\1.convnormrelu.\2."),
    (r"^(\w+_encoder)\.conv2\.", r"\1.conv."),
    (r"\.(conv|norm)([12])\.(?=\w+$)(?<=\.layer\d\.\d\.\1\2\.)", r".convnormrelu\2.\1."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.gru\.conv([zrq])([12])\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
    (r"(convnormrelu\d?)\.conv\.", r"\1.0."),
    (r"(convnormrelu\d?)\.norm\.", r"\1.1."),
)
"""The publisher's names -> torchvision's, applied in order."""
TWICE = re.compile(r"\.norm3\.")
"""Tensors that the publisher's file has a second time, under `downsample.1`."""


class Raft(TorchNetwork):
    """One checkpoint.

    Args:
        weights: the file, by path or OWNER/NAME/FILE.
        dtype: of the network; as published float32.
    """

    def __init__(self, weights: str, *, dtype: str = "float32") -> None:
        super().__init__(placed(weights), dtype=dtype)
        self.name = weights

    async def fastest(self, before: Media, after: Media) -> float:
        """Mean length of the flow, in pixels, at the five per cent of pixels that move most.

        Raises:
            Unscorable: a frame is broken, or too small.
        """
        item = (before, after)
        key = (before.key, after.key)
        return cast(float, await current().submit(self, "fastest", item, key=key))

    @cached_property
    def state(self) -> dict[str, torch.Tensor]:
        with loading(self.name):
            return _renamed(state_of(self.source))

    def build(self) -> torch.nn.Module:
        try:
            module = _module(self.state)
        except KeyError as error:
            raise ValueError(f"it is no RAFT of the large kind: it has no {error}") from None
        fill(module, self.state, self.name)
        return module.to(self.dtype)

    def cost(self, op: str, item: tuple[Media, Media]) -> Cost:
        height, width = (math.ceil(side / STRIDE) * STRIDE for side in item[0].size)
        if min(height, width) < LEAST:
            raise Unscorable(
                f"frames of {item[0].size[1]} x {item[0].size[0]} pixels are too small for RAFT, whose "
                f"shorter side has {LEAST - STRIDE + 1} at least"
            )
        return Cost(height * width // STRIDE**2, 2 * 3 * 4 * height * width)

    def prepare(self, op: str, items: list[tuple[Media, Media]]) -> list[torch.Tensor]:
        return in_turn([item[0] for item in items], lambda index: _pair(items[index]))

    @torch.inference_mode()
    def forward(self, op: str, batch: list[torch.Tensor]) -> list[float]:
        results: list[float] = [math.nan] * len(batch)
        for shape in dict.fromkeys(pair.shape for pair in batch):
            rows = [row for row, pair in enumerate(batch) if pair.shape == shape]
            pairs = torch.stack([batch[row] for row in rows]).to(self.device, self.dtype)
            flow = self.module(pairs[:, 0], pairs[:, 1], num_flow_updates=UPDATES)[-1].float()
            lengths = flow.square().sum(1).sqrt().flatten(1)
            found = lengths.topk(int(lengths.shape[1] * SHARE), dim=1).values.mean(1)
            for row, value in zip(rows, found.cpu().tolist(), strict=True):
                results[row] = value
        return results


def _pair(item: tuple[Media, Media]) -> torch.Tensor:
    """Both frames (2, 3, H, W) in -1 to 1, the pixels at their edges repeated up to a multiple of 8, half of
    them on each side."""
    pair = torch.stack([decoded(media).cpu() for media in item]).float()
    height, width = pair.shape[2:]
    down, across = -height % STRIDE, -width % STRIDE
    padded = F.pad(pair, (across // 2, across - across // 2, down // 2, down - down // 2), mode="replicate")
    return 2 * (padded / 255) - 1


# --- the file -----------------------------------------------------------------------------------------------


def _renamed(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors by torchvision's names, from either file."""
    if not any(name.startswith("fnet.") for name in state):
        return dict(state)
    found = {}
    for name, tensor in state.items():
        if TWICE.search(name):
            continue
        for pattern, replacement in PUBLISHED:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found


def _module(state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """RAFT with the widths of these tensors."""
    from torchvision.models.optical_flow import raft as parts

    def wide(name: str) -> int:
        return int(state[f"{name}.weight"].shape[0])

    def encoder(name: str, norm: type[torch.nn.Module]) -> torch.nn.Module:
        blocks = [f"{name}.layer{number}.0.convnormrelu1.0" for number in (1, 2, 3)]
        layers = [wide(each) for each in (f"{name}.convnormrelu.0", *blocks, f"{name}.conv")]
        made = parts.FeatureEncoder(layers=layers, norm_layer=norm)
        return cast(torch.nn.Module, made)

    update = "update_block"
    own, hidden = f"{update}.motion_encoder", wide(f"{update}.recurrent_block.convgru1.convz")
    correlated = int(state[f"{own}.convcorr1.0.weight"].shape[1])
    correlations = parts.CorrBlock(num_levels=LEVELS, radius=(math.isqrt(correlated // LEVELS) - 1) // 2)
    motion = parts.MotionEncoder(
        in_channels_corr=correlated,
        corr_layers=(wide(f"{own}.convcorr1.0"), wide(f"{own}.convcorr2.0")),
        flow_layers=(wide(f"{own}.convflow1.0"), wide(f"{own}.convflow2.0")),
        out_channels=wide(f"{own}.conv.0") + 2,
    )
    context = wide("context_encoder.conv") - hidden
    block = parts.UpdateBlock(
        motion_encoder=motion,
        recurrent_block=parts.RecurrentBlock(input_size=motion.out_channels + context, hidden_size=hidden),
        flow_head=parts.FlowHead(in_channels=hidden, hidden_size=wide(f"{update}.flow_head.conv1")),
    )
    whole = parts.RAFT(
        feature_encoder=encoder("feature_encoder", torch.nn.InstanceNorm2d),
        context_encoder=encoder("context_encoder", torch.nn.BatchNorm2d),
        corr_block=correlations,
        update_block=block,
        mask_predictor=parts.MaskPredictor(in_channels=hidden, hidden_size=wide("mask_predictor.convrelu.0")),
    )
    return cast(torch.nn.Module, whole)
