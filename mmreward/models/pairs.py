"""Networks that look at a picture and a text together, by the names of their published files.

The functions here are reached through `mmreward.models`, as all others. Imports no torch; calling one does.
"""

from typing import TYPE_CHECKING

from .sharing import shared

if TYPE_CHECKING:
    from .blip import BlipScorer
    from .blip2 import Matcher
    from .blip_answers import BlipVQA
    from .mps import MpsScorer


@shared
def blip_head(
    weights: str,
    vocabulary: str,
    *,
    tokens: int,
    activation: bool = False,
    dtype: str = "float32",
    resize: str = "pil",
) -> "BlipScorer":
    """A BLIP with a scalar head, such as ImageReward: one number of a picture and a prompt.

    Args:
        weights: a published file (.pt, .pth or .safetensors) by path or OWNER/NAME/FILE, of tensors alone.
        vocabulary: BERT's vocab.txt, by path or OWNER/NAME/FILE.
        tokens: length that prompts are padded and cut to.
        activation: GELU between the head's layers.
        dtype: of both encoders; the head is in float32.
        resize: as for `clip`.

    Raises:
        ValueError: no such dtype or resize.
    """
    from .blip import BlipScorer

    return BlipScorer(weights, vocabulary, tokens, dtype=dtype, resize=resize, activation=activation)


@shared
def matcher(
    weights: str, base: str, vocabulary: str, *, dtype: str = "float32", resize: str = "pil"
) -> "Matcher":
    """FGA-BLIP2: how well a picture matches a prompt and each of its words, by a BLIP-2's queries.

    Args:
        weights: a file of tensors alone, by path or OWNER/NAME/FILE.
        base: the file that has what these leave out, as for `weights`; "" for none.
        vocabulary: BERT's vocab.txt, by path or OWNER/NAME/FILE.
        dtype: of the picture's encoder; the rest is in float32.
        resize: as for `clip`.

    Raises:
        ValueError: no such dtype or resize.
    """
    from .blip2 import Matcher

    return Matcher(weights, base, vocabulary, dtype=dtype, resize=resize)


@shared
def crossed(
    weights: str,
    processor: str,
    condition: str,
    threshold: float,
    *,
    dtype: str = "float32",
    resize: str = "pil",
) -> "MpsScorer":
    """MPS: a CLIP whose picture attends to the tokens of the prompt that are like a condition's.

    Args:
        weights: a file of tensors alone, by path or OWNER/NAME/FILE.
        processor: the CLIP in transformers format whose configuration, tokenizer and preprocessing it has.
        condition: what is asked about.
        threshold: see `mmreward.models.mps`.
        dtype: of all of it; the cosine is in float32.
        resize: as for `clip`.

    Raises:
        ValueError: no such dtype or resize.
    """
    from .mps import MpsScorer

    return MpsScorer(weights, processor, condition, threshold, dtype=dtype, resize=resize)


@shared
def blip_vqa(file: str, tokenizer: str, *, dtype: str = "float32") -> "BlipVQA":
    """BLIP's answers to questions about a picture, from the publisher's file.

    Args:
        file: the published .pth, or safetensors with its names.
        tokenizer: hub id or folder of the BERT tokenizer.
        dtype: of the network.
    """
    from .blip_answers import BlipVQA

    return BlipVQA(file, tokenizer, dtype=dtype)
