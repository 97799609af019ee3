"""Synthesis of preference pairs with a generator: `mmreward synthesize`. Two methods, by their names in YAML.

- `Anyprefer` (arXiv:2504.19276): candidates are drawn, tools say what they see in each, a judge that is told
  so chooses, and a rater says how good the pair is. After a poor one both sides change: a writer revises the
  prompt that is drawn from, and the judge is told what its choice lacked.
- `Instruct` (InstructEngine, arXiv:2504.10329): prompts that differ in one respect, one picture for each; a
  pair is kept where the judge prefers each prompt's own picture under that prompt.

A pair always has the prompt that was asked for, whatever prompt its pictures were drawn from. What fails
costs its own prompt and is counted.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..data.pair_columns import Column, Drawn, Judging, content_of
from ..data.pair_folder import PreferencePair
from ..data.pairs import Pair, Rules, candidate_of, choose_pairs
from ..engine.engine import Engine
from ..evaluation import failure
from ..generator import Generator
from ..registry import Reward
from ..sampling import filled
from ..sampling import sample as draw
from ..types import Sample, Score
from .contrasts import Contrast, contrasts_of, read_taxonomy, written_contrasts
from .sampler import picture_seed
from .writers import Critic, RevisionRequest, Writer, bounded, critique_of

KNOWLEDGE = "knowledge"
"""Key of `meta` with what the tools say; a judge reads it with `knowledge: knowledge`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What both methods work with.

    Args:
        generator: draws.
        engine: runs the rewards.
        judge: the reward that chooses, by its name.
        tools: rewards whose notes (or parts) the judge is told.
        rater: the reward of one picture that says how good a pair is, as the critic whose complaints a writer
            reads, by its name; may be empty.
        seed, steps, guidance, batch, timeout: as of a search.
    """

    generator: Generator
    engine: Engine
    judge: Mapping[str, Reward]
    tools: Mapping[str, Reward]
    rater: Mapping[str, Critic]
    seed: int
    steps: int
    guidance: float
    batch: int
    timeout: float | None = None

    def drawn(self, samples: Sequence[Sample], prompts: Sequence[str], seeds: Sequence[int]) -> list[Sample]:
        """The samples with a picture each, drawn from these prompts."""
        inputs = [sample.inputs for sample in samples]
        pixels = draw(
            self.generator,
            prompts,
            seeds,
            self.steps,
            self.guidance,
            inputs=inputs if any(inputs) else (),
            batch=self.batch,
        )
        return filled(samples, pixels, self.generator.fps)

    def told(self, shots: Sequence[Sample], more: Sequence[str]) -> list[Sample]:
        """The shots with what the tools say of each, and `more` about it, under `KNOWLEDGE`."""
        columns = self.engine.score(shots, self.tools, timeout=self.timeout) if self.tools else {}
        known = []
        for row, (shot, text) in enumerate(zip(shots, more, strict=True)):
            lines = [f"{name}: {_said(column[row])}" for name, column in columns.items()]
            words = "\n".join([*lines, *([text] if text else [])]) or "no tool was asked"
            known.append(replace(shot, meta={**shot.meta, KNOWLEDGE: words}))
        return known

    def chosen(self, shots: Sequence[Sample], rules: Rules) -> tuple[dict[str, Pair], Column]:
        """The judge's pair of each group that has one, by the group's name, and its scores."""
        judging = Judging(self.engine, self.judge, self.timeout)
        rows = [Drawn(shot.id, shot, (shot.group or "",)) for shot in shots if content_of(shot)]
        (column,) = judging.judged(rows).values()
        candidates = [candidate_of(row, column) for row in rows]
        pairs, _ = choose_pairs(candidates, rules, column.directs)
        return {pair.chosen.group[0]: pair for pair in pairs}, column

    def rated(self, chosen: Sample, rejected: Sample) -> tuple[float, dict[str, Score]]:
        """By how much the rater prefers the chosen one (NaN where it failed), and its scores of that."""
        ((name, critic),) = self.rater.items()
        reward = critic.reward
        one, other = self.engine.score([chosen, rejected], {name: reward}, timeout=self.timeout)[name]
        sign = 1 if reward.info.higher_is_better else -1
        return sign * (one.value - other.value), {name: one}


def _said(score: Score) -> str:
    """A tool's answer in words."""
    if not score.ok:
        return "no answer"
    if score.note:
        return " ".join(score.note.split())
    parts = score.parts or {"value": score.value}
    return ", ".join(f"{name} {value:g}" for name, value in parts.items())


class Synthesis(NamedTuple):
    """Pairs, and a record of every prompt."""

    pairs: list[PreferencePair]
    records: list[dict[str, Any]]

    def __str__(self) -> str:
        ends = Counter(str(record["end"]) for record in self.records)
        counted = "  ".join(f"{end} {number}" for end, number in sorted(ends.items()))
        return f"{len(self.records)} prompts -> {len(self.pairs)} pairs\n{counted}"


