"""The word-level tokenizer of captions, shared by mini-flow and mini-clip. It knows no other words."""

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from . import world

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
    """Lower-case words and punctuation between <start> and <end>; `length` is the most tokens."""
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
