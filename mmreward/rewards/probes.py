"""Perception probes (PEARL): does the policy itself see what its reasoning will need?"""

from typing import Any

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.probes import PARTS, probe_accuracy, probes_of
from ..verifiers.verdict import verified


@reward(
    "probes",
    needs=("response",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="https://github.com/MiliLab/PEARL",
    example={
        "response": "<a1>red</a1><a2>2</a2>",
        "meta": {
            "probes": [
                {"question": "Which colour is the circle?", "answer": "red"},
                {"question": "How many squares are there?", "answer": "3"},
            ]
        },
    },
)
def probes() -> Any:
    """Share of a question's perception probes that the policy answers rightly, 0 to 1.

    The response is the auxiliary rollout, written for `verifiers.probes.probe_prompt`: all probes answered
    at once as `<a1>...</a1><a2>...</a2>`. Where it stands in another column of the data, name that column
    for `response` in the configuration. `sample.meta["probes"]` holds {"question", "answer"} each, with a
    list of answers for synonyms. A probe that is left out or answered twice is wrong; a response without a
    readable answer is worth 0 with `parts["parsed"]` 0. What to do with the score: `shaping.perception`.
    """

    async def score(sample: Sample) -> Score:
        wanted = probes_of(sample.meta.get("probes"))
        return verified(lambda: probe_accuracy(sample.response or "", wanted), PARTS)

    return score
