"""For EasyR1 (seen at b44b311 and 46c6c21): batch and sequential reward functions.

    worker.reward.reward_function: /path/to/mmreward/adapters/easyr1.py:compute_score
    worker.reward.reward_function_kwargs: {rewards: routes.yaml}

EasyR1 hands on the response, its length and the ground truth, and nothing else: source, verifier, sizes,
group and so on ride in the ground truth, as the JSON envelope of `rows.opened`. It also does not say how far
the training is. The file is executed on its own, hence no relative imports; `REWARD_TYPE` belongs to
`compute_score`, and a sequential function is a file of two lines:

    from mmreward.adapters.easyr1 import compute_one as compute_score
    REWARD_TYPE = "sequential"
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmreward.adapters.rows import batch_of
from mmreward.adapters.scorer import Failed, flat, shared

REWARD_NAME = "mmreward"
REWARD_TYPE = "batch"
SPACED = re.compile(r"<\s*(/?)\s*(think|answer)\s*>", re.IGNORECASE)
"""Tags as Qwen2.5-VL-32B writes them, "< think >"; EasyR1's own functions close them up."""


def compute_score(
    reward_inputs: Sequence[Mapping[str, Any]],
    *,
    rewards: Any = None,
    weights: Mapping[str, float] | None = None,
    failed: Failed = "raise",
    timeout: float | None = None,
) -> list[dict[str, float]]:
    """Scores of a batch: overall, accuracy, format, the other components, failed.

    Args:
        reward_inputs: {"response", "response_length", "ground_truth"} each.
        rewards: a path, a name, a mapping, or a `Scorer`; nothing where every envelope has its own route.
        weights: of several rewards.
        failed: what a failed score is; see `scorer.Failed`.
        timeout: seconds one score may take.

    Raises:
        ValueError: rewards or weights that make no sense.
        RuntimeError: a score failed, and `failed` is "raise".
    """
    scorer = shared(rewards, weights, timeout)
    rows = [
        {
            "response": SPACED.sub(r"<\1\2>", given["response"]),
            "ground_truth": given["ground_truth"],
            "tokens": given.get("response_length"),
        }
        for given in reward_inputs
    ]
    return [_named(row) for row in flat(scorer, scorer.score(batch_of(rows)), failed)]


def compute_one(reward_input: Mapping[str, Any], **options: Any) -> dict[str, float]:
    """`compute_score` for one response, with the same options.

    Raises:
        ValueError: as there, or a total that compares responses.
    """
    shared(options.get("rewards"), options.get("weights"), options.get("timeout")).check_single()
    return compute_score([reward_input], **options)[0]


def _named(row: dict[str, float]) -> dict[str, float]:
    """The accuracy of a total that has none is its score; such a total has no format."""
    overall, accuracy = row.pop("score"), row.pop("acc")
    return {"overall": overall, "accuracy": accuracy, "format": 0.0, **row}
