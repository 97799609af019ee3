"""Prompts to what CLIP's text encoders make of them, as the Stable Diffusion pipelines do."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch


class Encoded(NamedTuple):
    """Of N texts padded to L tokens."""

    last: torch.Tensor
    """After the final norm, (N, L, D)."""
    penultimate: torch.Tensor
    """Before the last layer, (N, L, D)."""
    pooled: torch.Tensor
    """Of the end token, (N, P); projected where the encoder has a projection."""


@torch.no_grad()
def encode(tokenizer: Any, text_encoder: Any, texts: Sequence[str]) -> Encoded:
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
