"""Conditioning of the diffusers families: pipelines' networks, CLIP text, reference pictures, guidance.

Reference pictures, which edits start from, may differ in size from row to row. A transformer takes one size
of reference per forward, so rows are run in groups of the same size. Tokens are padded to one length only to
be kept in one tensor; the padding never reaches the network. Knows no latents and no sizes of pictures (see
`latents`).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F

from mmreward.generator import Conditioning
from mmreward.media import Media

from .latents import row_levels

# Networks of a loaded diffusers pipeline.

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


class Loaded(NamedTuple):
    """A pipeline's transformer, where and in which type it runs, and its other networks by role, frozen."""

    network: torch.nn.Module
    device: torch.device
    dtype: torch.dtype
    frozen: dict[str, torch.nn.Module]


def loaded(pipe: Any) -> Loaded:
    """The networks of `pipe`; none of the weights beside the transformer's can be trained any more."""
    transformer = pipe.transformer
    others = {
        role: part
        for role, part in pipe.components.items()
        if isinstance(part, torch.nn.Module) and role != "transformer"
    }
    for network in others.values():
        network.eval().requires_grad_(False)
    return Loaded(transformer, torch.device(transformer.device), transformer.dtype, others)


def require_networks(pipe: Any, *roles: str) -> None:
    """Raise ValueError where `pipe` was loaded without one of `roles`."""
    missing = [role for role in roles if getattr(pipe, role) is None]
    if missing:
        raise ValueError(
            f"{type(pipe).__name__} was loaded without {' and '.join(missing)}; prompts cannot be encoded"
        )


# CLIP text, as the Stable Diffusion pipelines encode it.


class Encoded(NamedTuple):
    """Text states of N texts padded to L tokens."""

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


# Reference pictures.

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
    and is left out of the sizes that `run` gets.
    """
    groups: dict[Sizes, list[int]] = {}
    for row, pairs in enumerate(sizes.tolist()):
        groups.setdefault(tuple((height, width) for height, width in pairs if height), []).append(row)
    order = torch.tensor([row for rows in groups.values() for row in rows], device=sizes.device)
    results = [run(torch.tensor(rows, device=sizes.device), size) for size, rows in groups.items()]
    return torch.cat(results)[order.argsort()]


def beside_references(
    run: Callable[[torch.Tensor, torch.Tensor, Mapping[str, torch.Tensor], Sizes], torch.Tensor],
    tokens: torch.Tensor,
    levels: torch.Tensor,
    given: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    """Velocity of tokens (N, L, D) that a transformer runs with reference pictures as further tokens.

    Args:
        run: the transformer, called with tokens (n, L + M, D), levels (n,), inputs and sizes of a group of
            rows whose pictures have the same sizes, M tokens together.
        tokens: of the pictures to make.
        levels: noise levels (N,).
        given: the transformer's other inputs; among them the pictures' tokens, "picture" (N, longest M, D),
            and "sizes" (N, K, 2).
    """

    def group(rows: torch.Tensor, sizes: Sizes) -> torch.Tensor:
        own = {name: every[rows] for name, every in given.items()}
        length = sum(height * width for height, width in sizes)
        joined = torch.cat([tokens[rows], own["picture"][:, :length]], dim=1)
        return run(joined, levels[rows], own, sizes)[:, : tokens.shape[1]]

    return in_groups(given["sizes"], group)


# Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598).

Forward = Callable[[torch.Tensor, torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]
"""Latents (N, ...), noise levels (N,) and the network's other inputs, to velocities."""


def last_is_blank(encoded: Mapping[str, torch.Tensor]) -> Conditioning:
    """Conditioning of N rows from N + 1: the last one is the blank prompt, the same for all."""
    given = {name: rows[:-1] for name, rows in encoded.items()}
    blank = {name: rows[-1:].expand(len(rows) - 1, *rows.shape[1:]) for name, rows in encoded.items()}
    return Conditioning(given, blank)


def with_both(text: Conditioning, more: Mapping[str, torch.Tensor]) -> Conditioning:
    """`text` and further inputs, which are the same for the prompts and for the blank ones."""
    return Conditioning({**text.given, **more}, {**text.blank, **more})


def velocity_pair(
    forward: Forward, latents: torch.Tensor, levels: torch.Tensor, conditioning: Conditioning
) -> tuple[torch.Tensor, torch.Tensor]:
    """Velocities for the prompts and for the blank ones, from one forward of twice the rows."""
    both = {name: torch.cat([rows, conditioning.blank[name]]) for name, rows in conditioning.given.items()}
    given, blank = forward(torch.cat([latents, latents]), levels.repeat(2), both).chunk(2)
    return given, blank


def guided(
    forward: Forward,
    latents: torch.Tensor,
    levels: torch.Tensor,
    conditioning: Conditioning,
    guidance: float,
) -> torch.Tensor:
    """blank + guidance (prompt - blank), in the shape of `latents`; guidance 1 runs the prompts alone."""
    if guidance == 1:
        return forward(latents, levels, conditioning.given)
    given, blank = velocity_pair(forward, latents, levels, conditioning)
    return blank + guidance * (given - blank)


class HasForward(Protocol):
    """A generator whose network runs by `forward(latents, levels, inputs)`."""

    @property
    def forward(self) -> Forward: ...


def guided_velocity(
    self: HasForward,
    latents: torch.Tensor,
    sigma: torch.Tensor | float,
    conditioning: Conditioning,
    guidance: float = 1.0,
) -> torch.Tensor:
    """Velocity in the shape of `latents`; guidance 1 costs one forward per latent, anything else two.

    A method that families share: `velocity = guided_velocity` in the class.
    """
    return guided(self.forward, latents, row_levels(sigma, latents), conditioning, guidance)
