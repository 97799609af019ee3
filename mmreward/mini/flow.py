"""mini-flow: rectified flow from a caption to a 32x32 picture, with the conventions of SD3 and FLUX.

x_t = (1 - t) x0 + t noise, the network predicts noise - x0, and t = 0 is the picture. A latent is the picture
with its 2x2 blocks folded into channels: (12, 16, 16) in [-1, 1]. This file trains, saves and loads the
networks and measures samples with the oracle; sampling is the business of `mmreward.generators`.
"""

import copy
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from PIL import Image
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from ..assets import ASSETS
from . import oracle, world
from .loop import Plan, fit, tokenizer

SIZE = 32
FOLD = 2
"""Side of the pixel blocks folded into channels."""
LENGTH = 20
"""Tokens a caption is padded to."""
WIDTH = 96
"""Width of the text encoder and of its outputs."""
CHANNELS = (32, 96)
"""Channels of the UNet at 16x16 and at 8x8; text enters at 8x8."""
STEPS, GUIDANCE = 12, 2.0
"""The default sampler."""
BATCH, STEPS_TRAINED, LR = 32, 3200, 1.5e-3
SIGMA_SHIFT = 0.4
"""Added to the logit of the noise level in training: the layout weighs more than the finish."""
DROPPED = 0.1
"""Share of captions blanked in training, for classifier-free guidance."""
FOLDER = ASSETS / "mini-flow"


class Flow(NamedTuple):
    """Parts of a mini-flow: networks, tokenizer and scheduler."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModelWithProjection
    tokenizer: PreTrainedTokenizerFast
    scheduler: FlowMatchEulerDiscreteScheduler


class Network(torch.nn.Module):
    """Text encoder and UNet, trained together."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, latents: torch.Tensor, sigma: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Velocity at latents (N, 12, 16, 16), noise levels (N,) in [0, 1], token ids (N, LENGTH)."""
        hidden, pooled = encode(self.text_encoder, tokens)
        return velocity(self.unet, latents, sigma, hidden, pooled)


def encode(
    text_encoder: CLIPTextModelWithProjection, tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (N, LENGTH) to hidden states (N, LENGTH, WIDTH) and pooled embeddings (N, WIDTH)."""
    out = text_encoder(input_ids=tokens)
    return out.last_hidden_state, out.text_embeds


def velocity(
    unet: UNet2DConditionModel,
    latents: torch.Tensor,
    sigma: torch.Tensor,
    hidden: torch.Tensor,
    pooled: torch.Tensor,
) -> torch.Tensor:
    """Velocity d x_t / d t of the UNet, in the shape of `latents`."""
    out = unet(latents, sigma * 1000, encoder_hidden_states=hidden, class_labels=pooled, return_dict=False)[0]
    return torch.as_tensor(out)


def fold(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (N, 3, H, W) in [0, 1] to latents (N, 12, H/2, W/2) in [-1, 1]."""
    return F.pixel_unshuffle(pixels * 2 - 1, FOLD)


def unfold(latents: torch.Tensor) -> torch.Tensor:
    """Latents (N, 12, h, w) to pixels (N, 3, 2 h, 2 w) in [0, 1]."""
    return ((F.pixel_shuffle(latents, FOLD) + 1) / 2).clamp(0, 1)


def build() -> Flow:
    """The untrained networks."""
    words = tokenizer(LENGTH)
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        hidden_act="gelu",
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        initializer_factor=1.0,
    )
    unet = UNet2DConditionModel(
        sample_size=SIZE // FOLD,
        in_channels=3 * FOLD**2,
        out_channels=3 * FOLD**2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=WIDTH,
        use_linear_projection=True,
    )
    return Flow(unet, CLIPTextModelWithProjection(text), words, FlowMatchEulerDiscreteScheduler(shift=1.0))


class FlowPool(NamedTuple):
    """Pictures rendered ahead of training, uint8 (N, 3, 32, 32), and their captions' tokens, (N, LENGTH)."""

    pictures: torch.Tensor
    tokens: torch.Tensor


def tokenize(words: PreTrainedTokenizerFast, captions: Sequence[str]) -> torch.Tensor:
    """Token ids (N, LENGTH), padded and cut to length."""
    ids = words(list(captions), padding="max_length", truncation=True, max_length=LENGTH)["input_ids"]
    return torch.tensor(ids, dtype=torch.long)


def render_pool(words: PreTrainedTokenizerFast, count: int, seed: int) -> FlowPool:
    """Training pictures of `count` fresh scenes, and their captions."""
    rng = np.random.default_rng((seed, 1))
    pictures = np.empty((count, SIZE, SIZE, 3), dtype=np.uint8)
    captions = []
    for index in range(count):
        scene = world.sample_scene(rng)
        pictures[index] = np.asarray(world.render(scene, SIZE))
        captions.append(str(world.describe(scene, rng, relations=0.3)))
    return FlowPool(torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), tokenize(words, captions))


