"""PEARL's gate in TRL's GRPO (arXiv:2511.18437): a group that does not see its picture learns less from its
answers.

    trainer = GatedGRPOTrainer(gate=Gate(floor=0.5), reward_funcs=trl.reward("routes.yaml"),
    train_dataset=..., ...)

The policy also answers perception probes about a prompt's picture: the data set has a column `probes`, a list
of {"question", "answer"} per row. A right answer from a policy that saw nothing is luck. Needs TRL (`pip
install mmreward[trl]`), 1.16 or later, as it stands on methods that TRL does not call public.

Three parts: probes as conversations, and answers to them as a response that the reward `probes` reads;
PEARL's decisions, as pure functions of the scores of `probes` and of an accuracy, in whose means a failed
score does not count (source: https://github.com/MiliLab/PEARL); and the trainer.
"""

import copy
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from ..compose import group_means
from ..config import EngineConfig
from ..engine.engine import Engine
from ..errors import Unscorable
from ..monitor.by_source import OVERALL, SOURCES
from ..monitor.outcomes import UNKNOWN
from ..rewards.rules.probes import TAG, probe_prompt, probes_of
from ..types import Sample, Score
from .rows import ALIASES, Batch
from .scorer import Scorer
from .trl_stable import StableGRPOTrainer

Turn = list[dict[str, Any]]
"""A conversation of one message by the user."""
THOUGHT = ("<think>", "</think>")


def probe_turns(prompt: Any, entries: Any, *, together: bool) -> list[Turn]:
    """Conversations that ask about the pictures of a prompt; none where the probes make no sense, which the
    reward `probes` reports.

    Args:
        prompt: the question's own conversation, of which the pictures are taken, or text.
        entries: probes as a data row has them, see `rewards.rules.probes.probes_of`.
        together: all in one conversation, to be answered as `<a1>...</a1><a2>...</a2>`; else one each, to be
            answered as its question says.
    """
    try:
        probes = probes_of(entries)
    except Unscorable:
        return []
    shown = _pictures(prompt)
    questions = [probe_prompt(probes)] if together else [probe.question for probe in probes]
    return [_turn(shown, question) for question in questions]


def probe_response(said: Sequence[str], *, together: bool) -> str:
    """The answers to the turns of `probe_turns` as one response.

    Of answers apart, one that writes answer or thinking tags itself is left out, so that none can speak for
    another.
    """
    if together:
        return "".join(said)
    return "".join(f"<a{k}>{text}</a{k}>" for k, text in enumerate(said, start=1) if _plain(text))


def _plain(text: str) -> bool:
    return TAG.search(text) is None and not any(tag in text for tag in THOUGHT)


def _pictures(prompt: Any) -> list[Mapping[str, Any]]:
    if isinstance(prompt, str):
        return []
    contents = [message.get("content") for message in prompt]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return [part for part in parts if part.get("type") == "image"]


def _turn(shown: Sequence[Mapping[str, Any]], question: str) -> Turn:
    """Without pictures plain text: chat templates of language models take no lists."""
    asked = {"type": "text", "text": question}
    return [{"role": "user", "content": [*shown, asked] if shown else question}]


@dataclass(frozen=True, slots=True)
class PerceptionRates:
    """Shares of the samples both of whose scores worked, 0 to 1; NaN where there are none.

    Args:
        consistent: the answer and all probes right.
        lucky: the answer right and no probe.
        all_right: all probes right.
    """

    consistent: float
    lucky: float
    all_right: float


def trim(probes: Mapping[str, float], *, above: float = 0.01, skip: float = 0.3, seed: int = 0) -> list[str]:
    """The prompts the policy sees something of: those whose mean probe accuracy is above `above`.

    A prompt whose probes all failed is kept: that says nothing about the policy.

    Args:
        probes: prompt -> mean probe accuracy, see `compose.group_means`.
        above: PEARL takes 0.01.
        skip: probability that all prompts are kept, so that hard ones are not lost for good; PEARL's 0.3.
        seed: of the draw, one per round.

    Raises:
        ValueError: a probability outside [0, 1].
    """
    if not 0 <= skip <= 1:
        raise ValueError(f"skip {skip} is a probability")
    spared = random.Random(f"{seed}").random() < skip
    return [prompt for prompt, mean in probes.items() if spared or math.isnan(mean) or mean > above]


