"""Actions and episodes of GUI agents against the right ones, under a published rule of a match.

`gui_action` judges one response, `gui_episode` a trajectory. What the numbers are called: *type* is the share
of steps with the right type; *grounding* that of steps done at a place whose place is right, of all of them
(`grounding`) or of those with the right type (`grounding_given_type`); *step* that of steps that are right
altogether; an *episode* succeeds where all its steps are right. A missing or unreadable step is wrong.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ...errors import Unscorable, nearest
from ...limits import limits, most
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.action_forms import Grammar
from ...verifiers.actions import Action, View, action_of, read_actions
from ...verifiers.response import Several, Verdict, expect_one, read_aside, verified
from ...verifiers.spaces import Named, space_of
from .rules import RULES, Matched, Rule, best
from .targets import Gold, gold_of, known_size, view_of

Swipe = Literal["finger", "content"]
PARTS = ("type", "place", "words", "pointed", "found")
WRONG = Matched(False, False, False, False)


def rule_of(name: str) -> Rule:
    """Look up a rule by name.

    Raises:
        ValueError: there is none; the message offers the nearest names.
    """
    if name not in RULES:
        raise ValueError(f"no rule of GUI actions is named {name!r}: {nearest(name, sorted(RULES))}")
    return RULES[name]


@reward(
    "gui_action",
    needs=("response", "target"),
    optional=("image",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2406.03679",
    example={
        "response": '<answer>{"action": "click", "coordinate": [250, 260]}</answer>',
        "target": {"action": {"type": "click", "point": [240, 250]}, "boxes": [[100, 100, 400, 400]]},
    },
)
def gui_action(
    rule: str = "box",
    grammar: Grammar = "any",
    space: Named = "norm_1000",
    target_space: Named = "norm_1000",
    several: Several = "refuse",
    swipe: Swipe = "finger",
) -> Any:
    """Action of a GUI agent against the right one under a named rule: 1 for right type, place and words.

    The target is an action (`{"type": "click", "point": [x, y]}`, in any grammar that a response may have), a
    list of actions of which any will do, or `{"action": ..., "boxes": [...], "nodes": [{"box", "text"}]}`
    with the boxes of the element that is meant and, for rules that look at them, all elements of the screen.

    Rules: "box" (ours: in a box of the target), "a11y", "aitw", "aitz", "odyssey", "qwen", "ui_genie",
    "os_genesis", "gui_r1", "gui_r1_eval", "ui_r1", "btl_ui", "os_atlas", "os_atlas_odyssey", "ui_tars"; what
    each counts is in `rewards.gui.rules`. One click is right under some and wrong under others, so say which
    beside every number. "aitz" pays for a box over the whole screen, as its authors do: do not train with it.

    Args:
        rule: of the match.
        grammar: of the response: "any", or the one that alone counts: "pyautogui", "aguvis", "ui-tars",
            "glm", "qwen" (computer_use and mobile_use), "androidcontrol", "json", "os-atlas", "odyssey".
        space: of the response's coordinates, as in `click`.
        target_space: of `sample.target`.
        several: of actions: "refuse", "first" or "last".
        swipe: what a swipe's direction in a word means: that of the "finger", or of the "content".

    Raises:
        ValueError: there is no such rule.
    """
    by, response_space, truth_space = rule_of(rule), space_of(space), space_of(target_space)

    async def score(sample: Sample) -> Score:
        gold = await read_aside(lambda one: gold_of(one.target, truth_space, one), sample)
        noted("target", "{}", [action.facts() for action in gold.actions])
        view, size = view_of(response_space, sample, swipe), known_size(sample)

        def check() -> Verdict:
            actions = read_actions(sample.response or "", view, grammar=grammar)
            found = best(expect_one(actions, several, "action"), gold, by, size)
            noted("match", f"under the rule {rule}: {{}}", found._asdict())
            parts = {name: float(value) for name, value in found._asdict().items()}
            return Verdict(float(found.right), {**parts, "found": float(len(actions))})

        return verified(check, PARTS)

    return score


# --- episodes -------------------------------------------------------------------------------------


class Episode(NamedTuple):
    """Numbers of an episode; the shares are of its right steps, and 1 where there are none to count.

    Args:
        success: 1 where every step is right and there is none too many.
        step: share of steps that are right altogether.
        type: share of steps with the right type.
        grounding: of steps done at a place, the share whose type and place are right.
        grounding_given_type: the same share of those with the right type.
        progress: share of steps before the first that is wrong.
        readable: share of steps that could be read.
        conditional: share of right steps among those that could be read; 0 where none could.
    """

    success: float
    step: float
    type: float
    grounding: float
    grounding_given_type: float
    progress: float
    readable: float
    conditional: float


def episode_of(matches: Sequence[Matched | None], extra: int = 0) -> Episode:
    """Numbers of an episode out of its steps; None stands for one that is missing or cannot be read."""
    total = len(matches)
    known = [one for one in matches if one is not None]
    right = [one is not None and one.right for one in matches]
    pointed = [one for one in known if one.pointed]
    typed = [one for one in pointed if one.type]
    placed = sum(one.place for one in typed)
    return Episode(
        success=float(all(right) and not extra),
        step=sum(right) / total,
        type=sum(one.type for one in known) / total,
        grounding=placed / len(pointed) if pointed else 1.0,
        grounding_given_type=placed / len(typed) if typed else float(not pointed),
        progress=(right.index(False) if False in right else total) / total,
        readable=len(known) / total,
        conditional=sum(right) / len(known) if known else 0.0,
    )


EPISODE_PARTS = (*Episode._fields, "extra")


@reward(
    "gui_episode",
    needs=("steps", "target"),
    optional=("image",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2406.08451",
    example={
        "steps": [
            {"action": {"action": "click", "coordinate": [250, 260]}},
            {"action": {"action": "type", "text": "tea"}},
        ],
        "target": [
            {"action": {"type": "click", "point": [240, 250]}, "boxes": [[100, 100, 400, 400]]},
            {"type": "type", "text": "Tea"},
        ],
    },
)
def gui_episode(
    measure: Literal["success", "step", "progress", "conditional"] = "success",
    rule: str = "box",
    space: Named = "norm_1000",
    target_space: Named = "norm_1000",
    swipe: Swipe = "finger",
) -> Any:
    """Trajectory of a GUI agent against the right steps, one by one, under a named rule of `gui_action`.

    `sample.steps` holds one action each, as JSON or in words; `sample.target` is the list of right steps,
    each as for `gui_action`. A step that is missing or cannot be read is wrong, one too many spoils success.
    The parts give every share at once: `step` is strict (of all right steps), `conditional` of the steps that
    could be read, `grounding` of all steps at a place, `grounding_given_type` of those with the right type.

    Args:
        measure: which of them is the value: "success" of the episode, "step", "progress" (the share of steps
            before the first wrong one), or "conditional".
        rule, swipe: as in `gui_action`.
        space: of the steps' coordinates, as in `click`.
        target_space: of `sample.target`.

    Raises:
        ValueError: there is no such rule.
    """
    by, response_space, truth_space = rule_of(rule), space_of(space), space_of(target_space)

    async def score(sample: Sample) -> Score:
        golds = await read_aside(lambda one: _golds(one, truth_space), sample)
        view, size = view_of(response_space, sample, swipe), known_size(sample)
        matches: list[Matched | None] = []
        for at, gold in enumerate(golds):
            found = step_action(sample.steps[at] if at < len(sample.steps) else None, view)
            matches.append(None if found is None else best(found, gold, by, size))
            noted(f"step {at + 1}", "{}", matches[-1]._asdict() if matches[-1] else "missing or unreadable")
        extra = max(0, len(sample.steps) - len(golds))
        episode = episode_of(matches, extra)
        return Score(getattr(episode, measure), {**episode._asdict(), "extra": float(extra)})

    return score


def _golds(sample: Sample, space: Any) -> list[Gold]:
    target = sample.target
    if not isinstance(target, list | tuple) or not target:
        raise Unscorable(f"the target of an episode is a list of right steps, not {str(target)[:80]}")
    if max(len(target), len(sample.steps)) > limits().items:
        raise Unscorable(f"an episode has {most('items', 'steps')}")
    return [gold_of(step, space, sample) for step in target]


def step_action(step: Mapping[str, Any] | None, view: View) -> Action | None:
    """Action of a step; None where it has none, several, or one that cannot be read."""
    given = step.get("action") if isinstance(step, Mapping) else None
    try:
        if isinstance(given, Mapping):
            return action_of(given, view)
        actions = read_actions(given, view) if isinstance(given, str) else []
        return actions[0] if len(actions) == 1 else None
    except Unscorable as failure:
        if failure.status != "unparsable":
            raise
        return None
