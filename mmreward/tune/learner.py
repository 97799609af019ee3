"""The part of training that every method shares: gradients over all processes, the optimiser step, the
average."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from .config import EmaConfig, OptimiserConfig
from .generator import Generator
from .weights import Average, Weights


class Learner:
    """Trains a generator's weights with AdamW.

    Gradients are summed over the processes, so a loss must be divided by what all of them have together.

    Args:
        generator: the policy; its network has got its LoRA layers already.
        weights: what is trained of it.
        optimiser: learning rate and so on.
        ema: the average that is evaluated and saved; None for the weights themselves.
        accelerator: the process group and the precision.
        shard: spread the frozen weights over the processes.

    Raises:
        ValueError: shard without LoRA, or in a single process.
    """

    def __init__(
        self,
        generator: Generator,
        weights: Weights,
        optimiser: OptimiserConfig,
        ema: EmaConfig | None,
        accelerator: Accelerator,
        *,
        shard: bool = False,
    ) -> None:
        self.generator, self.weights, self.accelerator = generator, weights, accelerator
        self.sharded = shard
        if shard:
            _shard(weights, accelerator)
        self._parameters = list(weights.parameters.values())
        self._config = optimiser
        self.optimiser = torch.optim.AdamW(
            self._parameters,
            lr=optimiser.lr,
            betas=optimiser.betas,
            weight_decay=optimiser.weight_decay,
            eps=optimiser.eps,
        )
        self.average = Average(weights, ema.decay, ema.every) if ema is not None else None
        self.steps = 0

    def autocast(self) -> AbstractContextManager[None]:
        """The precision in which the network runs; in sampling and in training alike."""
        context: AbstractContextManager[None] = self.accelerator.autocast()
        return context

    def step(self) -> float:
        """Sum the gradients over the processes, clip them, and update; returns their norm.

        Raises:
            FloatingPointError: the gradient is not finite. Nothing has been updated.
        """
        self._sum_gradients()
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._config.clip))
        if not torch.isfinite(torch.tensor(norm)):
            raise FloatingPointError(f"the gradient's norm is {norm} at optimiser step {self.steps}")
        warm = min(1.0, (self.steps + 1) / self._config.warmup) if self._config.warmup else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = self._config.lr * warm
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.steps += 1
        if self.average is not None:
            self.average.update(self.weights)
        return norm

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network runs with the averaged weights inside."""
        with nullcontext() if self.average is None else self.weights.using(self.average.copy):
            yield

    def _sum_gradients(self) -> None:
        missing = [p for p in self._parameters if p.grad is None]
        for parameter in missing:  # processes must agree on what is summed
            parameter.grad = torch.zeros_like(parameter)
        if self.accelerator.num_processes == 1:
            return
        flat = torch.cat([p.grad.flatten() for p in self._parameters if p.grad is not None])
        torch.distributed.all_reduce(flat)
        offset = 0
        for parameter in self._parameters:
            size = parameter.numel()
            parameter.grad = flat[offset : offset + size].view_as(parameter).clone()
            offset += size


def _shard(weights: Weights, accelerator: Accelerator) -> None:
    """Spread the frozen weights block by block; LoRA layers stay whole, their gradients are summed by us."""
    if not weights.lora:
        raise ValueError("shard spreads frozen weights: it needs LoRA (lora.rank)")
    if accelerator.distributed_type == DistributedType.NO:
        raise ValueError(
            "shard needs several processes: start with `accelerate launch --multi_gpu` or torchrun"
        )
    from torch.distributed.fsdp import fully_shard

    whole = set(weights.parameters.values())
    lists = [m for m in weights.network.modules() if isinstance(m, torch.nn.ModuleList)]
    blocks = [block for blocks in lists for block in blocks if any(True for _ in block.parameters())]
    outermost = [b for b in blocks if not any(b is not o and b in set(o.modules()) for o in blocks)]
    for block in outermost:
        fully_shard(block, ignored_params=whole & set(block.parameters()))
    fully_shard(weights.network, ignored_params=whole)
