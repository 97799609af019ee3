"""Candidates of an agent's next step, for judges that rank them: what each says and does, and the state that
they share.

A row is one candidate: `prompt` is the goal, `steps` what was done before (each with `action`, and `thought`
and `observation` where known), `image` the screen now, `response` the candidate. What a page says of itself
stands in `meta`: `url`, `start_url`, and its accessibility tree under a key that the judge's argument names.
Rows of one `group` are candidates of one step.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import Unscorable
from ...trajectories import seen_in
from ...types import Sample
from ...verifiers.response import segment, without_leftovers

LONGEST = 4000
"""Characters of a candidate's action, and of its thought, that a judge is shown."""
SAID = re.compile(r"(?:^|\n)[ \t*#]*action[ \t*]*:", re.IGNORECASE)
THOUGHT = re.compile(r"\s*[*#]*\s*thoughts?[ \t*]*:", re.IGNORECASE)


class Candidate(NamedTuple):
    """A candidate's thought, "" where it has none, and its action, both in its own words."""

    thought: str
    action: str


def candidate_of(response: str) -> Candidate:
    """Candidate that a response is.

    Its action is what stands in `<answer>`, or after the last line that begins with "Action:", or all that
    follows the thinking.

    >>> candidate_of("Thought: the field is empty\\nAction: click('a12')")
    Candidate(thought='the field is empty', action="click('a12')")

    Raises:
        Unscorable: "unparsable" where it is cut off, has several answers, or does nothing.
    """
    thought, body = segment(response, bare=True)
    places = list(SAID.finditer(body))
    if places:
        said, body = body[: places[-1].start()], body[places[-1].end() :]
        said = THOUGHT.sub("", said, count=1).strip()
        thought = "\n".join(part for part in (thought, said) if part)
    action = without_leftovers(body)
    if not action:
        raise Unscorable("the candidate does nothing: it has no action", "unparsable")
    return Candidate(thought, action)


def check_one_state(samples: Sequence[Sample], keys: Sequence[str]) -> None:
    """Check that candidates are of one step.

    Args:
        samples: a row each.
        keys: of `meta` that say where the agent is.

    Raises:
        Unscorable: their goals, histories, screens or pages differ.
    """
    first, *others = [_state(sample, keys) for sample in samples]
    for other in others:
        if other != first:
            differs = next(name for name in first if first[name] != other[name])
            raise Unscorable(f"the candidates are not of one step: {differs} differs")


def _state(sample: Sample, keys: Sequence[str]) -> Mapping[str, Any]:
    done = [_bare(step) for step in sample.steps]
    seen = [media.key for _, _, media in seen_in(sample.steps)]
    screens = [media.key for media in (sample.shown, *sample.inputs) if media is not None]
    told = {f"meta[{key!r}]": sample.meta.get(key) for key in keys}
    return {"the goal": sample.prompt, "the history": (done, seen), "the screen": screens, **told}


def _bare(step: Any) -> Any:
    if not isinstance(step, Mapping):
        return step
    return {key: value for key, value in step.items() if key != "observation"}
