"""Preference of one of two pictures: a VLM as the judge, and two rewards for training such judges.

`preference` asks a judge (UnifiedReward, arXiv:2503.05236, in two turns as BR-RM, arXiv:2510.23596, or in one
of `pair_modes`). The engine asks about every pair in both orders, so a judge that always prefers what comes
first gives two opposite verdicts, which make a tie. `verdict` and `two_turns` score what a judge wrote: the
right picture, and both turns in their form. The questions and their readers are in `asking`.
"""

import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from ... import models
from ...errors import Unscorable
from ...media import Media
from ...models.vlms.answers import VLM, Writer
from ...registry import record_network, reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.reading import agreed, plain, read_answer, without_lead
from ...verifiers.response import Reading, Verdict, verified
from ..published.declaring import ballot, known_of, of_pair
from ..published.expecting import Place
from ..published.grammar import TIE, preferred
from ..published.looking import Looking, equipment
from ..published.tools import case_of
from ..published.votes import Options, PairMarks, Vote, by_verdict, voted
from ..published.wording import worded
from .asking import (
    CRITERIA,
    QUESTION,
    SYSTEM,
    WRITTEN,
    Asking,
    Judgement,
    Sampling,
    read_branch,
    read_judgement,
)
from .critique import meta_of
from .pair_modes import PAIR_MODES, WRITING, contrast_ballot, few_rubrics

Mode = Literal["verdict", "principles", "given", "chain", "contrast"]
How = Literal["written", "expected"]
OTHERS = {"1": "2", "A": "B", "a": "b", "one": "two", "first": "second", "One": "Two", "First": "Second"}
OTHERS |= {other: one for one, other in OTHERS.items()}
PLACED = tuple(
    re.compile(rf"\b(?:{words})\b") for words in ("1|2", "A|B", "[Ff]irst|[Ss]econd", "[Oo]ne|[Tt]wo", "a|b")
)
"""Words that name a place, the plainest first: "picture 2 is the better one" has one of the first kind."""


