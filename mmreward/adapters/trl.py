"""For TRL's GRPO and its kin (1.16 and later).

    GRPOTrainer(reward_funcs=trl.reward("routes.yaml"), ...)

The data set's columns become the samples, see `rows.sample_of_row`. A score that failed is None, which TRL
leaves out of its statistics, and an infinite one is too.

Two turns, where what is asked second depends on what was answered first:

    GRPOTrainer(rollout_func=trl.rollout(asking.following), reward_funcs=trl.reward("routes.yaml"), ...)

The second question's tokens are in the completion, as they must be for the second answer's probability, and
are masked from the loss. Rewards get the last turn as the response, and all of them in
`meta["written_turns"]`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from ..config import EngineConfig
from ..data.routing import Routed
from ..engine.engine import Engine
from ..errors import Unscorable
from ..monitor.by_source import source_metrics
from ..monitor.outcomes import outcomes_of
from ..rewards.judged.asking import WRITTEN
from ..types import Score
from .rows import Batch, batch_of, grouped, share, spoken
from .scorer import Given, LastBatch, Scorer, component, report_failures

LARGEST = 3.4e38
"""Of float32, TRL's type for rewards."""
OURS = ("prompts", "completions", "completion_ids", "environments")
"""Lists that TRL passes and that are no columns."""
Values = list[float | None]


def reward(
    rewards: Given = None,
    *,
    weights: Mapping[str, float] | None = None,
    columns: Mapping[str, str] | None = None,
    num_generations: int | None = None,
    name: str = "",
    metrics: bool = True,
    asynchronous: bool = False,
    engine: EngineConfig | Engine | None = None,
    timeout: float | None = None,
) -> "Function | AsyncFunction":
    """A reward function for `reward_funcs`: the total of every completion, or None where it has none.

    It can be pickled (see `Scorer`). For rewards that compare samples, every process must hold whole groups:
    a multiple of `num_generations` completions.

    Args:
        rewards: names, a mapping, a Router or a YAML file, see `Scorer`; nothing where every row brings its
            own `route`, or `verifier` and `params`.
        weights: of a sum of several rewards.
        columns: field of Sample -> column of the data set, where `rows.ALIASES` do not find it.
        num_generations: completions per prompt; without it, neighbours with an equal prompt are one group.
        name: under which TRL logs it; default: the rewards' names. Two functions need two names.
        metrics: log `source_metrics` as "NAME/sources/SOURCE/FIGURE", and status and note of every
            completion.
        asynchronous: a function that TRL awaits, beside the other asynchronous ones.
        engine: see `Scorer`.
        timeout: seconds one score may take.

    Raises:
        ValueError: rewards or weights that make no sense.
    """
    scorer = Scorer(rewards, weights=weights, engine=engine, timeout=timeout)
    name = name or scorer.label
    grading = Grading(scorer, name, dict(columns or {}), num_generations, metrics)
    return (AsyncFunction if asynchronous else Function)(grading, name)


def components(
    rewards: Given,
    names: Sequence[str],
    *,
    weights: Mapping[str, float] | None = None,
    columns: Mapping[str, str] | None = None,
    num_generations: int | None = None,
    name: str = "",
    metrics: bool = True,
    asynchronous: bool = False,
    engine: EngineConfig | Engine | None = None,
    timeout: float | None = None,
) -> "list[Function | AsyncFunction]":
    """One reward function per component, such as accuracy and format, for `reward_weights` and
    `multi_objective_aggregation`. They share their scores: each completion is verified once.

    Args:
        rewards: see `reward`, as are the other arguments.
        names: parts of a Router's total (`compose.PARTS`), or rewards; a component that a row has not is
            None.
        weights: of the sum that `metrics` reports.
        columns: see `reward`.
        num_generations: the same.
        name: functions are called NAME/COMPONENT.
        metrics: see `reward`.
        asynchronous: the same.
        engine: the same.
        timeout: the same.

    Raises:
        ValueError: as `reward`, or a name twice.
    """
    if len(set(names)) != len(names) or not names:
        raise ValueError(f"components are different names, one or more, not {', '.join(names) or 'none'}")
    scorer = Scorer(rewards, weights=weights, engine=engine, timeout=timeout)
    name = name or scorer.label
    grading = Grading(scorer, name, dict(columns or {}), num_generations, metrics, LastBatch())
    kind = AsyncFunction if asynchronous else Function
    return [kind(grading, f"{name}/{part}", part) for part in names]


