"""MagicGUI-RMS (arXiv:2601.13060): a specialist that corrects a GUI agent's next action, and a generalist
that says which of the two is better.

The specialist says whether the action is right and, where it is not, what would be; the generalist gives an
action its validity, whether the task is complete by it, and a mark. The better marked of proposed and
corrected is what should be done, and a correction that wins is a pair for training: `mmreward gui
correct`. Neither prompts nor forms of the answers were published: both are ours, with the
published fields, and weights that were trained on others say less.
"""

import json
from asyncio import gather
from collections.abc import Mapping
from typing import Any, NamedTuple

from ... import models
from ...errors import Unscorable
from ...media import Media
from ...models.vlms.answers import VLM
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.actions import read_actions
from ...verifiers.response import CLOSED, OPENED, expect_one, read_or_wrong
from ..published.declaring import written
from ..published.grammar import body_of, json_mark, object_in
from ..published.votes import Options
from ..published.wording import Prompt, Wording, worded
from .candidates import LONGEST
from .history import budget_of, check_budget, clipped, plain
from .ui_genie import BODY, SCREENS, action_in, shown_of, told_of, with_screens

PARTS = ("correct", "valid", "complete", "gain", "keep", "steps_left_out")
HIGHEST = 10
FIELDS = {f"{{{name}}}": name for name in ("prompt", "steps", "screens", "candidate")}
SPECIALIST = Prompt(
    own=BODY + "You know this device. Is this next action right, now and here?\n{candidate}\nWrite one JSON "
    'object: {"correct": true, "reason": "why", "corrected": null}; where it is wrong {"correct": false, '
    '"reason": "why", "corrected": the right action in the form of the one above, as text}.',
    fields=FIELDS,
)
GENERALIST = Prompt(
    own=BODY + 'Judge this next action.\n{candidate}\nWrite one JSON object: {"valid": does it make sense on '
    'this screen, true or false, "complete": is the goal reached once it is done, true or false, "score": '
    "how good it is, from 0 to 10}.",
    fields=FIELDS,
)

# --- grammars ---------------------------------------------------------------------------------------------


class Correction(NamedTuple):
    """Verdict of the specialist; `corrected` is "" where it has nothing better."""

    correct: bool
    reason: str
    corrected: str


class Mark(NamedTuple):
    """Mark of the generalist, 0 to 1; 0 for an action that makes no sense on the screen."""

    valid: bool
    complete: bool
    score: float


def read_correction(text: str) -> Correction:
    """The specialist's one JSON object.

    Raises:
        Unscorable: "missing" without a field, "unparsable" for what is no such object, for a correction that
            is not one action, and for one of what is said to be right.
    """
    given = object_in(body_of(text))
    correct, said = _flag(given, "correct"), given.get("corrected")
    words = said if isinstance(said, str) else "" if said is None else json.dumps(said, ensure_ascii=False)
    words = words.strip()
    if words:
        expect_one(read_actions(words), "refuse", "corrected action")
    if correct and words:
        raise Unscorable("the action is said to be right, and is corrected", "unparsable")
    return Correction(correct, str(given.get("reason", "")), words)


def read_mark(text: str) -> Mark:
    """The generalist's one JSON object.

    Raises:
        Unscorable: "missing" without a field, "unparsable" for what is no such object, "out_of_range".
    """
    given = object_in(body_of(text))
    valid, complete = _flag(given, "valid"), _flag(given, "complete")
    if "score" not in given:
        raise Unscorable("there is no score", "missing")
    score = json_mark(given["score"], 0, HIGHEST, "the score")
    return Mark(valid, complete, score / HIGHEST if valid else 0.0)


def _flag(given: Mapping[str, Any], name: str) -> bool:
    if name not in given:
        raise Unscorable(f"there is no {name!r}", "missing")
    if not isinstance(given[name], bool):
        raise Unscorable(f"{name!r} is {str(given[name])[:40]!r}, neither true nor false", "unparsable")
    return bool(given[name])


# --- the reward -------------------------------------------------------------------------------------------


