"""Classes of plotted time series, in the sections of TimeMaster."""

from typing import Any

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.label import known_labels, names_of
from ..verifiers.time_series import PARTS, judge
from ..verifiers.verdict import verified


@reward(
    "time_series",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2506.13705",
    example={
        "response": "<think>The motor units fire late, with long polyphasic waves.</think>\n"
        "<class>Neuropathy</class>",
        "target": "neuropathy",
        "meta": {"labels": ["healthy", "myopathy", "neuropathy"]},
    },
)
def time_series(extension: bool = False, min_chars: int = 32) -> Any:
    """0.9 for the class of a time series and 0.1 for TimeMaster's sections around it.

    The response is `<think>` ... `</think>` `<class>` ... `</class>`, and `<extension>` ... `</extension>`
    where asked for. `sample.target` is a label or its names, `sample.meta["labels"]` the classes there are,
    as for the reward `label`. The class is read after the thinking only, where TimeMaster takes the first one
    anywhere. TimeMaster also pays up to 0.5 for an extension that a judge likes: use `critique` for that.

    Args:
        extension: the form asks for the third section.
        min_chars: characters, spaces not counted, of the thinking (and the extension) for the form to count.
    """
    if min_chars < 1:
        raise ValueError(f"min_chars is {min_chars}: an empty section must not count, so it is at least 1")

    async def score(sample: Sample) -> Score:
        names = names_of(sample.target)
        labels = known_labels(sample.meta.get("labels"), names)
        response = sample.response or ""
        return verified(
            lambda: judge(response, names, labels, extension=extension, min_chars=min_chars), PARTS
        )

    return score