def train(out: Path, scale: float, seed: int) -> None:
    """Train from scratch (or from the checkpoint of a run cut short) and save under `out`/mini-flow."""
    torch.manual_seed(seed)
    flow = build()
    network = Network(flow.unet, flow.text_encoder).to(memory_format=torch.channels_last)
    pool = render_pool(flow.tokenizer, max(256, int(80_000 * min(1.0, scale))), seed)
    blank = tokenize(flow.tokenizer, [""])[0]

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, Mapping[str, float]]:
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        picked = torch.randint(len(pool.pictures), (BATCH,), generator=generator)
        clean = fold(pool.pictures[picked].float() / 255)
        tokens = pool.tokens[picked].clone()
        tokens[torch.rand(BATCH, generator=generator) < DROPPED] = blank
        pure = torch.randn(clean.shape, generator=generator)
        sigma = torch.sigmoid(torch.randn(BATCH, generator=generator) + SIGMA_SHIFT)
        noisy = clean.lerp(pure, sigma[:, None, None, None]).contiguous(memory_format=torch.channels_last)
        return F.mse_loss(network(noisy, sigma, tokens), pure - clean), {}

    plan = Plan(steps=int(STEPS_TRAINED * scale), lr=LR, ema=0.999, seed=seed)
    fit(network, loss, plan, out / ".checkpoints" / "mini-flow.pt")
    save(flow, out / "mini-flow")


def save(flow: Flow, folder: Path) -> None:
    """Write the folder as diffusers does, weights in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"_class_name": "MiniFlow"}
    parts: dict[str, Any] = flow._asdict()
    for name, part in parts.items():
        half = copy.deepcopy(part).half() if name in ("unet", "text_encoder") else part
        half.save_pretrained(folder / name)
        index[name] = [type(part).__module__.split(".")[0], Flow.__annotations__[name].__name__]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def load(folder: Path = FOLDER, dtype: torch.dtype = torch.float32) -> Flow:
    """Read a saved mini-flow, ready for sampling."""
    if not (folder / "model_index.json").is_file():
        raise ValueError(
            f"no mini-flow in {str(folder)!r}; train one with: python -m mmreward.mini.train flow"
        )
    return Flow(
        UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype).eval(),
        CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder", dtype=dtype).eval(),
        PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"),
        FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
    )


def noise(seeds: Sequence[int]) -> torch.Tensor:
    """Gaussian latents (N, 12, 16, 16), drawn on the CPU: a seed means the same anywhere, in any batch."""
    shape = (3 * FOLD**2, SIZE // FOLD, SIZE // FOLD)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(int(s))) for s in seeds])


@torch.inference_mode()
def draw(
    flow: Flow, captions: Sequence[str], seeds: Sequence[int], steps: int = STEPS, guidance: float = GUIDANCE
) -> list[Image.Image]:
    """One picture per caption and seed by Euler steps: the yardstick this file measures itself with."""
    tokens = tokenize(flow.tokenizer, [*captions, *[""] * len(captions)])
    hidden, pooled = encode(flow.text_encoder, tokens)
    latents = noise(seeds)
    sigmas = torch.linspace(1, 0, steps + 1)
    for now, after in itertools.pairwise(sigmas):
        both = velocity(flow.unet, torch.cat([latents, latents]), now.expand(len(tokens)), hidden, pooled)
        given, blank = both.chunk(2)
        latents = latents + (after - now) * (blank + guidance * (given - blank))
    pixels = (unfold(latents) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(picture) for picture in pixels]


def held_out(count: int, seed: int = 10_007) -> list[world.Caption]:
    """Held-out captions, from a seed of their own; short ones also occur in training, as this world has
    few."""
    rng = np.random.default_rng((seed, 2))
    return [world.describe(world.sample_scene(rng), rng, relations=0.3) for _ in range(count)]


def measure(
    folder: Path = FOLDER, count: int = 256, steps: int = STEPS, guidance: float = GUIDANCE
) -> dict[str, float]:
    """Oracle-strict accuracy and object F1 over `count` held-out captions, one picture each."""
    captions = held_out(count)
    flow = load(folder)
    pictures = []
    for start in range(0, count, 64):
        texts = [str(caption) for caption in captions[start : start + 64]]
        pictures += draw(flow, texts, range(start, start + len(texts)), steps=steps, guidance=guidance)
    verdicts = [oracle.judge(*pair) for pair in zip(pictures, captions, strict=True)]
    return {
        "strict": float(np.mean([verdict.strict for verdict in verdicts])),
        "object_f1": float(np.mean([verdict.f1 for verdict in verdicts])),
        "n": float(count),
    }
