"""Benchmarks: published label files, the rules by which predictions for them are measured, and their units.

`mmreward benchmark` lists them; `mmreward benchmark NAME PREDICTIONS --data LABELS` measures a file of
predictions, `mmreward benchmark NAME --reward REWARD --data LABELS` a reward of this suite, which resumes.

A benchmark is one file of this folder with a `Benchmark` in it (see `benchmark.py`) and a line in
`BENCHMARKS`. The labels are read as their publishers give them; nothing is fetched.
"""

from importlib import import_module

from mmreward.errors import nearest

from .benchmark import Benchmark

BENCHMARKS: dict[str, str] = {
    "agentrewardbench": "agent_reward_bench",
    "androidcontrol": "android_control",
    "gui-odyssey": "gui_odyssey",
    "mmbench-gui-l2": "grounding_sets:MMBENCH",
    "osworld-g": "osworld_g",
    "plan-rewardbench": "plan_rewardbench",
    "roboarena": "roboarena",
    "robot-episodes": "episodes",
    "roborewardbench": "roboreward",
    "screenspot": "screenspot:V1",
    "screenspot-pro": "screenspot:PRO",
    "screenspot-v2": "screenspot:V2",
    "ui-i2e": "grounding_sets:I2E",
    "ui-vision": "grounding_sets:VISION",
    "venusbench-gd": "grounding_sets:VENUS",
    "webprmbench": "webprmbench",
}
"""Name -> module of this folder, or "module:NAME" where a module holds several."""


def benchmark(name: str) -> Benchmark:
    """The benchmark of this name.

    Raises:
        ValueError: there is none; says which one may be meant.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"no benchmark {name!r}: {nearest(name, BENCHMARKS)}")
    module, _, attribute = BENCHMARKS[name].partition(":")
    found: Benchmark = getattr(import_module(f".{module}", __name__), attribute or "BENCHMARK")
    return found


def benchmarks() -> list[Benchmark]:
    """All of them, by name."""
    return [benchmark(name) for name in sorted(BENCHMARKS)]