@reward(
    "preference",
    needs=("prompt", "image"),
    range=(0.0, 1.0),
    arity="pair",
    paper="arXiv:2503.05236, arXiv:2504.02495, arXiv:2506.03637, arXiv:2505.02387, arXiv:2603.08035",
)
def preference(
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    mode: Mode = "verdict",
    turns: Literal[1, 2] = 1,
    question: str = QUESTION,
    system: str = SYSTEM,
    criteria: tuple[str, ...] = CRITERIA,
    principle: str = "",
    rubric: str = "",
    words: str = "own",
    writer: str = "",
    knowledge: str = "",
    how: How = "written",
    votes: int = 1,
    meta: str = "",
    keep: int = 0,
    contradictions: Literal["fail", "keep"] = "fail",
    max_tokens: int = 1024,
    temperature: float = 0.0,
    seed: int = 0,
    tools: tuple[str, ...] = (),
    calls: int = 8,
    tokens: int = 8192,
    seconds: float = 300.0,
    dtype: str = "float32",
) -> Any:
    """1 where the first of two pictures fits the request better, 0 where the second does, 0.5 for a tie.

    A sample's score is the mean over both orders and over all others of its group, see `Engine.score`;
    `parts["swing"]` is the mean disagreement between the orders, 1 for a judge that goes by the place, and
    `parts["uncertainty"]` the standard deviation of a verdict over votes, probabilities and orders; with
    votes or probabilities `parts["confidence"]` is the share of the commoner verdict. A judgement without a
    readable verdict is "unparsable".

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one), such as one trained by
            `python -m mmreward.evals.studies.judges`.
        mode: "verdict" after thinking; by "principles" that the judge chooses and weighs itself (SPCT); by
            one that is "given" in words (RewardAnything); in a "chain" of rubrics (RM-R1); by rubrics made
            of a "contrast" of the two (CDRRM). See `pair_modes`.
        turns: of the mode "verdict": 1, or 2 for a judge that thinks twice (BR-RM, arXiv:2510.23596), see
            `asking.Asking`.
        question: the only question of one turn, with `{prompt}` in the place of the request.
        system: the system message of the mode "verdict"; "" for none.
        criteria: the criteria that the first of two turns chooses from.
        principle: of the mode "given".
        rubric: of the mode "contrast": a file of rubrics, as `mmreward judge rubrics` learns them from
            labelled pairs, in the place of those that are written of the two pictures.
        words: "own", or of the modes "given" and "chain" "published" or a file, see
            `published.wording.worded`.
        writer: of the mode "contrast": the VLM that writes the rubrics; the judge by default.
        knowledge: key of `meta` where each has what tools say of it, in words, which the judge is told
            (Anyprefer, `mmreward synthesize`); "" for nothing.
        how: "written" takes the verdict as written, "expected" its probability in the place where it stands,
            in one turn of the mode "verdict"; in this process and with vLLM.
        votes: samples whose mean is taken, at a temperature above 0, with seeds from `seed` on.
        meta: a VLM that checks the votes, so that the best of them count; "" for none.
        keep: votes that count then; 0 for half of them.
        contradictions: "fail" for a verdict against its own marks ("unparsable"), "keep" takes it and says so
            in `parts["contradiction"]`.
        max_tokens: length at which each turn is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling; that of the first vote.
        tools, calls, tokens, seconds: see `critique`; not in the mode "contrast".
        dtype: of the judge.
    """
    if how == "expected" and (mode != "verdict" or turns != 1):
        raise ValueError("how=expected reads the verdict of one turn of the mode verdict")
    if bool(principle.strip()) != (mode == "given"):
        raise ValueError("principle is the words that the mode given judges by: give both, or neither")
    if words != "own" and mode not in ("given", "chain"):
        raise ValueError(f"the words of the mode {mode} are ours: leave words out")
    if knowledge and mode == "contrast":
        raise ValueError("the rubrics of the mode contrast are of the pictures alone: leave knowledge out")
    if writer and mode != "contrast":
        raise ValueError("writer writes the rubrics of the mode contrast: leave it out in others")
    if rubric and (mode != "contrast" or writer):
        raise ValueError(
            f"rubric={rubric} has the rubrics of the mode contrast: "
            + ("leave writer out" if writer else "say mode=contrast")
        )
    if tools and (mode == "contrast" or how == "expected"):
        raise ValueError("tools are for what is written: leave them out with how=expected and mode=contrast")
    asking = Asking(turns=turns, question=question, system=system, criteria=criteria)
    if mode != "verdict" and asking != Asking():
        raise ValueError("turns, question, system and criteria are of the mode verdict: leave them out")
    options = Options(max_tokens, temperature, seed, votes, contradictions).checked()
    vlm = models.vlm(judge, dtype=dtype)
    checker = meta_of(meta, keep, options, dtype)
    equipped = equipment(tools, calls, tokens, seconds)
    making: Callable[
        [tuple[Sample, Sample], Looking | None], Awaitable[Callable[[int], Awaitable[Vote[PairMarks]]]]
    ]
    if mode in PAIR_MODES:
        declared = PAIR_MODES[mode](LOW, HIGH, principle)
        wording = worded(words, declared.prompt)

        async def making(
            pair: tuple[Sample, Sample], looking: Looking | None
        ) -> Callable[[int], Awaitable[Vote[PairMarks]]]:
            hint = known_of(pair, knowledge)
            return (await ballot(vlm, declared, wording, pair, options, hint, looking))[0]

    elif mode == "contrast":
        record_network(WRITING)
        learned = few_rubrics(rubric) if rubric else ()
        author = models.vlm(writer, dtype=dtype) if writer else vlm
        contrast = partial(contrast_ballot, vlm, author, options, rubrics=learned)

        async def making(
            pair: tuple[Sample, Sample], looking: Looking | None
        ) -> Callable[[int], Awaitable[Vote[PairMarks]]]:
            return await contrast(pair)

    else:

        async def making(
            pair: tuple[Sample, Sample], looking: Looking | None
        ) -> Callable[[int], Awaitable[Vote[PairMarks]]]:
            hint = known_of(pair, knowledge)
            return partial(_verdict, vlm, looking or vlm, asking, how, pair, options, hint)

    async def score(first: Sample, second: Sample) -> Score:
        if first.prompt != second.prompt:
            raise Unscorable(f"two requests in one group: {first.prompt[:60]!r} and {second.prompt[:60]!r}")
        pictures = _pictures((first, second))
        looking = equipped and equipped.on(vlm, case_of(first, pictures, "picture"))
        vote = await making((first, second), looking)
        score = of_pair(await voted(vote, options, checker, pictures, first.prompt), (first, second))
        return replace(score, note=looking.note + score.note) if looking else score

    return score


LOW, HIGH = 1.0, 10.0
"""Scale of the marks of SPCT."""


def _pictures(pair: tuple[Sample, Sample]) -> tuple[Media, ...]:
    return tuple(sample.image for sample in pair if sample.image is not None)


