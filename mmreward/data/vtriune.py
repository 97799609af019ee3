"""V-Triune's records (arXiv:2505.18129) as samples that bring their own route, so that its data is read as it
is.

Its two verifiers become ours: `mathverify` is `math`, `detection` is `iou`. V-Triune's pay for boxes (a
greedy match at one threshold, mAP with constant scores, 0.6 per surplus box) is not copied: `iou` pays a soft
F1. Its thresholds are watched instead. To compare, the reward `v_triune` pays as V-Triune does.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ..config import Strict, Weight, problems, without_nulls
from ..errors import Unscorable
from ..verifiers.lists import parse_list
from ..verifiers.response import inside_box, segment

THRESHOLDS = (50, 75, 95, 99)
"""Percent of IoU at which V-Triune reports precision and recall."""
SHARP = 1e-6
"""Width of a ramp that is a step."""
OWN = ("data_source", "images", "prompt", "ability", "reward_model", "extra_info")


class _Section(Strict):
    """A struct of the record; null is what Arrow writes for a key that is not there."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return without_nulls(given, hollow=False)


class DetectionRatios(_Section):
    """Weights of what V-Triune's detection verifier adds up."""

    iou_max_label_first: Weight = 0.0
    iou_max_iou_first: Weight = 0.0
    iou_completeness: Weight = 0.0
    map: Weight = 0.0
    map50: Weight = 0.0
    map75: Weight = 0.0


class VerifierParameters(_Section):
    """`verifier_parm`; V-Triune's worker adds `image_grid_thw`: (t, height, width) in pixels of the input."""

    det_verifier_normalized: bool = False
    det_reward_ratio: DetectionRatios | None = None
    image_grid_thw: tuple[tuple[int, int, int], ...] = ()


class RewardModel(_Section):
    """`reward_model`, with the defaults of V-Triune's server."""

    answer: str = ""
    ground_truth: str = ""
    accuracy_ratio: Weight = 1.0
    format_ratio: Weight = 0.1
    length_ratio: Annotated[float, Field(ge=0, le=0)] = 0.0
    verifier: Literal["mathverify", "detection"]
    verifier_parm: VerifierParameters = VerifierParameters()
    style: str = ""


class _Row(Strict):
    reward_model: RewardModel


def is_record(record: Mapping[Any, Any]) -> bool:
    """True for a row of V-Triune's."""
    return "reward_model" in record and "data_source" in record


def columns_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a sample, for `data.sample_of`; other columns (`response`, `group`, ...) stay.

    The first picture is `image`, the others `inputs`; the last message of the user is the prompt. `meta`
    holds the route, the messages, V-Triune's own ratios and what `extra_info` says.

    Raises:
        ValueError: an unknown verifier or parameter, a value of the wrong type, accuracy and format that
            weigh nothing, or a ground truth that cannot be read; the message names the source and the key.
    """
    source = str(record["data_source"])
    try:
        model = _Row.model_validate({"reward_model": record["reward_model"]}).reward_model
    except ValidationError as error:
        raise ValueError(f"source {source!r}: {'; '.join(problems(error, _Row))}") from None
    if not model.accuracy_ratio + model.format_ratio > 0:
        raise ValueError(f"source {source!r}: reward_model.accuracy_ratio and format_ratio are both 0")
    extra = without_nulls(_extra(source, record.get("extra_info")), hollow=False)
    images = _images(source, record.get("images"))
    meta: dict[str, Any] = {**extra, "route": route_of(source, model), "messages": record.get("prompt")}
    if record.get("ability"):
        meta["ability"] = record["ability"]
    if model.verifier_parm.det_reward_ratio is not None:
        meta["det_reward_ratio"] = model.verifier_parm.det_reward_ratio.model_dump()
    if model.verifier_parm.image_grid_thw:
        meta["size"] = model.verifier_parm.image_grid_thw[0][1:]
    columns = {key: value for key, value in record.items() if key not in OWN}
    columns |= {"prompt": _asked(record.get("prompt")), "target": _target(source, model), "source": source}
    columns |= {"image": images[0] if images else None, "inputs": images[1:], "meta": meta}
    return columns


def _extra(source: str, given: Any) -> Mapping[str, Any]:
    """`extra_info`: a struct, or JSON of one."""
    if isinstance(given, str) and given.strip():
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"source {source!r}: extra_info is text and no JSON: {error}") from None
    if given is not None and given != "" and not isinstance(given, Mapping):
        raise ValueError(f"source {source!r}: extra_info is {type(given).__name__}, not a mapping")
    return given or {}


def _images(source: str, given: Any) -> list[Any]:
    if given is None:
        return []
    if not isinstance(given, list | tuple):
        raise ValueError(f"source {source!r}: images is {type(given).__name__}, not a list of pictures")
    return list(given)


def route_of(source: str, model: RewardModel) -> dict[str, Any]:
    """The route of a record, as `config.RouteConfig` describes one."""
    name = "math" if model.verifier == "mathverify" else "iou"
    args = _math() if name == "math" else _boxes(source, model.verifier_parm)
    # V-Triune asks for thinking tags in mathematics only.
    route: dict[str, Any] = {"rewards": {name: args}, "accuracy": {name: model.accuracy_ratio}}
    if model.format_ratio:
        route["rewards"]["format"] = {"think": name == "math" or "optional", "min_think_chars": 1}
        route["format"] = {"format": model.format_ratio}
    if name == "iou":
        sharp = {**args, "reward": "iou", "width": SHARP}
        watched = {f"iou_{percent}": {**sharp, "threshold": percent / 100} for percent in THRESHOLDS}
        route["rewards"] |= watched
        route["watch"] = list(watched)
    return route


def _math() -> dict[str, Any]:
    """V-Triune reads the box wherever it stands; missing tags cost the format."""
    return {"bare": True}


def _boxes(source: str, given: VerifierParameters) -> dict[str, Any]:
    """Predictions are in pixels of the input; the truth is too, or lies on a grid of 1000."""
    ratios = given.det_reward_ratio
    if ratios is not None and not sum(ratios.model_dump(exclude={"iou_completeness"}).values()):
        where = "reward_model.verifier_parm.det_reward_ratio"
        raise ValueError(f"source {source!r}: {where}: no score has a weight")
    any_label = ratios is not None and ratios.iou_max_iou_first and not ratios.iou_max_label_first
    return {
        "space": "pixel",
        "target_space": "norm_1000" if given.det_verifier_normalized else "pixel",
        "labels": "ignore" if any_label else "exact",
        "bare": False,
    }


def _target(source: str, model: RewardModel) -> Any:
    """The bare answer, else what the formatted solution holds."""
    solution = model.ground_truth or model.answer
    if model.verifier == "mathverify":
        return model.answer or inside_box(solution) or solution
    try:
        return parse_list(segment(solution, bare=True).answer).items
    except Unscorable as error:
        raise ValueError(f"source {source!r}: reward_model.ground_truth: {error}") from None


def _asked(prompt: Any) -> str:
    """The last message of the user, without the places of its pictures."""
    if isinstance(prompt, str):
        return prompt
    messages = prompt if isinstance(prompt, Sequence) else ()
    said = [m.get("content") for m in messages if isinstance(m, Mapping) and m.get("role") == "user"]
    if not said or not isinstance(said[-1], str):
        raise ValueError("prompt holds no message of the user with text in it")
    return said[-1].replace("<image>", "").strip()
