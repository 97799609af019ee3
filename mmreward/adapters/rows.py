"""Rows of a trainer's columns as samples. Knows no trainer and no reward."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..config import without_nulls
from ..data import vtriune
from ..data.rows import sample_of
from ..types import Sample

ALIASES = {
    "target": ("target", "answer", "solution"),
    "source": ("source", "data_source"),
}
"""Field -> columns it is taken from where the trainer's user names none; the first that is there counts."""
TAKEN = ("prompt", "response", "image", "video", "inputs", "steps", "target", "source", "group")
"""Fields of Sample that a column may fill; all other columns go into `meta`."""


VERSION = 1
"""Of the envelope."""


class Batch(NamedTuple):
    """Rows of one call: samples in order, and by row number the reason why a row could not become one."""

    samples: list[Sample]
    problems: dict[int, str]

    @property
    def able(self) -> list[Sample]:
        return [sample for row, sample in enumerate(self.samples) if row not in self.problems]


def batch_of(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str] | None = None) -> Batch:
    """Samples from rows of columns, as `sample_of_row` reads them; a row that makes no sense costs itself."""
    samples: list[Sample] = []
    problems: dict[int, str] = {}
    for number, row in enumerate(rows):
        try:
            samples.append(sample_of_row(row, str(row.get("id") or number), columns or {}))
        except (ValueError, RecursionError) as error:  # nested without end
            source = row.get("source", row.get("data_source"))
            problems[number] = str(error)
            samples.append(Sample(id=str(number), source=source if isinstance(source, str) else ""))
    return Batch(samples, problems)


def sample_of_row(row: Mapping[str, Any], name: str, columns: Mapping[str, str]) -> Sample:
    """A sample from one row.

    The fields of Sample are taken from the columns that `columns` names, else from those of their own names
    or `ALIASES`. A `ground_truth` may be an envelope (see `opened`). `images` (a list) is `image`
    and `inputs`; `prompt` may be messages, whose last one of the user counts, and whose pictures are taken
    where no column has any. `route`, or `verifier` with its `params`, is the sample's own route; `meta`,
    `route` and `params` may be JSON, and `target_json` is a target in JSON, for columns of mixed types.
    Keys whose value is null are not there: Arrow fills structs up that way. V-Triune's records are read as
    they are.

    Raises:
        ValueError: text that is not JSON, a column of the wrong type, or as `vtriune.columns_of`.
    """
    left = without_nulls(row)
    prompt = left.get("prompt")
    if not isinstance(prompt, str):
        # V-Triune, verl and ms-swift write a picture's place into the text.
        left["prompt"] = spoken(prompt or (), "user").replace("<image>", "").strip()
    if vtriune.is_record(left):
        left = vtriune.columns_of(left)
    left.pop("id", None)
    left |= {field: left.pop(column) for field, column in columns.items() if column in left}
    if "target_json" in left:
        left["target"] = _json(left.pop("target_json"), "target_json")
    if "ground_truth" in left:
        left |= opened(left.pop("ground_truth"))
    record = {field: _taken(left, field) for field in TAKEN}
    _put_pictures(record, left.pop("images", None), prompt)
    own = _mapping(left.pop("meta", None), "meta")
    route = _route(left)
    meta = {**left, **own, **({} if route is None else {"route": route})}
    filled = {field: value for field, value in record.items() if value is not None}
    return sample_of({**filled, "meta": meta}, Path(), name)


def opened(ground_truth: Any) -> dict[str, Any]:
    """The columns in a ground truth: those of an envelope, else the ground truth alone as the target.

    An envelope is {"v": 1, "answer": ..., "verifier": ..., "params": {...}, "source": ..., ...}, or the same
    as JSON; any other key is a column as well (see `sample_of_row`).

    Raises:
        ValueError: an envelope of another version.
    """
    given = ground_truth
    if isinstance(given, str) and given.lstrip().startswith("{"):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return {"target": ground_truth}  # an answer that begins with a brace
    if not isinstance(given, Mapping) or "v" not in given or "answer" not in given:
        return {"target": ground_truth}
    if given["v"] != VERSION:
        raise ValueError(f"the ground truth is an envelope of version {given['v']!r}, not {VERSION}")
    return {name: value for name, value in given.items() if name != "v"}


