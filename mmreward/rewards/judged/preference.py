"""Preference of one of two pictures: a VLM as the judge, and two rewards for training such judges.

`preference` asks a judge (UnifiedReward, arXiv:2503.05236, or in two turns as BR-RM, arXiv:2510.23596). The
engine asks about every pair in both orders, so a judge that always prefers what comes first gives two
opposite verdicts, which make a tie. `verdict` and `two_turns` score what a judge wrote: the right picture,
and both turns in their form. The questions and their readers are in `asking`.
"""

from typing import Any, Literal

from ... import models
from ...errors import Unscorable
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.reading import agreed, plain, read_answer, without_lead
from ...verifiers.response import Reading, Verdict, verified
from .asking import (
    CRITERIA,
    QUESTION,
    SYSTEM,
    TIE,
    WRITTEN,
    Asking,
    Sampling,
    preferred,
    read_branch,
    read_judgement,
)
from .looking import equipment
from .tools import case_of


@reward("preference", needs=("prompt", "image"), range=(0.0, 1.0), arity="pair", paper="arXiv:2503.05236")
def preference(
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    turns: Literal[1, 2] = 1,
    question: str = QUESTION,
    system: str = SYSTEM,
    criteria: tuple[str, ...] = CRITERIA,
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
    `parts["swing"]` is the mean disagreement between the orders, 1 for a judge that goes by the place. A
    judgement without a readable verdict is "unparsable".

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one), such as one trained by
            `python -m mmreward.evals.studies.judges`.
        turns: 1, or 2 for a judge that thinks twice (BR-RM, arXiv:2510.23596), see `asking.Asking`.
        question: the only question of one turn, with `{prompt}` in the place of the request.
        system: the system message; "" for none.
        criteria: the criteria that the first of two turns chooses from.
        max_tokens: length at which each turn is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling.
        tools, calls, tokens, seconds: see `critique`; a budget is of one turn.
        dtype: of the judge.
    """
    asking = Asking(turns=turns, question=question, system=system, criteria=criteria)
    vlm = models.vlm(judge, dtype=dtype)
    sampling = Sampling(max_tokens, temperature, seed)
    equipped = equipment(tools, calls, tokens, seconds)

    async def score(first: Sample, second: Sample) -> Score:
        if first.prompt != second.prompt:
            raise Unscorable(f"two requests in one group: {first.prompt[:60]!r} and {second.prompt[:60]!r}")
        pictures = tuple(sample.image for sample in (first, second) if sample.image is not None)
        looking = equipped and equipped.on(vlm, case_of(first, pictures, "picture"))
        judged = await asking.ask(looking or vlm, first.prompt, pictures, sampling)
        value = 0.5 if judged.verdict == TIE else float(judged.verdict == "1")
        note = "\n\n".join(judged.turns)
        return Score(value, note=f"{looking.note}{note}" if looking else note)

    return score


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
