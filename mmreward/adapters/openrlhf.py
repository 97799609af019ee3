"""For OpenRLHF (seen at 2cedb6a and 9b8641c): a custom reward function, and its remote reward model.

    # reward.py, given as --remote_rm_url reward.py
    from mmreward.adapters.openrlhf import reward
    reward_func = reward("routes.yaml")

or `--remote_rm_url http://HOST:8192/get_reward`, which `mmreward serve` answers. A query is the prompt and
the response in one text, with special tokens; a label is the target or an envelope (see `rows.opened`), in
which `source`, `group` and so on ride.

With pictures the query holds the prompt as the processor wrote it, where one placeholder has become hundreds
of image tokens, and a prompt that was too long has lost its beginning: `end_of_prompt` finds where both end.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .rows import Batch, batch_of
from .scorer import Failed, Given, Scorer, flat

ENDS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>", "<eos>", "<pad>")
"""Special tokens that may stand behind a response."""
SPECIAL = re.compile(r"<[^<>\s]{1,64}>|\[[A-Z_]{1,32}\]")
"""What special tokens look like: <|image_pad|>, <image>, <start_of_image>, [IMG]."""
RUN = re.compile(rf"(?:\s|{SPECIAL.pattern})*")
SHORTEST = 16
"""Characters of a prompt's end by which a query is known whose beginning was cut off."""


def reward(
    rewards: Given = None,
    *,
    weights: Mapping[str, float] | None = None,
    failed: Failed = "raise",
    timeout: float | None = None,
) -> Callable[..., dict[str, Any]]:
    """A function `reward_func(queries, prompts, labels, **kwargs)` -> {"rewards", "scores", "extra_logs"} of
    tensors. It is a plain function, as Ray wants one, and makes its engine where it runs.

    Args:
        rewards: see `Scorer`.
        weights: of several rewards.
        failed: what a failed score is; see `scorer.Failed`.
        timeout: seconds one score may take.

    Raises:
        ValueError: rewards or weights that make no sense.
    """
    scorer = Scorer(rewards, weights=weights, timeout=timeout)

    def reward_func(
        queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **_: Any
    ) -> dict[str, Any]:
        from torch import tensor

        answer = answered(flat(scorer, scorer.score(query_batch(queries, prompts, labels)), failed))
        logs = {name: tensor(values) for name, values in answer.pop("extra_logs").items()}
        return {name: tensor(values) for name, values in answer.items()} | {"extra_logs": logs}

    return reward_func


def query_batch(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]) -> Batch:
    """Rows of OpenRLHF; a query in which the end of its prompt is not found fails.

    Raises:
        ValueError: not as many queries, prompts and labels.
    """
    if not len(queries) == len(prompts) == len(labels):
        raise ValueError(f"{len(queries)} queries, {len(prompts)} prompts and {len(labels)} labels")
    batch = batch_of(
        {"prompt": prompt, "response": response_of(query, prompt) or "", "ground_truth": label}
        for query, prompt, label in zip(queries, prompts, labels, strict=True)
    )
    for row, (query, prompt) in enumerate(zip(queries, prompts, strict=True)):
        if end_of_prompt(query, prompt) is None:
            batch.problems[row] = (
                f"the query holds neither its prompt {prompt[:80]!r} nor the end of it, with or without "
                "image tokens"
            )
    return batch


def end_of_prompt(query: str, prompt: str) -> int | None:
    """Where the prompt ends in a query; None where it is not there.

    It stands at the beginning, else with other special tokens in the places of its own (image tokens, or a
    beginning of text), else without its beginning. What the response says has no say in this.
    """
    if query.startswith(prompt):
        return len(prompt)
    end = place = 0
    position = 0
    for piece in SPECIAL.split(prompt):
        if words := piece.strip():
            behind = RUN.match(query, end)
            assert behind is not None, "a run may be empty"
            if not query.startswith(words, behind.end()):
                position = 0
                break
            position = end = behind.end() + len(words)
            place = prompt.index(words, place) + len(words)
    if position and query.startswith(prompt[place:], position):
        return position + len(prompt[place:])
    start = query[:SHORTEST]
    place = prompt.find(start) if len(start) == SHORTEST else -1
    while place >= 0:
        if query.startswith(prompt[place:]):
            return len(prompt) - place
        place = prompt.find(start, place + 1)
    return None


def response_of(query: str, prompt: str) -> str | None:
    """The query without its prompt and without the special tokens at its end; None without the prompt."""
    end = end_of_prompt(query, prompt)
    if end is None:
        return None
    response = query[end:]
    while token := next((token for token in ENDS if response.rstrip().endswith(token)), ""):
        response = response.rstrip().removesuffix(token)
    return response


def answered(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Columns as OpenRLHF reads them: rewards for the advantage, scores from 0 to 1 for dynamic filtering."""
    names = [name for name in (rows[0] if rows else ()) if name not in ("score", "acc")]
    return {
        "rewards": [row["score"] for row in rows],
        "scores": [min(max(row["acc"], 0.0), 1.0) for row in rows],
        "extra_logs": {name: [row[name] for row in rows] for name in names},
    }
