"""NORA-1.5's preference reward of candidate actions (arXiv:2511.14659): where a world model predicts that a
chunk of actions leads, beside the goal, and how far it is from what a demonstrator did.

Candidates of one moment make preference pairs by it: `mmreward pairs --actions`. The authors sample five for
each, and train a policy on the best against the worst by DPO.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ... import models
from ...engine.episodes import first_of, frames_of
from ...errors import Unscorable
from ...media import Media
from ...registry import amend, reward
from ...tracing import noted
from ...types import Sample, Score
from .values import numbers_of

Floats = NDArray[np.float64]
How = Literal["both", "energy", "deviation"]
URL = "https://dl.fbaipublicfiles.com/vjepa2/vjepa2-ac-vitg.pt"
LONGEST = 32
"""Actions that the published predictor looks back on."""
POSE = 7
"""Numbers of a pose: place, rotation as three angles, and how far the gripper is closed."""


@reward(
    "nora",
    needs=("steps", "inputs", "target"),
    range=(-math.inf, 0.0),
    uses_prompt=False,
    paper="arXiv:2511.14659, arXiv:2506.09985",
    licence="MIT (V-JEPA 2's code; the file's address names none); nora-1.5 has no licence file",
    example={
        "steps": [
            {"state": [0.4, 0.0, 0.3, 3.1, 0.0, 0.0, 0.0], "action": [0.02, 0.0, -0.03, 0.0, 0.0, 0.1, 0.0]},
            {"action": [0.01, 0.01, -0.03, 0.0, 0.0, 0.0, 0.4]},
        ],
        "target": [[0.03, 0.0, -0.03, 0.0, 0.0, 0.0, 0.0], [0.01, 0.0, -0.02, 0.0, 0.0, 0.0, 0.5]],
    },
)
def nora(
    how: How = "both",
    weights: str = "",
    predictor: str = "",
    states: Literal["steps", "zeros"] = "steps",
    horizon: int = 0,
    scale: float = 0.1,
    goal: Literal["picture", "last"] = "picture",
    view: str = "",
    dtype: str = "float32",
) -> Any:
    """Minus how far a chunk of actions is predicted to end from the goal, and is from a reference; at most 0.

    The chunk is the `action` of every step, each a list of numbers; the present is what the first step shows,
    or the sample's image. Energy is the mean distance (L1, from 0 to 2) of the embedding that V-JEPA 2-AC
    predicts after the chunk from that of the goal's picture. Deviation is the mean difference (L1) of the
    chunk from the reference, `target`: a list of actions, of which as many are read as the chunk has. The
    value is -(energy + scale * deviation). `parts` has `energy` and `deviation`, both below 0 too, so that
    pairs are made by a part as by the whole (`--reward nora/energy`), and `rolled`, the actions that the
    world model was told.

    What it does not know: the task's words, what happens on the way, and whether the goal can be reached.
    Actions must be on the scale that the world model was trained on. The published one saw a Franka arm at
    four frames a second: changes of place in metres and of angle in radians in the robot's frame, and of the
    gripper, 0 open to 1 closed. NORA-1.5's own predictor was trained on other robots' normalised actions with
    states of zeros, and is not published; with one trained as theirs (`predictor`), `states=zeros, horizon=4`
    gives their numbers: of five actions their code rolls out four.

    Args:
        how: "both"; "energy" alone, from -2 to 0, which reads no target; or "deviation" alone, which needs no
            weights, no picture and no goal.
        weights: vjepa2-ac-vitg.pt, by path or OWNER/NAME/FILE, or safetensors with its names; "" for that in
            torch.hub's cache.
        predictor: a file of tensors with the predictor's names, in the place of the published ones.
        states: "steps", the pose in the `state` of the first step (place, three angles about fixed axes,
            gripper), to which the actions are added for the later ones; or "zeros", as NORA-1.5 trains.
        horizon: actions that are rolled out, the first ones of a longer chunk; 0 for all, 32 at most.
        scale: of the deviation in the sum; the authors' is 0.1.
        goal: "picture", the first of `inputs`; or "last", the last frame of the steps, which has no action of
            its own then: for the beginning of a recorded episode.
        view: whose, where the steps have several.
        dtype: of the world model.

    Raises:
        ValueError: `how`, `states` or `goal` is something else, a horizon outside 0 to 32, a negative scale,
            or weights that are not on this machine, with the command that fetches them.
    """
    for name, given, known in (("how", how, get_args(How)), ("states", states, ("steps", "zeros")),
                               ("goal", goal, ("picture", "last"))):  # fmt: skip
        if given not in known:
            raise ValueError(f"{name} is {given!r}: {', '.join(known)}")
    if not 0 <= horizon <= LONGEST:
        raise ValueError(f"horizon is {horizon}: actions that are rolled out, 1 to {LONGEST}, or 0 for all")
    if not 0 <= scale < math.inf:
        raise ValueError(f"scale is {scale}: of the deviation, 0 or more")
    seen = () if how == "deviation" or goal == "last" else ("inputs",)
    told = () if how == "energy" else ("target",)
    amend(needs=("steps", *seen, *told), range=(-2.0 if how == "energy" else -math.inf, 0.0))
    net = None
    if how != "deviation":
        net = models.world_model(weights or models.downloaded(URL), predictor, dtype=dtype)

    async def ends(sample: Sample) -> tuple[Media, Media]:
        """The present and the goal."""
        now = await first_of(sample, view=view)
        if goal == "picture":
            return now, sample.inputs[0]
        last = await frames_of(sample, "last", view=view)
        if last.total < 2:
            raise Unscorable("the episode has one frame, which cannot be its goal too", "missing")
        return now, last.pictures[-1]

    async def energy_of(sample: Sample, chunk: Floats) -> tuple[float, int]:
        assert net is not None
        rolled = chunk[:horizon] if horizon else chunk
        if len(rolled) > LONGEST:
            raise Unscorable(f"{len(rolled)} actions, of which {LONGEST} can be rolled out: say horizon=N")
        before = None
        if states == "steps":
            hint = "; say states=zeros to go without"
            before = poses(numbers_of(sample.steps, "state", (0,), hint)[0], rolled)
        energy = await net.energy(*await ends(sample), rolled, before)
        if not math.isfinite(energy):
            raise Unscorable("the energy is no number: the actions or states are too large", "out_of_range")
        return energy, len(rolled)

    async def score(sample: Sample) -> Score:
        until = len(sample.steps) - (how != "deviation" and goal == "last")
        if not until:
            raise Unscorable("there is no step before the last, whose frame is the goal", "missing")
        chunk = numbers_of(sample.steps, "action", range(until))
        parts, value = {}, 0.0
        if how != "energy":
            deviation = deviation_of(chunk, sample.target)
            noted("deviation", "{}, the mean over {} actions", deviation, len(chunk))
            parts["deviation"] = -deviation
            value -= deviation if how == "deviation" else scale * deviation
        if how != "deviation":
            energy, rolled = await energy_of(sample, chunk)
            noted("energy", "{} after {} of {} actions", energy, rolled, len(chunk))
            parts |= {"energy": -energy, "rolled": float(rolled)}
            value -= energy
        return Score(value, parts)

    return score


def deviation_of(chunk: Floats, reference: Any) -> float:
    """Mean difference of a chunk (T, A) from the first T actions of a reference, without sign.

    >>> deviation_of(np.array([[0.0, 1.0]]), [[0.5, 1.0], [9.0, 9.0]])
    0.25

    Raises:
        Unscorable: the reference is no list of as many actions, or of as many numbers in each.
    """
    given = reference if isinstance(reference, Sequence) and not isinstance(reference, str) else ()
    if isinstance(reference, np.ndarray):
        given = list(reference)
    if len(given) < len(chunk):
        raise Unscorable(f"the target has {len(given)} actions, and the chunk {len(chunk)}", "unparsable")
    try:
        wanted = numbers_of([{"action": one} for one in given], "action", range(len(chunk)))
    except Unscorable as error:
        raise Unscorable(f"the target: {error}", error.status) from None
    if wanted.shape != chunk.shape:
        said = f"{wanted.shape[1]} numbers, and those of the chunk {chunk.shape[1]}"
        raise Unscorable(f"actions of the target have {said}", "unparsable")
    with np.errstate(over="ignore"):
        apart = float(np.abs(chunk - wanted).mean())
    if not math.isfinite(apart):
        raise Unscorable("the actions are too large to be compared", "out_of_range")
    return apart


def poses(start: Floats, actions: Floats) -> Floats:
    """Poses (T, 7) before each of the actions (T, 7): V-JEPA 2-AC's own sum, in which rotations follow one
    another and the gripper stays within 0 to 1.

    Raises:
        Unscorable: a pose or an action is not of seven numbers.
    """
    from scipy.spatial.transform import Rotation

    if len(start) != POSE or actions.shape[1] != POSE:
        said = f"the state has {len(start)} numbers and an action {actions.shape[1]}; a pose has {POSE}"
        raise Unscorable(f"{said}: say states=zeros to go without", "unparsable")
    found = [start]
    for action in actions[:-1]:
        last = found[-1]
        turned = Rotation.from_euler("xyz", action[3:6]) * Rotation.from_euler("xyz", last[3:6])
        closed = np.clip(last[6:] + action[6:], 0.0, 1.0)
        found.append(np.concatenate((last[:3] + action[:3], turned.as_euler("xyz"), closed)))
    return np.stack(found)
