"""Negatives of successful clips, `mmreward negatives`: other commands for the same clip, and clips that end
early, each with the label that a verifier confirms (after RoboReward, arXiv:2601.00675).

The folder that is written holds `negatives.jsonl`, whose rows have the label as `target` and where they come
from in `meta["negative"]`; `clips/`; and `journal.jsonl`, a line for each clip that is done, from which a
second run goes on. Rows of one clip are not independent: `meta["cluster"]` is the hash of its bytes.
"""

import hashlib
import json
import os
from asyncio import gather
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from ..engine.clips import chosen
from ..engine.engine import Engine
from ..engine.episodes import frames_of
from ..errors import Unscorable
from ..files import sole_writer, whole_file
from ..media import Media
from ..reading import aside
from ..types import Sample, lacking, oversized
from .columns import Columns
from .cuts import LEAST, cut, looks
from .question_writer import placed
from .relabel import LABELS, deserves, prompts_digest, provenance, relabelled
from .rows import Row, chunked, read_rows

if TYPE_CHECKING:
    from ..models.vlms.answers import VLM

Kind = Literal["counterfactual", "clip"]
KINDS: tuple[Kind, ...] = get_args(Kind)
CHUNK = 16
"""Clips that are with the models together; what is done of them is in the journal before the next."""
SUCCESS = 5.0
SHOWN = 5
"""Reasons that a summary shows."""
ROWS, JOURNAL, CLIPS = "negatives.jsonl", "journal.jsonl", "clips"


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How negatives are made.

    Args:
        kinds: "counterfactual" (the clip stays, its command changes), "clip" (the command stays, the clip
            ends early).
        labels: wanted of each kind, from 1 to 4.
        tries: of each label before it is given up.
        threshold: the verifier's probability of yes from which a label is accepted.
        fps: of the pictures that models see, the last frame besides.
        frames: most of them.
        label: column of the rows' labels, 5 for a success; "" where every clip is one as far as the verifier
            confirms it.
        view: of steps that are seen in several, the one that is taken.
        seed: of the writer's sampling, and of where clips are cut.

    Raises:
        ValueError: something else.
    """

    kinds: tuple[Kind, ...] = KINDS
    labels: tuple[int, ...] = LABELS
    tries: int = 3
    threshold: float = 0.5
    fps: float = 1.0
    frames: int = 16
    label: str = ""
    view: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.kinds or set(self.kinds) - set(KINDS):
            raise ValueError(f"kinds are {', '.join(KINDS)}, not {', '.join(self.kinds) or 'none'}")
        if not self.labels or set(self.labels) - set(LABELS):
            raise ValueError(f"labels are 1 to 4, not {', '.join(map(str, self.labels)) or 'none'}")
        if self.tries < 1 or self.frames < LEAST or not self.fps > 0:
            raise ValueError("tries is 1 at least, frames 2, and fps above 0")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; it is a probability above 0")


class Done(NamedTuple):
    """What became of one clip: its rows, the reason of each negative that there is not, and whether the clip
    is no success, so that none was wanted."""

    rows: list[dict[str, Any]]
    reasons: list[str]
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class NegativeSummary:
    """Counts of a data set: clips, those that are no success, the negatives by kind and label, how many
    clips were done before, and the reason of each negative that there is not and of each row that is none."""

    clips: int
    skipped: int
    before: int
    made: Mapping[tuple[str, int], int]
    reasons: tuple[str, ...]
    problems: tuple[str, ...]
    wanted: int
    out: Path

    @property
    def failure_rate(self) -> float:
        """Share of the wanted negatives, and of rows that are none, that there are not."""
        failed = len(self.reasons) + len(self.problems)
        return failed / max(self.wanted + len(self.problems), 1)

    def __str__(self) -> str:
        made = ", ".join(f"{number} x {kind} {label}" for (kind, label), number in sorted(self.made.items()))
        lines = [
            f"{self.clips} clips, {self.skipped} of them no success; {self.before} were done before",
            f"negatives: {sum(self.made.values())} of {self.wanted} wanted ({made or 'none'})",
            *(f"  {reason}" for reason in (*self.reasons, *self.problems)[:SHOWN]),
            f"-> {self.out}",
        ]
        return "\n".join(lines)


def make_negatives(
    data: Path,
    out: Path,
    engine: Engine,
    writer: "VLM",
    verifier: "VLM",
    plan: Making | None = None,
    *,
    columns: Columns | None = None,
) -> NegativeSummary:
    """Make negatives of the successful clips of a data set into the folder `out`, and go on there.

    A clip whose row, settings or models have changed since is done anew.

    Args:
        data: rows with a video, or steps with pictures, and a prompt, what was to be done, as `mmreward
            score` reads them.
        out: the folder.
        engine: runs the models.
        writer: sees each clip once and writes commands.
        verifier: says yes to what counts; another model than the writer, where there is one.
        plan: how they are made.
        columns: see `read_rows`.

    Raises:
        ValueError: data that cannot be read, or a file where the folder should be.
    """
    plan = plan if plan is not None else Making()
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: negatives go into a folder")
    (out / CLIPS).mkdir(parents=True, exist_ok=True)
    made_by = _fingerprint(plan, writer, verifier)
    problems: list[str] = []
    done: dict[str, Done] = {}
    before = 0
    with sole_writer(out / ROWS):
        known = _journal(out / JOURNAL)
        for chunk in chunked(read_rows(data, columns), CHUNK):
            rows = [row for row in chunk if row.sample is not None]
            problems += [f"row {row.id}: {row.problem}" for row in chunk if row.sample is None]
            keys = {row.id: f"{made_by}:{row.digest}" for row in rows}
            fresh = [row for row in rows if row.id not in known or known[row.id][0] != keys[row.id]]
            before += len(rows) - len(fresh)
            found = engine.run(_all(fresh, out, writer, verifier, plan)) if fresh else []
            with (out / JOURNAL).open("a", encoding="utf-8") as file:
                for row, one in zip(fresh, found, strict=True):
                    known[row.id] = (keys[row.id], one)
                    file.write(_line(row.id, keys[row.id], one))
                file.flush()
                os.fsync(file.fileno())
            done |= {row.id: known[row.id][1] for row in rows}
        with whole_file(out / ROWS) as part, part.open("w", encoding="utf-8") as file:
            for one in done.values():
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in one.rows)
    return _summary(done, plan, before, problems, out)


def _summary(
    done: Mapping[str, Done], plan: Making, before: int, problems: Sequence[str], out: Path
) -> NegativeSummary:
    made: dict[tuple[str, int], int] = {}
    for one in done.values():
        for row in one.rows:
            key = (str(row["meta"]["negative"]["kind"]), int(row["target"]))
            made[key] = made.get(key, 0) + 1
    skipped = sum(one.skipped for one in done.values())
    return NegativeSummary(
        clips=len(done),
        skipped=skipped,
        before=before,
        made=made,
        reasons=tuple(f"row {name}: {reason}" for name, one in done.items() for reason in one.reasons),
        problems=tuple(problems),
        wanted=(len(done) - skipped) * len(plan.kinds) * len(plan.labels),
        out=out / ROWS,
    )


def _fingerprint(plan: Making, writer: "VLM", verifier: "VLM") -> str:
    facts = repr((plan, writer.fingerprint, verifier.fingerprint, prompts_digest()))
    return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()


def _journal(path: Path) -> dict[str, tuple[str, Done]]:
    """What is done, by the id of its row; a line that a kill cut off is done again."""
    found: dict[str, tuple[str, Done]] = {}
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    for line in lines:
        try:
            record = json.loads(line) if line.strip() else None
        except ValueError:
            continue
        if isinstance(record, dict):
            one = Done(record["rows"], record["reasons"], record["skipped"])
            found[record["id"]] = (record["key"], one)
    if lines and lines[-1]:  # the next line begins on one of its own
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
    return found


def _line(name: str, key: str, one: Done) -> str:
    record = {"id": name, "key": key, "rows": one.rows, "reasons": one.reasons, "skipped": one.skipped}
    return json.dumps(record, ensure_ascii=False) + "\n"


# --- one clip -----------------------------------------------------------------------------------------------


class Parent(NamedTuple):
    """A clip of success on its way, with its pictures and their numbers."""

    sample: Sample
    clip: Media
    frames: Sequence[Media]
    numbers: Sequence[int]
    digest: str


async def _all(rows: Sequence[Row], out: Path, writer: "VLM", verifier: "VLM", plan: Making) -> list[Done]:
    samples = [row.sample for row in rows if row.sample is not None]
    return await gather(*(_one(sample, out, writer, verifier, plan) for sample in samples))


async def _one(sample: Sample, out: Path, writer: "VLM", verifier: "VLM", plan: Making) -> Done:
    """Negatives of one clip; what fails is its own."""
    wanted = [(kind, label) for kind in plan.kinds for label in plan.labels]
    try:
        if reason := lacking(sample, ("episode", "prompt")) or oversized(sample):
            raise Unscorable(reason, "missing")
        clip = sample.video
        if clip is None or plan.view:
            clip = (await frames_of(sample, view=plan.view)).clip()
        parent = await aside(partial(_parent, sample, clip, plan))
        if not await _is_success(parent, verifier, plan):
            return Done([], [], skipped=True)
    except Unscorable as error:
        return Done([], [f"{kind} {label}: {error.status}, {error}" for kind, label in wanted])
    made_by = {"writer": writer.name, "verifier": verifier.name, "prompts": prompts_digest()}
    done = Done([], [])
    for kind in plan.kinds:
        make = _commands if kind == "counterfactual" else _cuts
        found = await make(parent, out, writer, verifier, plan, made_by)
        done.rows.extend(found.rows)
        done.reasons.extend(f"{kind} {reason}" for reason in found.reasons)
    return done


def _parent(sample: Sample, clip: Media, plan: Making) -> Parent:
    at = looks(clip, plan.fps, plan.frames)
    return Parent(sample, clip, chosen(clip, lambda _: at), at, clip.digest)


async def _is_success(parent: Parent, verifier: "VLM", plan: Making) -> bool:
    """True for a clip that its label says is one, or the verifier where there are no labels.

    Raises:
        Unscorable: "missing" for a row without its label.
    """
    if not plan.label:
        return await deserves(parent.frames, parent.sample.prompt, 5, verifier) >= plan.threshold
    sample = parent.sample
    found = sample.target if plan.label == "target" else sample.meta.get(plan.label)
    try:  # a table of text has its numbers as text
        return float(str(found)) == SUCCESS
    except ValueError:
        raise Unscorable(f"{plan.label} is {str(found)[:40]!r}, not a label from 1 to 5", "missing") from None


async def _commands(
    parent: Parent, out: Path, writer: "VLM", verifier: "VLM", plan: Making, made_by: Mapping[str, Any]
) -> Done:
    """The clip under other commands."""
    try:
        found = await relabelled(
            parent.frames, parent.sample.prompt, plan.labels, writer, verifier,
            tries=plan.tries, threshold=plan.threshold, seed=plan.seed,
        )  # fmt: skip
        video = await aside(partial(_whole, parent, out))
    except Unscorable as error:
        return Done([], [f"{label}: {error.status}, {error}" for label in plan.labels])
    rows = [
        _row(parent, "counterfactual", one.label, one.command, video, {**provenance(one, found), **made_by})
        for _, one in sorted(found.accepted.items())
    ]
    return Done(rows, [f"{label}: {reason}" for label, reason in sorted(found.rejected.items())])


def _whole(parent: Parent, out: Path) -> str | None:
    """The path of the clip as it is; one that lies in no file of its own, such as the pictures of steps or
    a part of a longer file, is written anew."""
    if isinstance(parent.clip.source, Path):
        return placed(parent.clip, out.absolute())
    name = f"{CLIPS}/{_stem(parent)}.mp4"
    if not (out / name).exists():
        cut(parent.clip, parent.clip.frames - 1, out / name)
    return name


def _stem(parent: Parent) -> str:
    return hashlib.blake2b(f"{parent.sample.id} {parent.digest}".encode(), digest_size=6).hexdigest()


async def _cuts(
    parent: Parent, out: Path, writer: "VLM", verifier: "VLM", plan: Making, made_by: Mapping[str, Any]
) -> Done:
    """The beginnings of the clip under its own command."""
    done = Done([], [])
    for label in plan.labels:
        try:
            found = await _cut(parent, label, out, verifier, plan)
        except Unscorable as error:
            done.reasons.append(f"{label}: {error.status}, {error}")
            continue
        if found is None:
            done.reasons.append(f"{label}: no end was confirmed in {plan.tries} tries")
        else:
            name, facts = found
            # The verifier alone had a part in it.
            facts |= {key: value for key, value in made_by.items() if key != "writer"}
            done.rows.append(_row(parent, "clip", label, parent.sample.prompt, name, facts))
    return done


async def _cut(
    parent: Parent, label: int, out: Path, verifier: "VLM", plan: Making
) -> tuple[str, dict[str, Any]] | None:
    """The path of a clip that ends where the verifier confirms the label, and its facts; None without one.

    Ends are drawn from the quarter of the clip that progress in step with time would put the label into.
    """
    total = parent.clip.frames
    if total <= LEAST:
        raise Unscorable(f"a clip of {total} frames has no earlier end", "na")
    draw = Random(f"{plan.seed}:{parent.digest}:{label}")
    tried: set[int] = set()
    for attempt in range(1, plan.tries + 1):
        share = (label - 1 + draw.random()) / len(LABELS)
        last = min(total - 2, max(LEAST - 1, round(share * (total - 1))))
        if last in tried:
            continue
        tried.add(last)
        kept = [number for number in parent.numbers if number < last]
        frames = chosen(parent.clip, lambda _, at=(*kept, last): at)  # type: ignore[misc]
        deserved = await deserves(frames, parent.sample.prompt, label, verifier)
        if deserved >= plan.threshold:
            name = f"{CLIPS}/{_stem(parent)}_attempt_{attempt}_score_{label}.mp4"
            await aside(partial(cut, parent.clip, last, out / name))
            facts = {"attempt": attempt, "deserved": round(deserved, 6), "last": last, "of": total}
            return name, facts
    return None


def _row(
    parent: Parent, kind: Kind, label: int, command: str, video: str | None, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """A row as `mmreward score` reads it."""
    sample = parent.sample
    came = {
        "kind": kind,
        "parent": sample.id,
        "parent_prompt": sample.prompt,
        "frames": list(parent.numbers),
        **facts,
    }
    row = {
        "id": f"{sample.id}#{kind}-{label}",
        "prompt": command,
        "video": video,
        "target": label,
        "source": sample.source or None,
        "meta": {"cluster": parent.digest, "negative": came},
    }
    return {name: value for name, value in row.items() if value is not None}
