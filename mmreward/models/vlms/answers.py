"""Questions to a vision-language model, and its answers: label probabilities, text, log-likelihoods, JSON.

`VLM` is the protocol that rewards program against; `handle.LocalVLM` (in this process) and
`served.client.ServedVLM` (over HTTP) satisfy it. A question is an `asks.Ask`; an answer is a `Read`
(probabilities of labels as the first word, and their mass), a `Written` (text) or a `LogProb` (of a given
continuation).

What both sides must do alike stands here too:

- label reading: models differ in casing and leading space ("Yes", " yes", "YES"); taking one spelling and
  treating the others as absent turns a confident answer into a wrong number, so a label stands for all its
  one-token spellings;
- the tokens of a continuation, where a token may reach across its beginning.

Imports no torch, and knows nothing of networks or sockets.
"""

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ...errors import Unscorable
from ...tracing import heard, noted
from .asks import Ask as Ask
from .asks import Parts as Parts
from .asks import Pictures as Pictures
from .asks import Turn as Turn
from .asks import asked as asked
from .asks import media_of as media_of
from .asks import messages as messages
from .asks import shown_to as shown_to

if TYPE_CHECKING:
    import torch

YES_NO = ("yes", "no")
MAX_NOTED = 4000
"""Characters of a question and of an answer that an explanation shows."""

# --- answers --------------------------------------------------------------------------------------


class Sampling(NamedTuple):
    """Decoding options of one text: most tokens, temperature (0 is greedy), seed."""

    max_tokens: int
    temperature: float
    seed: int


def sampling_of(max_tokens: int, temperature: float, seed: int) -> Sampling:
    """Decoding options within their ranges.

    Raises:
        ValueError: a limit below 1 or a temperature below 0.
    """
    if max_tokens < 1 or temperature < 0:
        raise ValueError(f"max_tokens {max_tokens} must be at least 1, temperature {temperature} at least 0")
    return Sampling(max_tokens, temperature, seed)


class Read(NamedTuple):
    """Label probabilities of the first answer token.

    `probs` sum to one over the labels; `mass` in [0, 1] is the probability the labels had together before
    that. A small mass means that the model wanted to say something else, and that `probs` means little.
    """

    probs: dict[str, float]
    mass: float

    @property
    def answer(self) -> str:
        """The likeliest label."""
        return max(self.probs, key=lambda label: self.probs[label])


class Readings(NamedTuple):
    """Label probabilities of N pictures and Q questions each, with a gradient.

    `probs` (N, Q, labels) sum to one over the labels; `mass` (N, Q) is what the labels had before that.
    """

    probs: "torch.Tensor"
    mass: "torch.Tensor"


class Written(NamedTuple):
    """Generated text; `finished` is False when the token limit cut it off."""

    text: str
    finished: bool
    tokens: int


class LogProb(NamedTuple):
    """Log-probability of a continuation in nats: `total` over its tokens, their number, and `each` token's
    own.

    `certainty` is the self-certainty of the positions that predict them: the mean over tokens of
    KL(uniform || p) in nats, 0 for a uniform guess and without an upper bound. It takes the whole vocabulary,
    which a served model does not show: None there. `ids` are the tokens themselves, where they are known:
    two spellings may be one token.
    """

    total: float
    tokens: int
    each: tuple[float, ...]
    certainty: float | None = None
    ids: tuple[int, ...] = ()


PixelReader = Callable[["torch.Tensor", Sequence[Sequence[str]], Sequence[str]], Readings]
"""Differentiable label probabilities: float pixels (N, 3, H, W) in [0, 1], Q questions per picture,
labels."""