class SynthesisMethod(Protocol):
    """A method of `mmreward synthesize`: a dataclass whose fields are its options in YAML."""

    def check(self, rater: Mapping[str, Critic]) -> None:
        """Raises ValueError for a rater where there is none to be, or none where there is."""
        ...

    def run(self, work: Work, samples: Sequence[Sample], writer: Writer | None) -> Synthesis:
        """Pairs for these prompts."""
        ...


def _pair_of(
    pair: Pair, shots: Mapping[str, Sample], column: Column, work: Work, **facts: Any
) -> PreferencePair:
    chosen, rejected = shots[pair.chosen.id], shots[pair.rejected.id]
    assert chosen.shown is not None and rejected.shown is not None
    return PreferencePair(
        prompt=chosen.prompt,
        chosen=chosen.shown,
        rejected=rejected.shown,
        inputs=chosen.inputs,
        facts={
            "chosen_score": column.values[pair.chosen.id],
            "rejected_score": column.values[pair.rejected.id],
            "margin": pair.margin,
            "reward": next(iter(work.judge)),
            "group": chosen.group,
            "chosen_id": chosen.id,
            "rejected_id": rejected.id,
            **facts,
        },
    )


NONE = "no good pair"


# --- Anyprefer --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _History:
    sample: Sample
    seed: int
    prompt: str
    """The prompt of the next round."""
    advice: str = ""
    drawn: int = 0
    end: str = ""
    record: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anyprefer:
    """Pairs from candidates of one prompt, in rounds until the rater finds the pair good.

    Args:
        n: pictures of a prompt in each round.
        rounds: at most.
        least: rating of the chosen one above the rejected one, in the rater's units, from which a pair is
            good.
        confidence, swing: filters of the judge's choice, see `data.pairs.Rules`.
        max_chars: longest revised prompt.
        keep_words: share of the words of the prompt asked for that a revision must still have.

    Raises:
        ValueError: fewer than two pictures, no round, or a filter outside its range.
    """

    n: int = 4
    rounds: int = 3
    least: float = 0.0
    confidence: float = 0.0
    swing: float = 1.0
    max_chars: int = 600
    keep_words: float = 0.5

    def __post_init__(self) -> None:
        if self.n < 2 or self.rounds < 1:
            raise ValueError(f"n is {self.n} and rounds {self.rounds}: two pictures, and one round at least")
        _ = self.rules

    def check(self, rater: Mapping[str, Critic]) -> None:
        """Raises ValueError without a rater."""
        if not rater:
            raise ValueError("rater: anyprefer rates its pairs, so name a reward there")

    @property
    def rules(self) -> Rules:
        return Rules(confidence=self.confidence, swing=self.swing if self.swing < 1 else float("inf"))

    def run(self, work: Work, samples: Sequence[Sample], writer: Writer | None) -> Synthesis:
        """Pairs for these prompts."""
        histories = [
            _History(sample, picture_seed(work.seed, row), sample.prompt)
            for row, sample in enumerate(samples)
        ]
        pairs: dict[int, PreferencePair] = {}
        for number in range(self.rounds):
            active = [row for row, history in enumerate(histories) if not history.end]
            if not active:
                break
            self._round(number, work, [(row, histories[row]) for row in active], pairs, writer)
        records = [
            {"id": one.sample.id, "prompt": one.sample.prompt, "end": one.end or NONE, "rounds": one.record}
            for one in histories
        ]
        return Synthesis([pairs[row] for row in sorted(pairs)], records)

    def _round(
        self,
        number: int,
        work: Work,
        active: Sequence[tuple[int, _History]],
        pairs: dict[int, PreferencePair],
        writer: Writer | None,
    ) -> None:
        rows = [(row, one, one.drawn + place) for row, one in active for place in range(self.n)]
        samples = [
            replace(one.sample, id=f"{one.sample.id}#{place}", group=str(row)) for row, one, place in rows
        ]
        seeds = [one.seed + place for _, one, place in rows]
        shots = work.drawn(samples, [one.prompt for _, one, _ in rows], seeds)
        shots = work.told(shots, [one.advice for _, one, _ in rows])
        by_id = {shot.id: shot for shot in shots}
        chosen, column = work.chosen(shots, self.rules)
        for row, history in active:
            history.drawn += self.n
            entry: dict[str, Any] = {"round": number, "drawn_from": history.prompt}
            history.record.append(entry)
            if (pair := chosen.get(str(row))) is None:
                entry["pair"] = None
                continue
            best, worst = by_id[pair.chosen.id], by_id[pair.rejected.id]
            rating, scores = work.rated(best, worst)
            entry |= {"pair": [best.id, worst.id], "rating": rating}
            if rating > 0 and rating >= self.least:
                history.end = "pairs"
                facts = {"rating": rating, "round": number, "drawn_from": history.prompt}
                made = _pair_of(pair, by_id, column, work, **facts)
                group = history.sample.group or history.sample.id
                pairs[row] = replace(made, facts={**made.facts, "group": group})
            elif number + 1 < self.rounds:
                self._advise(work, history, best, scores, writer, entry)

    def _advise(
        self,
        work: Work,
        history: _History,
        best: Sample,
        scores: Mapping[str, Score],
        writer: Writer | None,
        entry: dict[str, Any],
    ) -> None:
        """New words for both: the generator's prompt by the writer, and what the judge is told."""
        ((name, score),) = scores.items()
        history.advice = f"An earlier choice was rated poorly by {name}: {_said(score)}"
        if writer is None:
            return
        critique = critique_of(best, scores, work.rater)
        request = RevisionRequest(history.sample.prompt, history.prompt, best.shown, critique)

        async def revise() -> str:
            try:
                text = await writer(request)
                return bounded(
                    text, history.sample.prompt, max_chars=self.max_chars, keep_words=self.keep_words
                )
            except Exception as error:
                entry["revision"] = failure(error, None).note
                return history.prompt

        history.prompt = work.engine.run(revise())