@dataclass(frozen=True)
class Grading:
    """The grading of a batch: samples from what TRL passes, their scores, and what is logged of them."""

    scorer: Scorer
    name: str
    columns: Mapping[str, str]
    num_generations: int | None = None
    metrics: bool = True
    shared: LastBatch[Routed] | None = None

    def batch(self, given: Mapping[str, Any]) -> Batch:
        completions, state = given["completions"], given.get("trainer_state")
        size = len(completions)
        lists = {key: column for key, column in given.items() if key not in OURS and _is_column(column, size)}
        missing = [column for column in self.columns.values() if column not in lists]
        if missing:
            raise ValueError(f"no column {', '.join(missing)} in the data: there are {', '.join(lists)}")
        progress = share(state.global_step, state.max_steps) if state is not None else {}
        ids = given.get("completion_ids")
        batch = batch_of(
            (
                {
                    **({"tokens": len(ids[row])} if ids is not None else {}),
                    **{key: column[row] for key, column in lists.items()},
                    **progress,
                    "prompt": given["prompts"][row],
                    "response": _final(lists, row, completion),
                }
                for row, completion in enumerate(completions)
            ),
            self.columns,
        )
        if self.num_generations or self.scorer.compares:
            return batch._replace(samples=grouped(batch.samples, self.num_generations))
        return batch

    def score(self, given: Mapping[str, Any]) -> Routed:
        def grade() -> Routed:
            batch = self.batch(given)
            return self._logged(batch, self.scorer.score(batch), given)

        return grade() if self.shared is None else self.shared.get(given["completions"], grade)

    async def ascore(self, given: Mapping[str, Any]) -> Routed:
        async def grade() -> Routed:
            batch = self.batch(given)
            return self._logged(batch, await self.scorer.ascore(batch), given)

        return await (grade() if self.shared is None else self.shared.aget(given["completions"], grade))

    def _logged(self, batch: Batch, routed: Routed, given: Mapping[str, Any]) -> Routed:
        report_failures(routed.totals, None)
        ids, log_metric, log_extra = (given.get(key) for key in ("completion_ids", "log_metric", "log_extra"))
        if self.metrics and log_metric is not None:
            lengths = [len(tokens) for tokens in ids] if ids is not None else None
            for figure, value in source_metrics(outcomes_of(batch.samples, routed, lengths)).items():
                log_metric(f"{self.name}/{figure}", value)
        if self.metrics and log_extra is not None:
            log_extra(f"{self.name}/status", [total.status for total in routed.totals])
            log_extra(f"{self.name}/note", [total.note for total in routed.totals])
        return routed


class _Named:
    """The name that TRL reads of a reward function, and the values it gets from scores."""

    def __init__(self, grading: Grading, name: str, part: str = "") -> None:
        self.__name__ = name
        self.grading = grading
        self.part = part

    def __repr__(self) -> str:
        return f"<reward function {self.__name__}>"

    def _values(self, routed: Routed) -> Values:
        if not self.part:
            return [value_of(total) for total in routed.totals]
        rows = zip(routed.totals, routed.scores, strict=True)
        return [component(self.part, total, scores) for total, scores in rows]


class Function(_Named):
    """Called as `f(prompts=..., completions=..., **columns)`; one float or None per completion."""

    def __call__(self, **given: Any) -> Values:
        return self._values(self.grading.score(given))


class AsyncFunction(_Named):
    """The same, awaited."""

    async def __call__(self, **given: Any) -> Values:
        return self._values(await self.grading.ascore(given))


def value_of(total: Score) -> float | None:
    """The value for a trainer that knows None as "not applicable"."""
    return total.value if total.ok and abs(total.value) <= LARGEST else None


def _final(lists: Mapping[str, list[Any]], row: int, completion: Any) -> str:
    """The response to be verified: all that was written, or the last turn of several (see `rollout`)."""
    turns = lists[WRITTEN][row] if WRITTEN in lists else None
    return turns[-1] if turns else spoken(completion, "assistant")


def _is_column(given: Any, size: int) -> bool:
    return isinstance(given, list) and len(given) == size


Ids = list[int]
MARK = "0a1b2c"
"""Stand-in for an answer in a conversation whose rest is wanted; no template changes it."""


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
    """The tokens that the chat template puts after an answer when a question follows, the answer's end
    included."""
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
        name: [[*row, *[0] * (len(own) - len(row))] for row, own in zip(_rows(field), ids, strict=True)]
        if name.endswith("token_type_ids")
        else field
        for name, field in fields.items()
    }


def _rows(field: Any) -> list[Ids]:
    return [row if isinstance(row, list) else row.tolist() for row in field]


def _joined(first: Any, second: Any, between: Sequence[Ids]) -> list[list[float]] | None:
    """Log-probabilities of whole completions, where the sampler gave them; 0 for what it did not write."""
    if first is None:
        return None
    rows = zip(first, second, between, strict=True)
    return [one + ([0.0] * len(more) + other if more else []) for one, other, more in rows]


def _text(trainer: Any, ids: Ids) -> str:
    text: str = trainer._tokenizer.decode(ids, skip_special_tokens=True)
    return text.strip()
