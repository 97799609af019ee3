"""Two turns in TRL's GRPO (1.16): what is asked second depends on what was answered first.

    GRPOTrainer(rollout_func=trl_turns.rollout(asking.following), reward_funcs=trl.reward("routes.yaml"), ...)

The second question's tokens are in the completion, as they must be for the second answer's probability, and
are masked from the loss. Rewards get the last turn as the response, and all of them in
`meta["written_turns"]`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from ..failures import Unscorable
from ..verifiers.branches import WRITTEN

Ids = list[int]
MARK = "0a1b2c"
"""Stands for an answer in a conversation whose rest is wanted; no template changes it."""


def rollout(following: Callable[[str], str]) -> Callable[[list[Any], Any], dict[str, Any]]:
    """A `rollout_func` that asks a second question of every completion that is whole.

    Args:
        following: the second question from the first answer, such as `judges.asking.Asking.following`; where
            it raises Unscorable, or the first answer is cut off, that completion stays as it is.
    """

    def roll(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        given, images, fields = trainer._tokenize_prompts(prompts)
        number = trainer.num_generations if trainer.model.training else trainer.num_generations_eval
        first, chances = trainer._generate_single_turn(given, images, fields, number)
        rest = cache(partial(_rest, trainer))  # few questions are asked of many completions
        between = [_between(trainer, ids, following, rest) for ids in first]
        ahead = [one + ids + more for one, ids, more in zip(given, first, between, strict=True)]
        goes_on = [bool(more) for more in between]
        second, later = first, chances
        if any(goes_on):  # of all rows, so that pictures stay where they are; of the others it is thrown away
            second, later = trainer._generate_single_turn(ahead, images, _longer(fields, ahead), 1)
        rows = list(zip(first, between, second, strict=True))
        turns = [[_text(trainer, ids), *([_text(trainer, said)] if more else [])] for ids, more, said in rows]
        return {
            "prompt_ids": given,
            "completion_ids": [ids + (more + said if more else []) for ids, more, said in rows],
            "env_mask": [
                [1] * len(ids) + ([0] * len(more) + [1] * len(said) if more else [])
                for ids, more, said in rows
            ],
            "logprobs": _joined(chances, later, between),
            WRITTEN: turns,
        }

    return roll


def _between(trainer: Any, ids: Ids, following: Callable[[str], str], rest: Callable[[str], Ids]) -> Ids:
    """The tokens from the end of the first answer to where the second begins; none where there is none."""
    if ids[-1] not in trainer.eos_token_ids:
        return []
    try:
        question = following(_text(trainer, ids))
    except Unscorable:
        return []
    more = rest(question)
    return more[1:] if more[0] == ids[-1] else more


def _rest(trainer: Any, question: str) -> Ids:
    """What the chat template puts after an answer when a question follows, the answer's end included."""
    said = [("user", "?"), ("assistant", MARK), ("user", question)]
    listed = trainer._is_vlm  # templates of language models take no lists
    messages = [
        {"role": role, "content": [{"type": "text", "text": text}] if listed else text} for role, text in said
    ]
    chat = trainer.processing_class.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **trainer.chat_template_kwargs
    )
    ids: Ids = trainer._tokenizer.encode(chat.partition(MARK)[2], add_special_tokens=False)
    return ids


def _longer(fields: Mapping[str, Any], ids: Sequence[Ids]) -> dict[str, Any]:
    """The processor's fields for longer prompts: those with an entry per token get zeros for text."""
    return {
        name: [[*row, *[0] * (len(own) - len(row))] for row, own in zip(_rows(held), ids, strict=True)]
        if name.endswith("token_type_ids")
        else held
        for name, held in fields.items()
    }


def _rows(held: Any) -> list[Ids]:
    return [row if isinstance(row, list) else row.tolist() for row in held]


def _joined(first: Any, second: Any, between: Sequence[Ids]) -> list[list[float]] | None:
    """Log-probabilities of whole completions, where the sampler told them; 0 for what it did not write."""
    if first is None:
        return None
    rows = zip(first, second, between, strict=True)
    return [one + ([0.0] * len(more) + other if more else []) for one, other, more in rows]


def _text(trainer: Any, ids: Ids) -> str:
    text: str = trainer._tokenizer.decode(ids, skip_special_tokens=True)
    return text.strip()