def probe_weights(
    probes: Sequence[Score], groups: Sequence[str | None], *, floor: float = 0.5
) -> list[float]:
    """Factors of the advantages: max(floor, mean probe accuracy of the sample's group).

    1 for a group whose probes all failed.

    Raises:
        ValueError: a floor outside [0, 1], or as `compose.by_group`.
    """
    if not 0 <= floor <= 1:
        raise ValueError(f"floor is {floor}; it lies in [0, 1]")
    means = group_means(probes, groups)
    return [1.0 if math.isnan(mean := means[str(group)]) else max(floor, mean) for group in groups]


def mix_filter(
    answers: Mapping[str, float], probes: Mapping[str, float], *, low: float = 0.01, high: float = 0.99
) -> list[str]:
    """The prompts that can teach something: mean accuracy or mean probe accuracy within (low, high).

    Args:
        answers: prompt -> mean accuracy of its answers, see `compose.group_means`.
        probes: prompt -> mean probe accuracy; NaN lies in no interval.
        low, high: open ends; PEARL takes 0.01 and 0.99.

    Raises:
        ValueError: prompts that only one of the two has, or low not below high.
    """
    if set(answers) != set(probes):
        odd = sorted(set(answers) ^ set(probes))
        raise ValueError(f"answers and probes are of the same prompts; only one has {', '.join(odd[:5])}")
    if not low < high:
        raise ValueError(f"low {low} must be below high {high}")
    return [prompt for prompt, mean in answers.items() if low < mean < high or low < probes[prompt] < high]


def perception_rates(
    answers: Sequence[Score], probes: Sequence[Score], *, right: float = 0.5
) -> PerceptionRates:
    """The shares of a batch that PEARL logs.

    Args:
        answers: accuracy of every sample; from `right` up it counts as right.
        probes: its probe accuracy; 1 is all right, 0 none.
        right: see `answers`.

    Raises:
        ValueError: columns of unequal length.
    """
    both = [(a.value >= right, p.value) for a, p in zip(answers, probes, strict=True) if a.ok and p.ok]
    if not both:
        return PerceptionRates(math.nan, math.nan, math.nan)
    return PerceptionRates(
        consistent=fmean(good and share == 1 for good, share in both),
        lucky=fmean(good and share == 0 for good, share in both),
        all_right=fmean(share == 1 for _, share in both),
    )


