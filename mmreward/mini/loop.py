"""Training loop of the four miniature models: seeded, resumable, with a progress bar; and the captions'
tokenizer.

A model brings a module and a function `loss(step, rng) -> (tensor, figures)`. Every step draws from its own
generator, seeded by (seed, step), so a resumed run sees the data it would have seen.

`tokenizer` is the word-level tokenizer that mini-flow and mini-clip share; it knows the words of captions
only.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ..files import whole_file
from . import world

# --- training -------------------------------------------------------------------------------------

Loss = Callable[[int, np.random.Generator], tuple[torch.Tensor, Mapping[str, float]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Training options: after `warmup` steps `lr` falls along a cosine to 0.05 of it; `ema` 0 keeps raw
    weights."""

    steps: int
    lr: float
    warmup: int = 200
    weight_decay: float = 0.01
    ema: float = 0.0
    clip: float = 1.0
    seed: int = 0
    save_every: float = 60.0
    """Seconds between checkpoints."""
    log_every: int = 100


def fit(module: torch.nn.Module, loss: Loss, plan: Plan, checkpoint: Path) -> torch.nn.Module:
    """Train `module` in place and return it with the final (EMA, if any) weights.

    A checkpoint at `checkpoint` is continued from and never removed: delete it to start again.
    """
    optimizer = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=plan.lr,
        betas=(0.9, 0.98),
        weight_decay=plan.weight_decay,
        fused=True,
    )
    average = {k: v.detach().clone() for k, v in module.state_dict().items()} if plan.ema else {}
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        average, start = state["average"], state["step"]
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    saved = time.monotonic()
    sums: dict[str, float] = {}
    module.train()
    console = Console()
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[figures]}"), console=console
    ) as bar:
        task = bar.add_task(checkpoint.stem, total=plan.steps, completed=start, figures="")
        for step in range(start, plan.steps):
            for group in optimizer.param_groups:
                group["lr"] = plan.lr * schedule(step, plan)
            value, figures = loss(step, np.random.default_rng((plan.seed, step)))
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(value)
            torch.nn.utils.clip_grad_norm_(module.parameters(), plan.clip)
            optimizer.step()
            _update(average, module, min(plan.ema, (1 + step) / (10 + step)))
            for name, figure in {"loss": value.item(), **figures}.items():
                sums[name] = sums.get(name, 0.0) + figure
            done = step + 1
            bar.advance(task)
            if done % plan.log_every == 0:
                text = "  ".join(f"{name} {total / plan.log_every:.4f}" for name, total in sums.items())
                bar.update(task, figures=text)
                if not console.is_terminal:
                    console.print(f"{checkpoint.stem} {done}/{plan.steps}  {text}", highlight=False)
                sums.clear()
            if done == plan.steps or time.monotonic() - saved > plan.save_every:
                state = {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
                with whole_file(checkpoint) as part:
                    torch.save({**state, "average": average, "step": done}, part)
                saved = time.monotonic()
    if average:
        module.load_state_dict(average)
    return module.eval()


def schedule(step: int, plan: Plan) -> float:
    """Factor on the learning rate: linear warm-up, then a cosine from 1 to 0.05."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    phase = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * phase))


@torch.no_grad()
def _update(average: dict[str, torch.Tensor], module: torch.nn.Module, decay: float) -> None:
    if not average:
        return
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


# --- words ----------------------------------------------------------------------------------------

SPECIAL = ("<pad>", "<unk>", "<start>", "<end>")
WORDS = (
    *("a", "an", "one", "and", ",", ".", "of", "the", "picture", "no", "with", "only"),
    *world.NUMBERS,
    *world.COLOURS,
    *world.SHAPES,
    *(f"{shape}s" for shape in world.SHAPES),
    *("left", "right", "above", "below", "shape", "shapes"),
)


def tokenizer(length: int) -> PreTrainedTokenizerFast:
    """Word-level tokenizer: lower-case words and punctuation between <start> and <end>, at most `length`
    tokens."""
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys((*SPECIAL, *WORDS)))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    backend.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 2), ("<end>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=length,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
        padding_side="right",
    )
