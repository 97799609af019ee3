"""A tiny random SARM in LeRobot's format, with the statistics of its states beside it."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

STATES, STAGES = 3, {"sparse": 3, "dense": 5}
SHARES = {"sparse": [0.2, 0.5, 0.4], "dense": [0.1, 0.2, 0.3, 0.2, 0.2]}
WIDTH, LAYERS, HEADS, GAP, WINDOW = 16, 2, 2, 2, 4


def _tower(dim: int, streams: int, outputs: dict[str, int], draw: torch.Generator) -> dict[str, torch.Tensor]:
    shapes = {"lang_proj": (WIDTH, dim), "visual_proj": (WIDTH, dim), "state_proj": (WIDTH, 6)}
    shapes |= {"fusion_backbone.1": (WIDTH, WIDTH * streams)}
    shapes |= {f"heads.{name}": (count, WIDTH) for name, count in outputs.items()}
    norms = {"fusion_backbone.0": WIDTH * streams}
    found: dict[str, torch.Tensor] = {"first_pos": torch.randn((1, WIDTH), generator=draw)}
    for layer in range(LAYERS):
        own = f"transformer.layers.{layer}"
        found |= {
            f"{own}.self_attn.in_proj_weight": torch.randn((3 * WIDTH, WIDTH), generator=draw) * 0.4,
            f"{own}.self_attn.in_proj_bias": torch.randn(3 * WIDTH, generator=draw) * 0.1,
        }
        shapes |= {f"{own}.self_attn.out_proj": (WIDTH, WIDTH), f"{own}.linear1": (4 * WIDTH, WIDTH)}
        shapes |= {f"{own}.linear2": (WIDTH, 4 * WIDTH)}
        norms |= {f"{own}.norm1": WIDTH, f"{own}.norm2": WIDTH}
    for name, shape in shapes.items():
        found[f"{name}.weight"] = torch.randn(shape, generator=draw) * 0.5
        found[f"{name}.bias"] = torch.randn(shape[0], generator=draw) * 0.2
    found["visual_proj.weight"] *= 4  # else every frame has nearly the same progress
    for name, count in outputs.items():
        if count == 1:
            found[f"heads.{name}.weight"] *= 0.2  # progress within a stage, which is not to be 0 or 1
    for name, width in norms.items():
        found[f"{name}.weight"] = 1 + 0.1 * torch.randn(width, generator=draw)
        found[f"{name}.bias"] = 0.1 * torch.randn(width, generator=draw)
    return found


def save_sarm(folder: Path, dim: int, **changed: Any) -> str:
    """The folder of a SARM on a CLIP of so many dimensions; `changed` is said in its configuration."""
    draw = torch.Generator().manual_seed(7)
    towers = {
        "stage_model": _tower(dim, 3, STAGES, draw),
        "subtask_model": _tower(dim, 4, dict.fromkeys(STAGES, 1), draw),
    }
    folder.mkdir(parents=True)
    state = {f"{tower}.{name}": value for tower, found in towers.items() for name, value in found.items()}
    save_file(state, folder / "model.safetensors")
    told: dict[str, Any] = {
        "type": "sarm", "annotation_mode": "dual", "n_obs_steps": WINDOW, "frame_gap": GAP,
        "max_rewind_steps": 2, "image_dim": dim, "text_dim": dim, "hidden_dim": WIDTH, "num_heads": HEADS,
        "num_layers": LAYERS, "max_state_dim": 6, "state_key": "observation.state",
        "image_key": "observation.images.top",
    }  # fmt: skip
    for head, count in STAGES.items():
        told |= {f"num_{head}_stages": count, f"{head}_temporal_proportions": SHARES[head]}
    (folder / "config.json").write_text(json.dumps(told | changed))
    file = "policy_preprocessor_step_2_normalizer_processor.safetensors"
    statistics = {"mean": torch.tensor([0.5, -1.0, 2.0]), "std": torch.tensor([0.5, 2.0, 0.0])}
    save_file({f"observation.state.{name}": value for name, value in statistics.items()}, folder / file)
    steps = [{"registry_name": "to_batch_processor"}, {"registry_name": "rename_observations_processor"}]
    steps.append({"registry_name": "normalizer_processor", "state_file": file})
    told = {"name": "policy_preprocessor", "steps": steps}
    (folder / "policy_preprocessor.json").write_text(json.dumps(told))
    return str(folder)
