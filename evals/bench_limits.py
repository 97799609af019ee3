"""What a device could do at best: the work of a bare forward, counted, over the rate vendors print.

45 % of the peak is what well-tuned transformers reach, and what the limits of published comparisons assume.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

from .bench_tasks import Run

PEAKS = {
    "H200": {"bfloat16": 989e12, "float16": 989e12, "float32": 67e12},
    "H100": {"bfloat16": 989e12, "float16": 989e12, "float32": 67e12},
    "A100": {"bfloat16": 312e12, "float16": 312e12, "float32": 19.5e12},
}
"""Dense FLOP/s of the SXM boards, without TF32, which torch leaves off by default."""
REACHED = 0.45


def count(run: Run) -> int:
    """FLOPs of the matrix products and attentions in it; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def limit(flops: int, device: torch.device, dtype: str) -> float | None:
    """Seconds for this many FLOPs at 45 % of the device's peak; None for a device not listed."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    peak = next((rates[dtype] for known, rates in PEAKS.items() if known in name), None)
    return None if peak is None else flops / (REACHED * peak)
