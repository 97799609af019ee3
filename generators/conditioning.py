"""Reference pictures, which edits start from: how many a family takes, and rows that differ in their sizes.

A transformer takes one size of reference per forward, so rows are run in groups of the same size. Tokens are
padded to one length only to be kept in one tensor; the padding never reaches the network.
"""

# FOLDED generators/clip_text.py: Prompts to what CLIP's text encoders make of them, as the Stable Diffusion pipelines do.
# FOLDED generators/guidance.py: Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): its rows and its forward.
# FOLDED generators/networks.py: What a loaded diffusers pipeline is made of: its networks by role, and the layers LoRA usually goes to.

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from mmreward.generator import Conditioning
from mmreward.media import Media

Sizes = tuple[tuple[int, int], ...]
"""Rows and columns of tokens of every reference picture of a row."""


def refuse_references(inputs: Sequence[Sequence[Media]], family: str) -> None:
    """Raise ValueError naming the first row that has condition pictures."""
    for row, pictures in enumerate(inputs):
        if pictures:
            raise ValueError(f"row {row} has {len(pictures)} condition pictures, but {family} takes none")


def require_references(inputs: Sequence[Sequence[Media]], rows: int, family: str, most: int = 1) -> None:
    """Raise ValueError unless each of `rows` rows has 1 to `most` condition pictures."""
    if len(inputs) != rows:
        raise ValueError(
            f"{rows} prompts but condition pictures for {len(inputs)} rows, so row {min(len(inputs), rows)} "
            f"has only one of them; {family} takes one sequence of pictures per prompt"
        )
    for row, pictures in enumerate(inputs):
        if not 1 <= len(pictures) <= most:
            raise ValueError(
                f"row {row} has {len(pictures)} condition pictures; {family} takes "
                + ("one" if most == 1 else f"1 to {most}")
            )


def padded(rows: torch.Tensor, length: int) -> torch.Tensor:
    """(L, D) to (`length`, D), zeros behind."""
    return F.pad(rows, (0, 0, 0, length - len(rows)))


def in_groups(sizes: torch.Tensor, run: Callable[[torch.Tensor, Sizes], torch.Tensor]) -> torch.Tensor:
    """`run(rows, sizes)` for each group of rows with the same sizes; results in the order of the rows.

    `sizes` is (N, K, 2): rows and columns of tokens of every picture. A size of 0 x 0 stands for no picture
    and is left out of what `run` is told.
    """
    groups: dict[Sizes, list[int]] = {}
    for row, pairs in enumerate(sizes.tolist()):
        groups.setdefault(tuple((height, width) for height, width in pairs if height), []).append(row)
    order = torch.tensor([row for rows in groups.values() for row in rows], device=sizes.device)
    results = [run(torch.tensor(rows, device=sizes.device), size) for size, rows in groups.items()]
    return torch.cat(results)[order.argsort()]


class Encoded(NamedTuple):
    """Of N texts padded to L tokens."""

    last: torch.Tensor
    """After the final norm, (N, L, D)."""
    penultimate: torch.Tensor
    """Before the last layer, (N, L, D)."""
    pooled: torch.Tensor
    """Of the end token, (N, P); projected where the encoder has a projection."""


@torch.no_grad()
def encode_clip_text(tokenizer: Any, text_encoder: Any, texts: Sequence[str]) -> Encoded:
    """Hidden states and pooled embeddings, in the encoder's type and on its device."""
    out = text_encoder(tokenise(tokenizer, texts).to(text_encoder.device), output_hidden_states=True)
    pooled = out.text_embeds if "text_embeds" in out else out.pooler_output
    return Encoded(out.last_hidden_state, out.hidden_states[-2], pooled)


def tokenise(tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """Token ids (N, L), padded and cut to the tokenizer's `model_max_length`, 77 for CLIP.

    Warns where a text is cut: the model does not see its end.
    """
    limit = tokenizer.model_max_length
    lengths = [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]
    if long := [text for text, length in zip(texts, lengths, strict=True) if length > limit]:
        warnings.warn(
            f"{len(long)} of {len(texts)} prompts have more than {limit} tokens and are cut there; "
            f"the first begins {long[0][:60]!r}",
            stacklevel=2,
        )
    padded = tokenizer(list(texts), padding="max_length", max_length=limit, truncation=True)
    return torch.tensor(padded["input_ids"])


Forward = Callable[[torch.Tensor, torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]
"""Latents (N, ...), noise levels (N,) and what the network is told, to velocities."""


def last_is_blank(encoded: Mapping[str, torch.Tensor]) -> Conditioning:
    """Conditioning of N rows from N + 1: the last one is the blank prompt, the same for all."""
    given = {name: rows[:-1] for name, rows in encoded.items()}
    blank = {name: rows[-1:].expand(len(rows) - 1, *rows.shape[1:]) for name, rows in encoded.items()}
    return Conditioning(given, blank)


def velocity_pair(
    forward: Forward, latents: torch.Tensor, levels: torch.Tensor, conditioning: Conditioning
) -> tuple[torch.Tensor, torch.Tensor]:
    """Velocities for the prompts and for the blank ones, from one forward of twice the rows."""
    told = {name: torch.cat([rows, conditioning.blank[name]]) for name, rows in conditioning.given.items()}
    given, blank = forward(torch.cat([latents, latents]), levels.repeat(2), told).chunk(2)
    return given, blank


JOINT_ATTENTION = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
)
"""Projections of picture and text in a block that lets both attend to each other, as Flow-GRPO tunes them."""


def frozen(pipe: Any) -> dict[str, torch.nn.Module]:
    """Every network of `pipe` but its transformer, by role; none of their weights can be trained any more."""
    networks = {
        role: part
        for role, part in pipe.components.items()
        if isinstance(part, torch.nn.Module) and role != "transformer"
    }
    for network in networks.values():
        network.eval().requires_grad_(False)
    return networks


def require_networks(pipe: Any, *roles: str) -> None:
    """Raise ValueError where `pipe` was loaded without one of `roles`."""
    missing = [role for role in roles if getattr(pipe, role) is None]
    if missing:
        raise ValueError(
            f"{type(pipe).__name__} was loaded without {' and '.join(missing)}; prompts cannot be encoded"
        )
