"""Trained weights of a generator's network, and the learner: LoRA layers or all weights, optimiser step,
average.

A copy is a dict of tensors by name. `TrainedWeights.using` runs the network with a copy for a while, so the
policy of the last round, an average and a frozen reference need no second network. `Learner` is the part of
training that every method shares: gradients over all processes, the optimiser step, the average.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

from ..generator import Generator
from .config import EmaConfig, OptimiserConfig

Copy = dict[str, torch.Tensor]


class TrainedWeights:
    """Trained weights of a generator's network, in float32.

    Args:
        generator: its network gets LoRA layers, in place, or is trained as a whole.
        rank: of the LoRA layers; 0 trains every weight.
        alpha: LoRA's scale is alpha / rank; 2 rank unless given.
        targets: ends of the names of the layers that get LoRA; None takes the generator's own.
        seed: of the LoRA layers' first weights.
        checkpointing: compute activations again in backward passes instead of keeping them.

    Raises:
        ValueError: no layer of the network has such a name, or it knows no checkpointing.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        rank: int = 32,
        alpha: float | None = None,
        targets: tuple[str, ...] | None = None,
        seed: int = 0,
        checkpointing: bool = False,
    ) -> None:
        self.network = generator.network
        if checkpointing:
            _checkpoint(self.network)
        self.lora = rank > 0
        targets = targets or generator.lora_targets
        alpha = 2 * rank if alpha is None else alpha
        self._scale = alpha / rank if self.lora else 1.0
        if self.lora:
            self.network.requires_grad_(False)
            config = LoraConfig(
                r=rank,
                lora_alpha=alpha,
                target_modules=list(targets),
                init_lora_weights="gaussian",
            )
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                inject_adapter_in_model(config, self.network)
        else:
            self.network.requires_grad_(True)
        # With dropout, the policy that is trained would be another than the one that drew.
        self.network.eval()
        self.parameters = {
            name: parameter for name, parameter in self.network.named_parameters() if parameter.requires_grad
        }
        for parameter in self.parameters.values():
            parameter.data = parameter.data.float()
        self._initial = None if self.lora else self.copy()

    def copy(self) -> Copy:
        """The weights as they are now."""
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def set(self, copy: Mapping[str, torch.Tensor]) -> None:
        """Write a copy back.

        Raises:
            ValueError: it is of another network, or of LoRA layers of other sizes.
        """
        if {n: t.shape for n, t in copy.items()} != {n: p.shape for n, p in self.parameters.items()}:
            raise ValueError(
                "these weights are of another network, or of LoRA layers elsewhere or of another rank"
            )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(copy[name])

    @contextmanager
    def using(self, copy: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """The network runs with `copy` inside; backward passes belong outside."""
        own = {name: parameter.data for name, parameter in self.parameters.items()}
        try:
            for name, parameter in self.parameters.items():
                parameter.data = copy[name]
            yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.data = own[name]

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The network as it was before training: LoRA switched off, or the first weights in place."""
        if self._initial is not None:
            with self.using(self._initial):
                yield
            return
        layers = [module for module in self.network.modules() if isinstance(module, BaseTunerLayer)]
        try:
            for layer in layers:
                layer._disable_adapters = True  # `enable_adapters` would also take the gradients off
            yield
        finally:
            for layer in layers:
                layer._disable_adapters = False

    def save(self, folder: Path) -> None:
        """Write what diffusers reads: LoRA layers for `pipe.load_lora_weights(folder)`, or whole networks for
        `from_pretrained`.

        Of a network with two experts (Wan 2.2) the second lies in folder/transformer_2; its LoRA layers need
        `load_into_transformer_2=True`. LoRA's scale is multiplied into the layers, as not every loader knows
        where to find it.
        """
        parts = experts(self.network) or {"": self.network}
        state = self._scaled() if self.lora else {}
        for number, (name, part) in enumerate(parts.items()):
            place = folder / f"transformer_{number + 1}" if number else folder
            place.mkdir(parents=True, exist_ok=True)
            if not self.lora:
                part.save_pretrained(place)  # type: ignore[operator]  # every denoiser is a ModelMixin
                continue
            role = "unet" if "UNet" in type(part).__name__ else "transformer"
            start = name and f"{name}."
            own = {key: value for key, value in state.items() if key.startswith(start)}
            named = {f"{role}.{key[len(start) :]}": value for key, value in own.items()}
            save_file(named, place / "pytorch_lora_weights.safetensors", metadata={"format": "pt"})

    def _scaled(self) -> Copy:
        """The LoRA layers under diffusers' names, with a scale of 1."""
        return {
            name: (tensor * self._scale if ".lora_B." in name else tensor).detach().cpu().contiguous()
            for name, tensor in get_peft_model_state_dict(self.network).items()
        }


def experts(network: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The networks of a family with several experts, by name; empty for a single network."""
    return dict(network.items()) if isinstance(network, torch.nn.ModuleDict) else {}


def _checkpoint(network: torch.nn.Module) -> None:
    """Gradient checkpointing as diffusers has it, block by block; it is off wherever gradients are."""
    for part in experts(network).values() or [network]:
        if not getattr(part, "_supports_gradient_checkpointing", False):
            raise ValueError(f"{type(part).__name__} cannot recompute activations: set checkpointing: false")
        part.enable_gradient_checkpointing()  # type: ignore[operator]


def blend(old: Copy, new: Mapping[str, torch.Tensor], decay: float) -> None:
    """old <- decay old + (1 - decay) new, in place."""
    with torch.no_grad():
        for name, tensor in old.items():
            tensor.lerp_(new[name].to(tensor), 1 - decay)


class Average:
    """Exponential moving average of the weights, with flow_grpo's warm-up min((1 + n) / (10 + n), decay).

    Args:
        decay: per update of the average.
        every: optimiser steps between two updates.
    """

    def __init__(self, weights: TrainedWeights, decay: float = 0.9, every: int = 8) -> None:
        self.decay, self.every = decay, every
        self.copy = weights.copy()
        self.steps = 0

    def update(self, weights: TrainedWeights) -> None:
        """To be called after every optimiser step."""
        self.steps += 1
        if self.steps % self.every == 0:
            number = self.steps // self.every
            blend(self.copy, weights.parameters, min((1 + number) / (10 + number), self.decay))


def read_weights(path: Path) -> Copy:
    """Read a copy that `write_weights` wrote."""
    return dict(load_file(path))


def write_weights(copy: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a copy as safetensors."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in copy.items()}, path)


class Learner:
    """AdamW on a generator's trained weights, over all processes.

    Gradients are summed over the processes, so a loss must be divided by what all of them have together.

    Args:
        generator: the policy; its network has got its LoRA layers already.
        weights: the trained ones of its network.
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
        weights: TrainedWeights,
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


def _shard(weights: TrainedWeights, accelerator: Accelerator) -> None:
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