def note_answer(ask: Ask, answer: Read | Written | LogProb, continuation: str = "") -> None:
    """Steps of a question and its answer as the model gave it, where somebody listens (see `tracing`).

    Args:
        ask: the question.
        answer: what came back.
        continuation: the text whose probability was asked for.
    """
    if not heard():
        return
    noted("asked", f"{ask.words.strip()[:MAX_NOTED]}\n({len(ask.media)} pictures or clips)")
    if isinstance(answer, Written):
        noted("replied", answer.text[:MAX_NOTED] + ("" if answer.finished else "\n(cut off)"))
    elif isinstance(answer, Read):
        noted("replied", "{}, which have {} of the probability", answer.probs, answer.mass)
    else:
        each = math.exp(answer.total / answer.tokens)
        noted("replied", "{}: {} tokens of mean probability {}", continuation, answer.tokens, each)


class Writer(Protocol):
    """What writes answers: a VLM, or one that uses tools before it answers."""

    async def write(
        self,
        media: Pictures,
        prompt: str,
        *,
        max_tokens: int = 512,
        temperature: float = 0.0,
        seed: int = 0,
        system: str = "",
        history: Sequence[Turn] = (),
        places: Sequence[int] = (),
    ) -> Written:
        """See `VLM.write`."""
        ...


TokenCounter = Callable[[str], int]


class VLM(Protocol):
    """A vision-language model as rewards use it, in this process or behind a server.

    Every method raises `Unscorable` when this one question has no answer: see `handle.LocalVLM` and
    `served.client.ServedVLM` for what each can and cannot do.
    """

    @property
    def name(self) -> str:
        """The weights' name; MODEL@URL of a served model."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that changes the answers and can be known here."""

    @property
    def count_tokens(self) -> "TokenCounter | None":
        """Number of tokens of a text by the model's tokenizer; None where it is not at hand."""

    @property
    def read_pixels(self) -> PixelReader | None:
        """Differentiable `read`; None where no gradient can be had."""

    async def read(
        self,
        media: Pictures,
        question: str,
        labels: Sequence[str],
        *,
        system: str = "",
        places: Sequence[int] = (),
    ) -> Read:
        """Probabilities of the first answer token falling on each label (all one-token spellings of it).

        Raises:
            ValueError: labels that the tokenizer cannot tell apart by one token; see also `asked`.
        """

    async def write(
        self,
        media: Pictures,
        prompt: str,
        *,
        max_tokens: int = 512,
        temperature: float = 0.0,
        seed: int = 0,
        system: str = "",
        history: Sequence[Turn] = (),
        schema: Mapping[str, Any] | None = None,
        places: Sequence[int] = (),
    ) -> Written:
        """Generate an answer, greedily or sampled; with `schema`, JSON that was checked against it. A turn of
        the history may have shown pictures of its own, see `asks.Turn`.

        Raises:
            ValueError: a limit or temperature out of range; no valid schema; see also `asked`.
            Unscorable: "unparsable" when the answer breaks the schema, or was cut off within it.
        """

    async def logprob(
        self,
        media: Pictures,
        prompt: str,
        continuation: str,
        *,
        given: str = "",
        system: str = "",
        places: Sequence[int] = (),
        open: bool = False,
    ) -> LogProb:
        """Log-probability of `continuation` as the beginning of the answer, or right after `given`; of an
        `open` question, as what follows its text in the same turn.

        Raises:
            Unscorable: the continuation is empty or has no token of its own.
        """


def check_mass(
    read: Read,
    least: float,
    *,
    labels: str = "yes and no",
    parts: Mapping[str, float] | None = None,
) -> None:
    """Refuse label probabilities of a model that wanted to say something else.

    Args:
        read: the label probabilities.
        least: smallest mass that is believed.
        labels: their name in the message.
        parts: of the failed score, if it has any.

    Raises:
        Unscorable: "unparsable" when the labels have less than `least` of the probability together.
    """
    if read.mass < least:
        raise Unscorable(
            f"{labels} have {read.mass:.3f} of the probability, less than {least}", "unparsable", parts
        )


async def probability_of_yes(vlm: VLM, media: Pictures, question: str, min_mass: float) -> float:
    """P(yes) / (P(yes) + P(no)) of the first answer token, 0 to 1.

    Raises:
        Unscorable: "unparsable" when the two have less than `min_mass` of the probability together.
    """
    read = await vlm.read(media, question, YES_NO)
    check_mass(read, min_mass)
    return read.probs["yes"]


