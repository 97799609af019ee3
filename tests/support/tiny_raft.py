"""RAFT as it is released (raft-things.pth): a tiny random file of its names and shapes."""

from pathlib import Path

import torch

HIDDEN, CONTEXT, RADIUS, LEVELS = 6, 5, 2, 4
STEM, STAGES, FEATURES = 8, (8, 10, 12), 16
SLOW = 0.0345
CORRELATION, FLOW, MOTION, HEAD, MASK = (12, 10), (8, 6), 9, 8, 7


def save_raft(file: Path, seed: int = 17) -> str:
    """The file, its names behind "module." as published, with `norm3` beside `downsample.1`."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def conv(name: str, out: int, given: int, *kernel: int) -> None:
        scale = (given * kernel[0] * kernel[1]) ** -0.5
        state[f"{name}.weight"] = torch.randn(out, given, *kernel, generator=generator) * scale
        state[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.1

    def norm(name: str, wide: int) -> dict[str, torch.Tensor]:
        return {
            f"{name}.weight": 1 + 0.1 * torch.randn(wide, generator=generator),
            f"{name}.bias": 0.1 * torch.randn(wide, generator=generator),
            f"{name}.running_mean": 0.1 * torch.randn(wide, generator=generator),
            f"{name}.running_var": 0.5 + torch.rand(wide, generator=generator),
            f"{name}.num_batches_tracked": torch.tensor(7),
        }

    for net, out in (("fnet", FEATURES), ("cnet", HIDDEN + CONTEXT)):
        batch = net == "cnet"
        conv(f"{net}.conv1", STEM, 3, 7, 7)
        state |= norm(f"{net}.norm1", STEM) if batch else {}
        given = STEM
        for number, wide in enumerate(STAGES, 1):
            for block in (0, 1):
                own = f"{net}.layer{number}.{block}"
                conv(f"{own}.conv1", wide, given, 3, 3)
                conv(f"{own}.conv2", wide, wide, 3, 3)
                if batch:
                    state |= norm(f"{own}.norm1", wide) | norm(f"{own}.norm2", wide)
                if block == 0 and number > 1:
                    conv(f"{own}.downsample.0", wide, given, 1, 1)
                    if batch:
                        third = norm(f"{own}.norm3", wide)
                        state |= third
                        state |= {key.replace("norm3", "downsample.1"): one for key, one in third.items()}
                given = wide
        conv(f"{net}.conv2", out, given, 1, 1)
    own = "update_block.encoder"
    conv(f"{own}.convc1", CORRELATION[0], LEVELS * (2 * RADIUS + 1) ** 2, 1, 1)
    conv(f"{own}.convc2", CORRELATION[1], CORRELATION[0], 3, 3)
    conv(f"{own}.convf1", FLOW[0], 2, 7, 7)
    conv(f"{own}.convf2", FLOW[1], FLOW[0], 3, 3)
    conv(f"{own}.conv", MOTION, CORRELATION[1] + FLOW[1], 3, 3)
    given = HIDDEN + CONTEXT + MOTION + 2
    for gate in "zrq":
        conv(f"update_block.gru.conv{gate}1", HIDDEN, given, 1, 5)
        conv(f"update_block.gru.conv{gate}2", HIDDEN, given, 5, 1)
    conv("update_block.flow_head.conv1", HEAD, HIDDEN, 3, 3)
    conv("update_block.flow_head.conv2", 2, HEAD, 3, 3)
    for part in ("weight", "bias"):  # motions about VBench's threshold, after twenty steps of them
        state[f"update_block.flow_head.conv2.{part}"] *= SLOW
    conv("update_block.mask.0", MASK, HIDDEN, 3, 3)
    conv("update_block.mask.2", 64 * 9, MASK, 1, 1)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, file)
    return str(file)
