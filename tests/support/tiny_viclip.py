"""ViCLIP as it is released: a tiny random file of its names and shapes."""

from pathlib import Path

import torch

WIDTH, PATCH, GRID, FRAMES, SPACE, WORDS, LENGTH = 128, 8, 4, 8, 24, 49408, 32
SIDE = PATCH * GRID
LAYERS = {"vision_encoder": 2, "text_encoder": 2}
TEXT_WIDTH = 64


def save_viclip(file: Path, seed: int = 31) -> str:
    """The file, its tensors under "model" as published."""
    file.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "temp": (),
        "vision_encoder.class_embedding": (WIDTH,),
        "vision_encoder.positional_embedding": (GRID * GRID + 1, WIDTH),
        "vision_encoder.temporal_positional_embedding": (1, FRAMES, WIDTH),
        "vision_encoder.proj": (WIDTH, SPACE),
        "vision_encoder.conv1.weight": (WIDTH, 3, 1, PATCH, PATCH),
        "text_encoder.positional_embedding": (LENGTH, TEXT_WIDTH),
        "text_encoder.text_projection": (TEXT_WIDTH, SPACE),
        "text_encoder.token_embedding.weight": (WORDS, TEXT_WIDTH),
    }
    for name, width in (
        ("vision_encoder.ln_pre", WIDTH),
        ("vision_encoder.ln_post", WIDTH),
        ("text_encoder.ln_final", TEXT_WIDTH),
    ):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for side, width in (("vision_encoder", WIDTH), ("text_encoder", TEXT_WIDTH)):
        for layer in range(LAYERS[side]):
            block = f"{side}.transformer.resblocks.{layer}."
            for name, out, given in (
                ("attn.out_proj", width, width),
                ("mlp.c_fc", 4 * width, width),
                ("mlp.c_proj", width, 4 * width),
            ):
                shapes |= {f"{block}{name}.weight": (out, given), f"{block}{name}.bias": (out,)}
            shapes |= {f"{block}attn.in_proj_weight": (3 * width, width)}
            shapes |= {f"{block}attn.in_proj_bias": (3 * width,)}
            for name in ("ln_1", "ln_2"):
                shapes |= {f"{block}{name}.weight": (width,), f"{block}{name}.bias": (width,)}
    state = {}
    for name, shape in shapes.items():
        scale = 0.2 if len(shape) < 2 else float(torch.tensor(shape[1:]).prod()) ** -0.5 * 1.5
        one = "ln_" in name and name.endswith("weight")
        state[name] = torch.randn(shape, generator=generator) * scale + float(one)
    torch.save({"model": state}, file)
    return str(file)
