"""From an engine's description to an engine."""

from .config import EngineConfig, RayConfig
from .engine.batching import Budget
from .engine.engine import Engine
from .engine.local import Placement


def engine_of(config: EngineConfig) -> Engine:
    """Make the engine.

    Raises:
        ValueError: `ray` beside a device or a limit that would be this process's own, or no cluster.
    """
    if config.ray is not None and (config.device != "auto" or config.resident_bytes is not None):
        raise ValueError("with engine.ray, actors own the devices: leave device and resident_bytes out")
    return Engine(
        config.device,
        budget=Budget(tokens=config.tokens, items=config.items),
        cache_bytes=config.cache_bytes,
        resident_bytes=config.resident_bytes,
        workers=config.workers,
        placement=_placement(config.ray, config.workers) if config.ray is not None else None,
    )


def _placement(config: RayConfig, workers: int) -> Placement:
    from .cluster import RayPlacement

    return RayPlacement(**config.model_dump(exclude_none=True), workers=workers)