def share(step: Any, total: Any) -> dict[str, float]:
    """The column `progress`, from 0 to 1; none where a trainer does not say how long it trains."""
    if not isinstance(step, int | float) or not isinstance(total, int | float) or not total > 0:
        return {}
    try:
        done = step / total
    except OverflowError:  # hundreds of digits
        return {}
    return {"progress": min(max(done, 0.0), 1.0)} if math.isfinite(done) else {}


def spoken(messages: Any, role: str) -> str:
    """The text of the last message of a role that has any content; text is itself.

    Raises:
        ValueError: what is no message, or no part of one.
    """
    if isinstance(messages, str):
        return messages
    for message in reversed(_messages(messages)):
        content = message.get("content") if message.get("role") == role else None
        if isinstance(content, str):
            return content
        if content is not None:
            return "".join(str(part.get("text") or "") for part in _parts(message))
    return ""


def _messages(given: Any) -> list[Mapping[str, Any]]:
    """Messages as a list; verl has them in an array."""
    given = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(given, list | tuple) or not all(isinstance(one, Mapping) for one in given):
        shown = str(given)[:80]
        raise ValueError(f"prompt is neither text nor a list of messages with role and content: {shown}")
    return list(given)


def grouped(samples: Sequence[Sample], size: int | None) -> list[Sample]:
    """The same samples with a group each, where a column has not given one.

    Args:
        samples: the answers to one prompt stand next to each other, as trainers keep them.
        size: answers per prompt; without it, neighbours with the same prompt, target and pictures are one
            group.
    """
    found: list[Sample] = []
    number = 0
    for row, sample in enumerate(samples):
        fresh = row % size == 0 if size else row == 0 or not _alike(samples[row - 1], sample)
        number += fresh
        found.append(sample if sample.group is not None else replace(sample, group=f"group {number}"))
    return found


def _alike(one: Sample, other: Sample) -> bool:
    def question(sample: Sample) -> Any:
        return sample.prompt, sample.source, sample.target

    def shown(sample: Sample) -> list[str]:
        return [media.key for media in (sample.image, sample.video, *sample.inputs) if media is not None]

    return bool(question(one) == question(other)) and shown(one) == shown(other)


def _taken(left: dict[str, Any], field: str) -> Any:
    names = ALIASES.get(field, (field,))
    return next((left.pop(name) for name in names if name in left), None)


def _put_pictures(record: dict[str, Any], images: Any, prompt: Any) -> None:
    """The first picture is `image`, the others `inputs`."""
    if record["image"] is not None:
        return
    if images is None and prompt is not None and not isinstance(prompt, str):
        parts = [part for message in _messages(prompt) for part in _parts(message)]
        images = [part["image"] for part in parts if part.get("image") is not None]
    images = images.tolist() if hasattr(images, "tolist") else images  # verl has them in an array
    if images is not None and not isinstance(images, list | tuple):
        raise ValueError(f"images is {type(images).__name__}, not a list of pictures")
    if pictures := list(images or ()):
        record["image"] = pictures[0]
        record["inputs"] = record["inputs"] or pictures[1:]


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    if content is None or isinstance(content, str):
        return []
    if not isinstance(content, list | tuple) or not all(isinstance(part, Mapping) for part in content):
        raise ValueError(
            f"prompt: content of a message is neither text nor a list of parts: {str(content)[:80]}"
        )
    return list(content)


def _route(left: dict[str, Any]) -> Any:
    """The row's own route, if it has one."""
    if "route" in left or "verifier" not in left:
        return left.pop("route", None)
    verifier = left.pop("verifier")
    if not isinstance(verifier, str):
        raise ValueError(f"verifier is {type(verifier).__name__}, not the name of a reward")
    return {"rewards": {verifier: _mapping(left.pop("params", None), "params")}, "accuracy": {verifier: 1.0}}


def _mapping(given: Any, what: str) -> dict[str, Any]:
    value = without_nulls(_json(given, what)) if isinstance(given, str) else given or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is {type(value).__name__}, not a mapping or JSON of one")
    return dict(value)


def _json(text: Any, what: str) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is not JSON: {error}") from None
