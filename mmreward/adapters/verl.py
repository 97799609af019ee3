"""For verl (seen at 14af4d3, d49d14d and 1dda039): a custom function in three forms, and a reward manager.

    custom_reward_function:            # since 0.8 under `reward`
      path: pkg://mmreward.adapters.verl
      name: compute_score              # or compute_score_async, compute_score_batch
      reward_kwargs: {rewards: routes.yaml, failed: 0.0}
    reward_manager:                    # for pictures and prompts: a manager in place of the function
      {source: importlib, name: RewardManager, module: {path: pkg://mmreward.adapters.verl}}

verl takes the keys of a batch from its first sample, so every result has the same, all floats, and none is
called "reward". It passes a function no picture and no progress: put sizes, `step`, `total_steps` and `group`
into `extra_info`, or use `RewardManager`, which sees the pictures. Totals that compare responses need
`compute_score_batch`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .rows import Batch, batch_of, share
from .scorer import Failed, Scorer, flat, shared

Result = dict[str, float]


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    rewards: Any = None,
    weights: Mapping[str, float] | None = None,
    failed: Failed = "raise",
    timeout: float | None = None,
    **_: Any,
) -> Result:
    """The score of one response: score, acc, the components, failed.

    Args:
        data_source: the source, by which routes are chosen.
        solution_str: the response.
        ground_truth: the target, or an envelope (see `rows.opened`).
        extra_info: further columns, such as `verifier`, `params`, `size`, `chance`; never changed.
        rewards: a path, a name, a mapping, or a `Scorer`; nothing where every sample brings its own route.
        weights: of several rewards.
        failed: what a failed score is, as verl has no "not applicable"; see `scorer.Failed`.
        timeout: seconds one score may take.

    Raises:
        ValueError: rewards or weights that make no sense, or a total that compares responses.
        RuntimeError: a score failed, and `failed` is "raise".
    """
    scorer = shared(rewards, weights, timeout)
    scorer.check_single()
    batch = _batch([data_source], [solution_str], [ground_truth], [extra_info])
    return flat(scorer, scorer.score(batch), failed)[0]


async def compute_score_async(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    rewards: Any = None,
    weights: Mapping[str, float] | None = None,
    failed: Failed = "raise",
    timeout: float | None = None,
    **_: Any,
) -> Result:
    """`compute_score` for the reward loop, whose calls then share the engine's batches."""
    scorer = shared(rewards, weights, timeout)
    scorer.check_single()
    batch = _batch([data_source], [solution_str], [ground_truth], [extra_info])
    return flat(scorer, await scorer.ascore(batch), failed)[0]


def compute_score_batch(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[Any],
    extra_infos: Sequence[Mapping[str, Any] | None],
    *,
    rewards: Any = None,
    weights: Mapping[str, float] | None = None,
    failed: Failed = "raise",
    timeout: float | None = None,
    **_: Any,
) -> list[Result]:
    """`compute_score` for the batch manager: a whole batch through one call of the engine."""
    scorer = shared(rewards, weights, timeout)
    batch = _batch(data_sources, solution_strs, ground_truths, extra_infos)
    return flat(scorer, scorer.score(batch), failed)


def _batch(
    sources: Sequence[str],
    responses: Sequence[str],
    truths: Sequence[Any],
    extras: Sequence[Mapping[str, Any] | None],
) -> Batch:
    rows = []
    for source, response, truth, extra in zip(sources, responses, truths, extras, strict=True):
        columns = dict(extra or {})
        facts = {"source": source, "response": response, "ground_truth": truth}
        rows.append({**columns, **share(columns.get("step"), columns.get("total_steps")), **facts})
    return batch_of(rows)


class RewardManager:
    """A manager of the reward loop that also hands on the pictures, the prompt and the number of tokens.

    Of a trajectory of several outputs the last is scored, as by verl's own managers. Its arguments are
    `custom_reward_function.reward_kwargs`, as for `compute_score`.

    Raises:
        ValueError: rewards or weights that make no sense, or a total that compares responses.
    """

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, *_: Any, **__: Any) -> None:
        # Two versions of verl pass tokenizer and compute_score in opposite order.
        self.tokenizer = tokenizer if hasattr(tokenizer, "decode") else compute_score
        self.scorer, self.failed = _configured(**_reward_kwargs(config))
        self.scorer.check_single()

    async def run_single(self, data: Any) -> dict[str, Any]:
        """One trajectory as a DataProto -> {"reward_score": float, "reward_extra_info": {...}}."""
        item = data[-1:][0]
        responses = item.batch["responses"]
        columns = item.non_tensor_batch
        length = columns.get("response_len")  # outputs of unequal prompts are padded behind their responses
        if length is None:
            length = item.batch["attention_mask"][-responses.shape[-1] :].sum()
        length = int(length)
        extra = {"tokens": length, **(columns.get("extra_info") or {})}
        extra |= columns.get("tool_extra_fields") or {}
        extra["prompt"] = columns.get("raw_prompt", extra.get("prompt"))
        extra["images"] = (columns.get("multi_modal_data") or {}).get("images", extra.get("images"))
        response = self.tokenizer.decode(responses[:length], skip_special_tokens=True)
        truth = (columns.get("reward_model") or {}).get("ground_truth")
        batch = _batch([columns.get("data_source") or ""], [response], [truth], [extra])
        found = flat(self.scorer, await self.scorer.ascore(batch), self.failed)[0]
        return {"reward_score": found["score"], "reward_extra_info": found}

    @classmethod
    def assemble_rm_scores(cls, data: Any, scores: Sequence[float]) -> Any:
        """A batch's scores as verl's `rm_scores`: each at the last token of its response, else zeros."""
        import torch

        responses, mask = data.batch["responses"], data.batch["attention_mask"]
        last = (mask[:, data.batch["prompts"].size(1) :].sum(dim=1) - 1).clamp(min=0).long()
        out = torch.zeros_like(responses, dtype=torch.float32)
        out[torch.arange(len(out), device=out.device), last] = out.new_tensor(list(scores))
        return out


def _reward_kwargs(config: Any) -> dict[str, Any]:
    """Since 0.8 the custom function is described under `reward`."""
    section = config.get("reward") or config
    return dict((section.get("custom_reward_function") or {}).get("reward_kwargs") or {})


def _configured(
    rewards: Any = None,
    weights: Mapping[str, float] | None = None,
    failed: Failed = "raise",
    timeout: float | None = None,
) -> tuple[Scorer, Failed]:
    return shared(rewards, weights, timeout), failed
