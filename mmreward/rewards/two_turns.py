"""Two turns: did a judge that thinks twice do both as it was told (BR-RM)?"""

from typing import Any

from ..failures import Unscorable
from ..judges.asking import heard
from ..registry import reward
from ..types import Sample, Score
from ..verifiers.branches import CRITERIA, WRITTEN, read_branch
from ..verifiers.verdict import Verdict, verified

PARTS = ("turns", "criteria")


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

    `sample.meta["written_turns"]` is what was written, as `adapters.trl_turns` passes it on; the last is the
    response. The first turn names one to three of the criteria and says something of each picture, the second
    reasons and names one of the two (or a tie). `parts` are the number of turns, and of criteria. BR-RM's own
    reward is `verifiers.peers.br_rm`.

    Args:
        criteria: what the first turn chooses from.
    """

    async def score(sample: Sample) -> Score:
        turns = sample.meta.get(WRITTEN)
        if not isinstance(turns, list | tuple) or not all(isinstance(turn, str) for turn in turns):
            raise Unscorable(f"meta[{WRITTEN!r}] is {type(turns).__name__}, not a list of texts")

        def check() -> Verdict:
            if len(turns) != 2:
                raise Unscorable(f"{len(turns)} turns where two are expected", "unparsable")
            branch = read_branch(turns[0], criteria)
            heard((sample.response or "",))
            return Verdict(1.0, {"turns": 2.0, "criteria": float(len(branch.criteria))})

        return verified(check, PARTS)

    return score