# --- label reading --------------------------------------------------------------------------------


def label_sets(tokenizer: Any, tail: str, labels: Sequence[str]) -> list[list[int]]:
    """Token ids of each label's spellings, as they come right after `tail` (the end of the chat prompt).

    Raises:
        ValueError: fewer than two labels, a label without a one-token spelling, or two labels sharing a
            token.
    """
    check_labels(labels)
    # Encoded together with the tail and never alone: alone, a tokenizer may put a mark for the beginning of a
    # text before the word, or choose another token for it than the one the model would write at this place.
    before = tokenizer.encode(tail, add_special_tokens=False)
    sets: list[list[int]] = []
    for label in labels:
        wholes = (tokenizer.encode(tail + text, add_special_tokens=False) for text in spellings(label))
        ids = {token for whole in wholes if (token := sole_token(before, whole)) is not None}
        # The token for unknown words stands for any spelling and spells none.
        sets.append(sorted(ids - {tokenizer.unk_token_id}))
    check_sets(labels, sets)
    return sets


def check_labels(labels: Sequence[str]) -> None:
    """Raises ValueError for fewer than two labels."""
    if len(set(labels)) < 2:
        raise ValueError(f"labels must be two or more different words, not {list(labels)}")


def sole_token(before: Sequence[int], whole: Sequence[int]) -> int | None:
    """The one token by which `whole` continues `before`; None when it is not one, or changes what was
    before."""
    extends = len(whole) == len(before) + 1 and list(whole[:-1]) == list(before)
    return whole[-1] if extends else None


def check_sets(labels: Sequence[str], sets: Sequence[Collection[Hashable]]) -> None:
    """Raises ValueError for a label without a token, and for two labels that share one: the probability of a
    shared token would count for both."""
    for label, ids in zip(labels, sets, strict=True):
        if not ids:
            raise ValueError(
                f"label {label!r} is not one token for this model; use a shorter word, or `logprob`"
            )
    for i, first in enumerate(sets):
        for j in range(i):
            if set(first) & set(sets[j]):
                raise ValueError(
                    f"labels {labels[j]!r} and {labels[i]!r} share a token, so they cannot be told apart"
                )


def spelled(label: str) -> tuple[str, ...]:
    """The casings of a label; a single letter keeps its own ("A" is a choice, "a" an article)."""
    return (label,) if len(label) == 1 else (label, label.lower(), label.upper(), label.capitalize())


def spellings(label: str) -> list[str]:
    """All casings, with and without a leading space."""
    return sorted({space + word for word in spelled(label) for space in ("", " ")})


def label_logprobs(logprobs: "torch.Tensor", sets: Sequence[Sequence[int]]) -> "torch.Tensor":
    """Log-probability of each label: logsumexp over its tokens. (..., V) -> (..., labels)."""
    import torch

    # The sum of the spellings' probabilities and not their largest: a model may split "yes" between " yes"
    # and "Yes", and the larger half alone would make it look unsure.
    return torch.stack([logprobs[..., list(ids)].logsumexp(-1) for ids in sets], dim=-1)


# --- log-likelihood of a continuation -------------------------------------------------------------


def continuation_span(
    prompt: Sequence[int], before: Sequence[int], whole: Sequence[int], continuation: str
) -> int:
    """Number of tokens of `whole` from the first that the continuation brought or changed.

    A token that reaches back into what the answer was given to begin with counts as the continuation's.

    Args:
        prompt: of the chat up to where the answer begins.
        before: of the prompt and what the answer begins with.
        whole: of all that and the continuation.
        continuation: for the message.

    Raises:
        Unscorable: the continuation is empty, or a token reaches back into the prompt.
    """
    kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, whole, strict=False)))
    if kept < len(prompt) or kept == len(whole) or list(whole[: len(prompt)]) != list(prompt):
        raise Unscorable(f"continuation {continuation[:40]!r} does not begin with a token of its own")
    return len(whole) - kept