async def _verdict(
    vlm: VLM,
    writer: Writer,
    asking: Asking,
    how: str,
    pair: tuple[Sample, Sample],
    options: Options,
    hint: str,
    number: int,
) -> Vote[PairMarks]:
    """Vote of a number in the mode "verdict"."""
    sampling = Sampling(options.max_tokens, options.temperature, options.seed + number)
    judged = await asking.ask(writer, pair[0].prompt, _pictures(pair), sampling, hint=hint)
    words = "\n\n".join(judged.turns)
    marks = PairMarks({}, {}, judged.verdict)
    vote = Vote(marks, by_verdict(marks), words)
    if how == "written" or judged.verdict == TIE:
        return vote
    text = asking.opening(pair[0].prompt) + hint
    return await _by_probability(Place(vlm, _pictures(pair), text, asking.system), judged, vote)


async def _by_probability(place: Place, judged: Judgement, vote: Vote[PairMarks]) -> Vote[PairMarks]:
    """The vote with the probability of the first place against the second, where the verdict stands.

    Raises:
        Unscorable: "unparsable" where the verdict names a place in no word that the other can stand for.
    """
    text = judged.turns[-1]
    start = text.rindex("<answer>") + len("<answer>") if "<answer>" in text else 0
    named = [found for pattern in PLACED if (found := list(pattern.finditer(text, start)))]
    if not named or len(named[0]) != 1:
        raise Unscorable(f"no one word of the verdict {text[start:][:60]!r} names a place", "unparsable")
    said = named[0][0][0]
    chances = await place.chances(text[: named[0][0].start()], (said, OTHERS[said]), name="the verdict")
    own = chances[said]
    first = own if judged.verdict == "1" else 1 - own
    return vote._replace(value=first, spread=math.sqrt(first * (1 - first)), confidence=max(first, 1 - first))


TWO_TURNS_PARTS = ("turns", "criteria")


@reward(
    "two_turns",
    needs=("response",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2510.23596",
    example={
        "response": "<think>Picture 1 has one circle, as asked.</think><answer>1</answer>",
        "meta": {
            "written_turns": [
                "Look at: number\nPicture 1: nothing\nPicture 2: two circles instead of one",
                "<think>Picture 1 has one circle, as asked.</think><answer>1</answer>",
            ]
        },
    },
)
def two_turns(criteria: tuple[str, ...] = CRITERIA) -> Any:
    """1 where both turns have their form, else 0: make it a gate, so that a verdict alone earns nothing.

    `sample.meta["written_turns"]` holds the texts of the turns, as `adapters.trl` passes them on; the last is
    the response. The first turn names one to three of the criteria and says something of each picture, the
    second reasons and names one of the two (or a tie). `parts` are the number of turns, and of criteria.
    BR-RM itself pays -100 for a turn without its form, beside 0 for the right verdict and -1 for the wrong
    one, so that one malformed response among eight makes all others nearly equal.

    Args:
        criteria: the criteria that the first turn chooses from.
    """

    async def score(sample: Sample) -> Score:
        turns = sample.meta.get(WRITTEN)
        if not isinstance(turns, list | tuple) or not all(isinstance(turn, str) for turn in turns):
            raise Unscorable(f"meta[{WRITTEN!r}] is {type(turns).__name__}, not a list of texts")

        def check() -> Verdict:
            if len(turns) != 2:
                raise Unscorable(f"{len(turns)} turns where two are expected", "unparsable")
            branch = read_branch(turns[0], criteria)
            read_judgement((sample.response or "",))
            return Verdict(1.0, {"turns": 2.0, "criteria": float(len(branch.criteria))})

        return verified(check, TWO_TURNS_PARTS)

    return score


VERDICT_PARTS = ("tie",)


@reward(
    "verdict",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2505.03318",
    example={
        "response": "<think>The first is missing the red circle.</think><answer>Image 2 is better</answer>",
        "target": "2",
    },
)
def verdict(bare: bool = False, reading: Reading = "clear") -> Any:
    """1 where the answer names the better of two, else 0; for the training of judges.

    `sample.target` is "1" or "2", or "tie". The answer may be "2", "B", "the second image", "Image 2 is
    better" or "Both images are equally good", and nothing else. `parts["tie"]` is whether it is a tie.

    Args:
        bare: accept an answer without `<answer>` tags.
        reading: "clear" takes off the dress of an answer (LaTeX, bold, "The answer is"); "strict" takes it as
            it stands.
    """

    def place(text: str) -> str:
        return preferred(plain(without_lead(text)) if reading == "clear" else text)

    async def score(sample: Sample) -> Score:
        try:
            right = preferred(str(sample.target))
        except Unscorable:
            raise Unscorable(f"the target {str(sample.target)[:40]!r} is not 1, 2 or tie") from None

        def check() -> Verdict:
            answer = agreed(read_answer(sample.response or "", bare=bare, reading=reading), place, place)
            noted("compared", "says {}, right is {}", *(one or "tie" for one in (answer, right)))
            return Verdict(float(answer == right), {"tie": float(answer == TIE)})

        return verified(check, VERDICT_PARTS)

    return score