class _Asked(NamedTuple):
    """A judge's question, but for the action that it is about."""

    vlm: VLM
    wording: Wording
    media: tuple[Media, ...]
    values: Mapping[str, str]
    options: Options

    async def about(self, action: str) -> str:
        """What the judge writes of an action."""
        told = f"{OPENED}\n{clipped(plain(action), LONGEST)}\n{CLOSED}"
        wording = with_screens(self.wording, len(self.media))
        text, places = wording.filled({**self.values, "candidate": told})
        return await written(self.vlm, self.media, text, wording, self.options, self.options.seed, places)


@reward(
    "magicgui",
    needs=("prompt", "response", "image"),
    range=(0.0, 1.0),
    paper="arXiv:2601.13060",
    licence="the judges' own",
    example={
        "response": '<tool_call>{"name": "mobile_use", "arguments": '
        '{"action": "click", "coordinate": [10, 9]}}</tool_call>'
    },
)
def magicgui(
    judge: str = "Qwen/Qwen2.5-VL-7B-Instruct",
    generalist: str = "",
    screens: int = SCREENS,
    history: int = 20_000,
    history_tokens: int = 0,
    view: str = "",
    words: str = "own",
    max_tokens: int = 1024,
    temperature: float = 0.0,
    seed: int = 0,
    dtype: str = "float32",
) -> Any:
    """Mark, 0 to 1, that a generalist gives a GUI agent's next action, beside a specialist's correction.

    A row is as for `ui_genie`. `parts` holds `correct` (the specialist's verdict), `valid` and `complete` of
    the proposed action, `gain` (how much better the correction is marked; 0 where there is none), `keep` (0
    where the correction is marked higher, and should be done in its place) and `steps_left_out`. The note is
    JSON with the `action` that should be done, the `corrected` one and the `reason`. A response without one
    readable action, or with several, is worth 0 with `parts["parsed"]` 0.

    Args:
        judge: the specialist, a VLM that knows the device (hub id, folder, "mini-vlm", or MODEL@URL for a
            served one).
        generalist: the VLM that marks; "" for the same.
        screens: most that are shown, the present one among them.
        history: most characters of the steps in words; the first and the newest are kept.
        history_tokens: most tokens of them by the specialist's own tokenizer, in place of characters; 0
            counts characters. A served judge's tokenizer is not at hand, which is refused.
        view: whose screens, where the steps have several.
        words: "own", or a folder with specialist.txt and generalist.txt; see `published.wording.worded`.
        max_tokens: length at which a judgement is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling.
        dtype: of both.

    Raises:
        ValueError: a budget is too small; no screen is to be shown.
    """
    check_budget(history=history)
    if screens < 1:
        raise ValueError(f"screens is {screens}: the present one is always shown")
    options = Options(max_tokens, temperature, seed).checked()
    asking, marking = worded(words, SPECIALIST, "specialist"), worded(words, GENERALIST, "generalist")
    special = models.vlm(judge, dtype=dtype)
    general = models.vlm(generalist, dtype=dtype) if generalist else special
    budget = budget_of(history, history_tokens, special)

    async def score(sample: Sample) -> Score:
        action = read_or_wrong(lambda: action_in(sample.response or ""), PARTS)
        if isinstance(action, Score):
            return action
        shown = await shown_of(sample, "action", view, screens)
        told, left_out = told_of(sample, budget)
        done = {f"done{place}": words for place, words in enumerate(shown.done)}
        values = {"prompt": sample.prompt, "steps": told, **done}
        asked = _Asked(special, asking, shown.pictures, values, options)
        marked = _Asked(general, marking, shown.pictures, values, options)
        said, mark = await gather(asked.about(action), marked.about(action))
        found, proposed = read_correction(said), read_mark(mark)
        noted("specialist", "{}: {}", "right" if found.correct else "wrong", found.reason[:200])
        other = read_mark(await marked.about(found.corrected)) if found.corrected else proposed
        gain = other.score - proposed.score
        noted("generalist", "{} of the proposed, {} of the corrected", proposed.score, other.score)
        parts = {
            "parsed": 1.0, "correct": float(found.correct), "valid": float(proposed.valid),
            "complete": float(proposed.complete), "gain": gain, "keep": float(gain <= 0),
            "steps_left_out": float(left_out),
        }  # fmt: skip
        best = found.corrected if gain > 0 else action
        facts = {"action": best, "corrected": found.corrected or None, "reason": found.reason}
        return Score(proposed.score, parts, note=json.dumps(facts, ensure_ascii=False))

    return score
