"""V-Triune's POST /judge (arXiv:2505.18129): a sample from its payload, its reply from a total. Knows no
HTTP."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..adapters.rows import share
from ..config import without_nulls
from ..data import vtriune
from ..data.routing import OWN
from ..data.rows import sample_of
from ..limits import limits, most
from ..types import Sample, Score

OWN_ROUTES = ("", "routes")
"""Verifiers that mean: as this server's routes say for the data source."""
VERIFIERS = ("mathverify", "detection")
RELEASE = version("mmreward")
"""Read once: to find it takes longer than most scores."""

PARAMETERS = tuple(vtriune.VerifierParameters.model_fields)


class UnknownVerifierError(ValueError):
    """The payload names a verifier that does not exist."""


class Payload(BaseModel):
    """Body of /judge, as V-Triune's workers post it; `reward_verifier_parm` is JSON. Keys that its forks add
    are ignored."""

    response: str
    prompt: str = ""
    answer: str = ""
    solution: str = ""
    data_source: str = ""
    reward_verifier: str = ""
    reward_verifier_parm: str = "{}"
    format_ratio: float | None = None
    accuracy_ratio: float | None = None


def sample_from(payload: Payload) -> Sample:
    """The sample of a payload, with its own route where the payload names one of V-Triune's verifiers.

    While training, `step` and `total_steps` become `meta["progress"]`; an evaluation has none, so that its
    numbers can be compared over time.

    Raises:
        UnknownVerifierError: `reward_verifier` is none of V-Triune's and not empty.
        ValueError: parameters that are not JSON, or as `vtriune.columns_of`.
    """
    if payload.reward_verifier not in OWN_ROUTES + VERIFIERS:
        raise UnknownVerifierError(
            f"no verifier named {payload.reward_verifier!r}: there are {', '.join(VERIFIERS)}, and an empty "
            "name for the server's own routes"
        )
    for name in ("answer", "solution", "reward_verifier_parm"):
        if (length := len(getattr(payload, name))) > limits().target_characters:
            raise ValueError(f"{name} has {length} characters; the limit is {most('target_characters')}")
    parameters = _parameters(payload.reward_verifier_parm)
    if OWN in parameters:
        raise ValueError(f"reward_verifier_parm: {OWN!r} is not taken from the network")
    progress = share(parameters.pop("step", None), parameters.pop("total_steps", None))
    extra = progress if parameters.pop("is_training", True) else {}
    # What its workers add beside the verifier's parameters; none of it is one.
    extra |= {key: parameters.pop(key) for key in list(parameters) if key not in PARAMETERS}
    if payload.reward_verifier in OWN_ROUTES:
        columns = {"prompt": payload.prompt, "source": payload.data_source, "target": _target(payload)}
        return sample_of(
            {**columns, "response": payload.response, "meta": {**parameters, **extra}}, Path(), ""
        )
    model = {
        "answer": payload.answer,
        "ground_truth": payload.solution,
        "accuracy_ratio": payload.accuracy_ratio,
        "format_ratio": payload.format_ratio,
        "verifier": payload.reward_verifier,
        "verifier_parm": parameters,
    }
    record = {"data_source": payload.data_source, "prompt": payload.prompt, "reward_model": model}
    columns = vtriune.columns_of({**record, "extra_info": extra})
    return sample_of({**columns, "response": payload.response}, Path(), "")


def refused(sample: Sample) -> str:
    """Reason why a sample that came over the network is refused; empty when it is not.

    A route names rewards and their arguments, interpreters and weights among them, and a picture may be a
    path: both would let a client run and read what it likes here.
    """
    if OWN in sample.meta:
        return (
            "a label may not bring its own verifier, params or route to a server; the server's routes decide"
        )
    if any(True for _ in sample.media()):
        return "a label may not bring pictures to a server"
    return ""


def reply(payload: Payload, total: Score, scores: Mapping[str, Score]) -> dict[str, Any]:
    """V-Triune's reply, with the same keys for every sample of a verifier.

    A total that failed is 0 in there, as V-Triune's client knows no other word for it; what tells it from a
    wrong answer is a `status` that is not "ok".
    """
    value = total.value if total.ok else 0.0
    rewards = {
        "format_reward": total.parts.get("format", 0.0),
        "accuracy_reward": total.parts.get("accuracy", value),
        "reflection_reward": 0.0,
        "final_reward": value,
    }
    if payload.reward_verifier == "detection":
        rewards |= {
            f"report_iou_{percent}_label_match_{part}_reward": _part(scores.get(f"iou_{percent}"), part)
            for percent in vtriune.THRESHOLDS
            for part in ("precision", "recall")
        }
    return {"rewards": rewards, "status": total.status, "note": total.note, "version": RELEASE}


def _part(score: Score | None, part: str) -> float:
    return score.parts.get(part, 0.0) if score is not None else 0.0


def _parameters(text: str) -> dict[str, Any]:
    try:
        parameters = without_nulls(json.loads(text or "{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"reward_verifier_parm is not JSON: {error}") from None
    if not isinstance(parameters, dict):
        raise ValueError(f"reward_verifier_parm is {type(parameters).__name__}, not an object")
    return parameters


def _target(payload: Payload) -> Any:
    """The answer, as JSON where it is a list or an object."""
    text = payload.answer or payload.solution
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