LOGGED = "gate"
FIGURE = "perception"
"""Figures are logged as "gate/sources/SOURCE/perception/NAME"."""
Inputs = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Options of the gate: how probes are asked, and what their answers decide.

    Args:
        floor: the least an advantage is multiplied by, in [0, 1]; PEARL's 0.5. With 1 nothing is gated, but
            all is measured.
        trim: groups whose mean probe accuracy is at most this do not train (their factor is 0), see `trim`;
            PEARL's 0.01. Default: all train.
        spare: probability that a step trims none; PEARL's 0.3.
        mix: (low, high): groups with neither a mean accuracy nor a mean probe accuracy in between do not
            train, see `mix_filter`; PEARL's (0.01, 0.99). Default: all train.
        column: of the data set, with the probes; a row that has none is not gated.
        together: all probes of a row in one rollout, as PEARL asks them; else one short rollout each.
        greedy: answered once per group and greedily; else once per completion, sampled as the completions.
        longest: tokens of an answer; default: as many as a completion has.
        accuracy: the reward function that says whether an answer is right, for the rates; default: the
            first.
        right: the accuracy from which an answer counts as right.
        engine: what verifies the answers, see `scorer.Scorer`.

    Raises:
        ValueError: a floor or probability outside [0, 1], mix with low not below high, or a length below 1.
    """

    floor: float = 0.5
    trim: float | None = None
    spare: float = 0.3
    mix: tuple[float, float] | None = None
    column: str = "probes"
    together: bool = True
    greedy: bool = False
    longest: int | None = None
    accuracy: str = ""
    right: float = 0.5
    engine: EngineConfig | Engine | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor is {self.floor}; it lies in [0, 1]")
        if self.longest is not None and self.longest < 1:
            raise ValueError(f"longest is {self.longest} tokens; an answer needs 1 at least")
        trim({}, skip=self.spare)
        if self.mix is not None:
            mix_filter({}, {}, low=self.mix[0], high=self.mix[1])


class GatedGRPOTrainer(StableGRPOTrainer):
    """GRPOTrainer whose advantages are multiplied by max(floor, mean probe accuracy of their group), or by 0
    where the gate's `trim` or `mix` leaves the group out.

    The current policy answers the probes right after its completions. A group whose probes all failed (the
    data's fault, see the reward `probes`) keeps its advantages, while an unreadable answer is a wrong one.
    Groups may lie across processes. Probes have a random state of their own, so that completions are those
    of a run without a gate; evaluation is not gated. TRL's table of completions shows advantages before the
    gate, and the weights beside them as "gate/weight".

    Args:
        gate: see `Gate`.
        stable: with the guards of `trl_stable.StableGRPOTrainer`, whose filter comes before the gate.
        *args: of GRPOTrainer, as are all other arguments.

    Raises:
        ValueError: a reward function `gate.accuracy` that is not there; `greedy` or `longest` with vLLM,
            which samples probes as it samples completions; at the first batch, data without `gate.column`.
    """

    generation_config: Any

    def __init__(self, *args: Any, gate: Gate | None = None, stable: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, stable=stable, **kwargs)
        self.gate = gate or Gate()
        if self.use_vllm and (self.gate.greedy or self.gate.longest is not None):
            raise ValueError("with vLLM, probes are sampled as completions are: leave out greedy and longest")
        names = self.reward_func_names
        if self.gate.accuracy and self.gate.accuracy not in names:
            raise ValueError(f"no reward function {self.gate.accuracy!r}; there are {', '.join(names)}")
        self._accuracy = names.index(self.gate.accuracy) if self.gate.accuracy else 0
        self._verifier = Scorer("probes", engine=self.gate.engine)
        self._weights = torch.ones(0)

    def _generate_and_score_completions(self, inputs: Inputs) -> dict[str, Any]:
        training = self.model.training
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if training:
            batch["advantages"] = batch["advantages"] * self._weights
        return batch

    def _calculate_rewards(
        self, inputs: Inputs, prompts: Sequence[Any], completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        """Rewards of all processes; here TRL still collects what this batch has to log."""
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.model.training:
            samples = self._probed(inputs, prompts)
            probes = self._verifier.score(Batch(samples, {})).totals
            answers = rewards[:, self._accuracy].tolist()
            weights = self._gated(probes, answers)
            self._log_figures(samples, self._own(answers, len(samples)), probes, weights)
            self._weights = torch.tensor(weights, device=self.accelerator.device)
        return rewards

    def _gated(self, probes: Sequence[Score], answers: Sequence[float]) -> list[float]:
        """The weights of this process's rows, whose groups may go on in the next process.

        Args:
            probes: scores of this process's rows.
            answers: accuracies of the rows of all processes, NaN where failed.
        """
        values = torch.tensor([probe.value for probe in probes], device=self.accelerator.device)
        everywhere = [_score(value) for value in self.accelerator.gather(values).tolist()]
        groups = [str(row // self.num_generations) for row in range(len(everywhere))]
        weights = probe_weights(everywhere, groups, floor=self.gate.floor)
        teaching = self._teaching(everywhere, [_score(value) for value in answers], groups)
        held = [weight if group in teaching else 0.0 for weight, group in zip(weights, groups, strict=True)]
        return self._own(held, len(probes))

    def _teaching(self, probes: Sequence[Score], answers: Sequence[Score], groups: Sequence[str]) -> set[str]:
        """The groups that train."""
        seen, teaching = group_means(probes, groups), set(groups)
        if self.gate.trim is not None:
            draw = self.args.seed * 1_000_003 + self._step  # the same in all processes
            teaching &= set(trim(seen, above=self.gate.trim, skip=self.gate.spare, seed=draw))
        if self.gate.mix is not None:
            low, high = self.gate.mix
            teaching &= set(mix_filter(group_means(answers, groups), seen, low=low, high=high))
        return teaching

    def _own(self, column: list[float], size: int) -> list[float]:
        start = self.accelerator.process_index * size
        return column[start : start + size]

    def _probed(self, inputs: Inputs, prompts: Sequence[Any]) -> list[Sample]:
        """This process's rows with what the policy answered to their probes."""
        column = self.gate.column
        if not any(column in row for row in inputs):
            raise ValueError(f"no column {column} in the data: there are {', '.join(inputs[0])}")
        return [
            Sample(id=str(number), source=_source(row), response=text, meta={"probes": row.get(column)})
            for number, (row, text) in enumerate(zip(inputs, self._answered(inputs, prompts), strict=True))
        ]

    def _answered(self, inputs: Inputs, prompts: Sequence[Any]) -> list[str]:
        """A response per row; greedy ones are written once per group."""
        first: dict[int, int] = {}
        start = self.accelerator.process_index * len(prompts)
        groups = [(start + row) // self.num_generations for row in range(len(prompts))]
        asked = [
            first.setdefault(group, row) if self.gate.greedy else row for row, group in enumerate(groups)
        ]
        together = self.gate.together
        turns = {
            row: probe_turns(prompts[row], inputs[row].get(self.gate.column), together=together)
            for row in dict.fromkeys(asked)
        }
        said = iter(self._said([turn for own in turns.values() for turn in own], prompts))
        written = {
            row: probe_response([next(said) for _ in own], together=together) for row, own in turns.items()
        }
        return [written[row] for row in asked]

    def _said(self, turns: Sequence[Turn], prompts: Sequence[Any]) -> list[str]:
        """The policy's answers, as many at a time as there are completions.

        A sharded model answers on all processes or on none: those with fewer probes ask on.
        """
        lengths = torch.tensor([len(turns)], device=self.accelerator.device)
        most = int(self.accelerator.gather(lengths).max())
        asked = [*turns, *[prompts[0]] * (most - len(turns))]
        said: list[str] = []
        with self._apart():
            for begin in range(0, most, len(prompts)):
                ids, images, fields = self._tokenize_prompts(asked[begin : begin + len(prompts)])
                tokens, _ = self._generate_single_turn(ids, images, fields, 1)
                said += self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return said[: len(turns)]

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Generation as the gate wants it, which leaves no trace in the completions' random state."""
        device = self.accelerator.device
        on_gpu = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=on_gpu), self._probing():
            torch.manual_seed(hash((self.args.seed, self._step, self.accelerator.process_index)))
            yield

    @contextmanager
    def _probing(self) -> Iterator[None]:
        if self.use_vllm:  # it has no such configuration, and `__init__` refused what would need one
            yield
            return
        usual = self.generation_config
        own = copy.deepcopy(usual)
        own.do_sample = usual.do_sample and not self.gate.greedy
        own.max_new_tokens = self.gate.longest or usual.max_new_tokens
        self.generation_config = own
        try:
            yield
        finally:
            self.generation_config = usual

    def _log_figures(
        self,
        samples: Sequence[Sample],
        accuracies: Sequence[float],
        probes: Sequence[Score],
        weights: Sequence[float],
    ) -> None:
        """Write to TRL's log as reward functions do: averaged over processes and logging steps."""
        answers = [_score(value) for value in accuracies]
        rows: dict[str, list[int]] = {OVERALL: list(range(len(samples)))}
        for row, sample in enumerate(samples):
            rows.setdefault(f"{SOURCES}/{(sample.source or UNKNOWN).replace('/', '_')}", []).append(row)
        for block, own in rows.items():
            figures = _figures(
                [answers[row] for row in own],
                [probes[row] for row in own],
                [weights[row] for row in own],
                self.gate.right,
            )
            for name, value in figures.items():
                self._log_metric(f"{LOGGED}/{block}/{FIGURE}/{name}", value)
        self._log_completion_extra(f"{LOGGED}/weight", list(weights))


def _figures(
    answers: Sequence[Score], probes: Sequence[Score], weights: Sequence[float], right: float
) -> dict[str, float]:
    """Shares, and means of what worked; what could not be measured is absent."""
    rates = perception_rates(answers, probes, right=right)
    worked = [probe.value for probe in probes if probe.ok]
    found = {
        "probes": fmean(worked) if worked else math.nan,
        "failed": 1 - len(worked) / len(probes),
        "weight": fmean(weights),
        "consistent": rates.consistent,
        "lucky": rates.lucky,
        "all_right": rates.all_right,
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _score(value: float) -> Score:
    """A score that came as a number of a tensor, where NaN stands for a failure."""
    return Score(value) if math.isfinite(value) else Score.failed("error", "failed in its process")


def _source(row: Mapping[str, Any]) -> str:
    return next((str(row[name]) for name in ALIASES["source"] if row.get(name)), "")
