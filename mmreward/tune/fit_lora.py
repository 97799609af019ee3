"""Training a Qwen-VL's LoRA adapter along with its preference head, on compared pairs.

It begins with the head that was fitted on the frozen backbone, and stops by the same pairs: where the adapter
does not help, the step is 0 and the adapter adds nothing. The vision tower stays as it is. Memory and time
are those of a forward and a backward pass of `TOGETHER` pairs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data.response_pairs import AnyPair, halves_of
from ..models.preferences import PreferenceHead
from ..models.states import asked_of
from ..models.vlms.qwen import QwenVL
from .fit_loop import Accuracy, EmbeddedPairs, HeadSettings, examined, finished, losses, mean_loss

TOGETHER, EVERY, PATIENCE = 8, 10, 6
"""Pairs of a step, steps between two looks at the stopping pairs, and looks without a gain before the end."""
RATE, HEAD_RATE, WARM = 2e-4, 1e-4, 10
"""Of AdamW, for adapter and head, and steps in which the rate rises."""
LAYERS = r".*language_model.*\.(q|k|v|o)_proj"
"""Layers that get an adapter: the language model's attention."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A trained adapter, in peft's format."""

    model: Any

    def write(self, folder: Path) -> None:
        """Write it as `peft` does, which `models.vlm` reads."""
        self.model.save_pretrained(folder)


def trained(
    network: QwenVL,
    question: str,
    head: PreferenceHead,
    embedded: tuple[EmbeddedPairs, EmbeddedPairs, EmbeddedPairs],
    pairs: Sequence[Sequence[AnyPair]],
    settings: HeadSettings,
) -> tuple[Adapter, PreferenceHead, int, Accuracy]:
    """The adapter and the head with the lowest loss on the stopping pairs, the step it was reached at, and
    the accuracy on the held-out ones.

    Args:
        network: of its own; the adapter is put into it.
        question: with {prompt}.
        head: fitted on the frozen backbone.
        embedded: the pairs to fit on, to stop by and to measure, by the frozen backbone.
        pairs: the same, as they are.
        settings: of the fit.
    """
    model = _adapted(network, settings)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    head.train().requires_grad_(True)
    groups = [{"params": weights, "lr": RATE}, {"params": list(head.parameters()), "lr": HEAD_RATE}]
    adam = torch.optim.AdamW(groups, weight_decay=0.01)
    warm = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: min(1.0, (step + 1) / WARM))
    source = torch.Generator().manual_seed(settings.seed)

    def read(number: int, rows: Sequence[int] | None = None) -> EmbeddedPairs:
        known, some = embedded[number], pairs[number]
        chosen = range(len(some)) if rows is None else rows
        kept = known.of(torch.tensor(chosen))
        halves = _readings(network, question, [some[row] for row in chosen])
        return kept._replace(chosen=halves[0], rejected=halves[1])

    def without_gradient(number: int) -> EmbeddedPairs:
        with torch.no_grad():
            every = range(len(pairs[number]))
            parts = [read(number, every[at : at + TOGETHER]) for at in every[::TOGETHER]]
        halves = (torch.cat([getattr(part, name) for part in parts]) for name in ("chosen", "rejected"))
        chosen, rejected = halves
        return embedded[number]._replace(chosen=chosen, rejected=rejected)

    def state() -> list[torch.Tensor]:
        return [weight.detach().clone() for weight in (*weights, *head.parameters())]

    best, least, reached = state(), mean_loss(head, embedded[1], settings), 0
    for step in range(1, settings.steps + 1):
        rows = torch.randint(len(pairs[0]), (TOGETHER,), generator=source).tolist()
        loss = losses(head, read(0, rows), settings).mean()
        adam.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_([*weights, *head.parameters()], 1.0)
        adam.step()
        warm.step()
        if step % EVERY == 0 or step == settings.steps:
            now = mean_loss(head, without_gradient(1), settings)
            if now < least and math.isfinite(now):
                best, least, reached = state(), now, step
            elif step - reached >= EVERY * PATIENCE:
                break
    with torch.no_grad():
        for weight, kept in zip((*weights, *head.parameters()), best, strict=True):
            weight.copy_(kept)
    head = finished(head, without_gradient(0))
    return Adapter(model), head, reached, examined(head, without_gradient(2), embedded[2])


def _adapted(network: QwenVL, settings: HeadSettings) -> Any:
    """peft's wrapper of the network's module, into which it puts the adapter."""
    from peft import LoraConfig, get_peft_model

    network.vision.forget()  # what was encoded in inference mode has no place in a graph
    module = network.module
    layers = LoraConfig(r=settings.rank, lora_alpha=2 * settings.rank, target_modules=LAYERS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return get_peft_model(module, layers).to(network.device)


def _readings(network: QwenVL, question: str, pairs: Sequence[AnyPair]) -> tuple[torch.Tensor, torch.Tensor]:
    """Readings of the chosen and the rejected ones."""
    halves = zip(*(halves_of(pair) for pair in pairs), strict=True)
    items = [asked_of(network, question, *half) for column in halves for half in column]
    both = network.readings(items)
    return both[: len(pairs)], both[len(pairs) :]