# --- InstructEngine ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruct:
    """Pairs from two prompts that differ in one respect: under each its own picture is the chosen one.

    Args:
        taxonomy: a YAML file of theme -> subjects, from which a language model writes the prompts; without
            it the prompts are those of `prompts`, each with its contrast in `meta.contrast`, or those of
            shapes world.
        model: the language model that writes them: a hub id, a folder or MODEL@URL.
        axes: what prompts differ in: of `contrasts.AXES`.
        confidence, swing: filters of the judge's choice, see `data.pairs.Rules`.
        seed: of the language model and of contrasts in shapes world.
        max_tokens: length at which the model's text is cut off.

    Raises:
        ValueError: a taxonomy without a model or the other way round, or a filter outside its range.
    """

    taxonomy: str = ""
    model: str = ""
    axes: tuple[str, ...] = ("content", "counterfactual", "aesthetics")
    confidence: float = 0.0
    swing: float = 1.0
    seed: int = 0
    max_tokens: int = 256

    def __post_init__(self) -> None:
        if bool(self.taxonomy) != bool(self.model):
            raise ValueError("a taxonomy needs the model that writes its prompts, and a model its taxonomy")
        _ = Rules(confidence=self.confidence)

    def check(self, rater: Mapping[str, Critic]) -> None:
        """Raises ValueError for a rater, which would have no say."""
        if rater:
            raise ValueError("rater: the method instruct has the judge alone, so leave it out")

    def run(self, work: Work, samples: Sequence[Sample], writer: Writer | None) -> Synthesis:
        """Pairs for these prompts, or those of the taxonomy."""
        records: list[dict[str, Any]] = []
        if self.taxonomy:
            topics = read_taxonomy(Path(self.taxonomy))
            found, failed = work.engine.run(
                written_contrasts(self.model, topics, self.axes, self.seed, self.max_tokens)
            )
            records += failed
        else:
            found = contrasts_of(samples, self.seed)
        pairs = self._crossed(work, found, records) if found else []
        return Synthesis(pairs, records)

    def _crossed(
        self, work: Work, found: Sequence[Contrast], records: list[dict[str, Any]]
    ) -> list[PreferencePair]:
        prompts = [prompt for one in found for prompt in one.prompts]
        # One noise for both: what differs is what the prompts differ in.
        seeds = [picture_seed(work.seed, row) for row, _ in enumerate(found) for _ in range(2)]
        blank = [Sample(id=str(row), prompt=text) for row, text in enumerate(prompts)]
        own = work.drawn(blank, prompts, seeds)
        shots = []
        for row, prompt in enumerate(prompts):
            pictures = (own[row], own[row ^ 1])
            shots += [
                replace(one, id=f"{row}#{place}", prompt=prompt, group=str(row))
                for place, one in enumerate(pictures)
            ]
        shots = work.told(shots, [""] * len(shots))
        by_id = {shot.id: shot for shot in shots}
        rules = Rules(confidence=self.confidence, swing=self.swing if self.swing < 1 else float("inf"))
        chosen, column = work.chosen(shots, rules)
        pairs = []
        for number, one in enumerate(found):
            both = [chosen.get(str(row)) for row in (2 * number, 2 * number + 1)]
            valid = [pair for pair in both if pair is not None and pair.chosen.id.endswith("#0")]
            end = "pairs" if len(valid) == 2 else "not told apart" if None in both else "crossed"
            records.append({"id": one.id, "prompt": one.prompts[0], "contrast": one.prompts[1], "end": end})
            if len(valid) == 2:
                facts = {"axis": one.axis, "theme": one.theme, "contrast": one.id}
                pairs += [_pair_of(pair, by_id, column, work, **facts) for pair in valid]
        return pairs


METHODS: Mapping[str, Callable[..., SynthesisMethod]] = {"anyprefer": Anyprefer, "instruct": Instruct}
