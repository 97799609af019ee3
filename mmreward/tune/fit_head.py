"""Fitting a preference head on compared pairs, which the reward `head` reads: `mmreward fit head`.

Embeds the pictures and prompts of a folder of pairs once each: with a frozen dual encoder, or with a Qwen-VL
that is asked whether the picture shows the prompt (`models.states`). Pairs of responses to questions about
pictures are read by a Qwen-VL, which is asked whether the response is right. `fit_loop` has the split and the
fit, `fit_lora` trains an adapter of the Qwen-VL along.
"""

import json
import math
from asyncio import gather
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .. import models
from ..data.pair_folder import PreferencePair
from ..data.response_pairs import AnyPair, ResponsePair, halves_of, read_any_pairs
from ..engine.engine import Engine
from ..errors import Unscorable
from ..models.encoder_handle import Encoder, Vector
from ..models.head_facts import ADAPTER, PROMPT, RESPONSE, HeadFacts, Loss
from ..models.preferences import PreferenceHead, check_new, write_head
from ..models.states import body_of, state_of
from ..models.vlms.qwen import FAMILIES, QwenVL
from ..models.weights import content_of, folder_of, is_file_of_weights, locate
from ..monitor.intervals import Measured
from .fit_loop import Accuracy, EmbeddedPairs, HeadSettings, examined, fitted, split
from .fit_lora import Adapter, trained

FEWEST = 32
"""Usable pairs below which nothing is fitted; a head wants thousands."""
CHUNK = 1024
"""Pairs that are embedded together."""
BEFORE = 500
"""Steps, at least, that a head is fitted by on the frozen backbone before an adapter is trained along."""
QUESTION = "Does this picture match the prompt: {prompt}? Answer yes or no."
RESPONSES_QUESTION = "{prompt}\n\nAnswer: {response}\n\nIs this answer right? Answer yes or no."
"""What a Qwen-VL is asked of a picture, or of a response, in words of our own."""


class Backbone(NamedTuple):
    """What embeds a pair: a dual encoder, or a Qwen-VL with its question."""

    network: Encoder | QwenVL
    question: str

    @property
    def own(self) -> str:
        """Name of its ranking as it is."""
        return "its own yes or no" if self.question else "cosine of the encoder"

    @property
    def source(self) -> str:
        network = self.network
        return network.source if isinstance(network, QwenVL) else network.network.source

    @property
    def device(self) -> torch.device:
        network = self.network
        return network.device if isinstance(network, QwenVL) else network.network.device


@dataclass(frozen=True, slots=True)
class HeadSummary:
    """Summary of a fit: pairs fitted on, for stopping and held out, the reason of each unusable one, the step
    whose weights were kept, and the held-out accuracy."""

    backbone: str
    loss: Loss
    fitted: int
    stopping: int
    held_out: int
    prompts: int
    """Held out."""
    ties: int
    """Held-out ties, which no accuracy counts."""
    unusable: tuple[str, ...]
    left_out: int
    """Ties that the loss has no use for."""
    step: int
    accuracy: Accuracy
    own: str
    """Name of the backbone's own ranking."""
    out: Path

    def __str__(self) -> str:
        reason = f", such as: {self.unusable[0]}" if self.unusable else ""
        ties = f", {self.left_out} ties left out (--loss btt learns from them)" if self.left_out else ""
        found = self.accuracy
        return (
            f"{self.loss} on {self.backbone}\n"
            f"{self.fitted} pairs fitted on, {self.stopping} for stopping (at step {self.step}), "
            f"{self.held_out} held out, {len(self.unusable)} unusable{reason}{ties}\n"
            f"accuracy on held-out pairs of {self.prompts} prompts, with 95 % intervals over prompts\n"
            f"  {self.own:27}{_shown(found.before)}\n"
            f"  head                       {_shown(found.after)}\n"
            f"  gain in points             {found.gain.signed(1)}\n"
            f"  half it is surer of        {_shown(found.sure)}\n"
            f"  other half                 {_shown(found.unsure)}\n"
            f"-> {self.out}"
        )


def _shown(share: Measured) -> str:
    low, high = share.interval or (math.nan, math.nan)
    return f"{share.mean:.3f} ({low:.3f} to {high:.3f})"


def fit_head(
    pairs: Path,
    backbone: str,
    out: Path,
    engine: Engine,
    settings: HeadSettings | None = None,
    *,
    dtype: str = "float32",
    resize: str = "",
    question: str = "",
) -> HeadSummary:
    """Fit a preference head on a folder of pairs and write it to the new folder `out`.

    Prompts are held out whole, and condition pictures are not looked at. The fit stops where the loss of the
    stopping pairs no longer falls; its start, the backbone's own ranking by the best scale, counts. Values
    have a mean of 0 over the pictures of the pairs that were fitted on.

    Args:
        pairs: a folder that `mmreward pairs` wrote, of pictures or, with `--responses`, of responses.
        backbone: the dual encoder, as for `clipscore`; or a Qwen-VL, which also reads clips and responses.
        out: a folder that is not there yet; the reward `head` reads it.
        engine: runs the backbone.
        settings: loss, steps, seed, the form of a Qwen-VL's head and the rank of an adapter.
        dtype, resize: of the dual encoder, as for `clipscore` (default "tensor"), and the dtype of a Qwen-VL;
            the reward takes them from the folder.
        question: that a Qwen-VL is asked, with {prompt} (and {response}, of responses), to be answered by yes
            or no; default `QUESTION` (`RESPONSES_QUESTION`).

    Raises:
        ValueError: pairs that cannot be read, too few usable ones or prompts, no margins where the loss takes
            the pairs' own, no ties for "btt", an `out` that is there already, or a setting of the other kind
            of backbone.
    """
    settings = settings or HeadSettings()
    check_new(out)
    given = read_any_pairs(pairs)
    body = _backbone(backbone, dtype, resize, question, settings, isinstance(given[0], ResponsePair))
    kept = [pair for pair in given if settings.loss == "btt" or not pair.tie]
    if settings.loss == "btt" and not any(pair.tie for pair in kept):
        raise ValueError(f"{pairs} has no ties, and btt learns from them: `mmreward pairs --ties` keeps them")
    usable, embedded, problems = embed(kept, body, engine)
    if settings.margin == "pairs" and not embedded.margins.isfinite().all():
        raise ValueError(f"{pairs} has pairs without the column margin, a number: give --margin a number")
    masks = split(embedded.prompts, settings.seed)
    learned, stopping, measured = (embedded.of(mask) for mask in masks)
    scale = engine.run(body.network.logit()).scale if isinstance(body.network, Encoder) else 1.0
    alone = replace(settings, steps=max(BEFORE, settings.steps)) if settings.rank else settings
    head, step = fitted(learned, stopping, alone, scale)
    adapter = None
    if isinstance(body.network, QwenVL) and settings.rank:
        parts = [[usable[row] for row in mask.nonzero()[:, 0].tolist()] for mask in masks]
        adapter, head, step, found = trained(
            body.network, body.question, head, (learned, stopping, measured), parts, settings
        )
    else:
        found = examined(head, measured)
    summary = HeadSummary(
        backbone=backbone,
        loss=settings.loss,
        fitted=len(learned.prompts),
        stopping=len(stopping.prompts),
        held_out=len(measured.prompts),
        prompts=len(set(measured.prompts)),
        ties=int(measured.ties.sum()),
        unusable=tuple(problems),
        left_out=len(given) - len(kept),
        step=step,
        accuracy=found,
        own=body.own,
        out=out,
    )
    facts = _facts(body, backbone, settings, head, summary, dtype, adapter)
    write_head(out, head, facts, None if adapter is None else lambda part: adapter.write(part / ADAPTER))
    return summary


def _backbone(
    name: str, dtype: str, resize: str, question: str, settings: HeadSettings, responses: bool
) -> Backbone:
    rank, form = settings.rank, settings.form.removeprefix("usual")
    if not is_qwen(name):
        for setting, value in (("question", question), ("rank", rank), ("form", form)):
            if value:
                raise ValueError(f"{setting} {value} is for a Qwen-VL, and {name} is none")
        if responses:
            raise ValueError(f"pairs of responses are for a Qwen-VL, which reads them, and {name} is none")
        return Backbone(models.clip(name, dtype=dtype, resize=resize or "tensor"), "")
    if resize:
        raise ValueError(f"resize {resize!r} is for a dual encoder, and {name} is a Qwen-VL")
    places = (PROMPT, RESPONSE) if responses else (PROMPT,)
    if question and (missing := [place for place in places if place not in question]):
        raise ValueError(f"question has no {missing[0]}: {question[:80]!r}")
    if RESPONSE in question and not responses:
        raise ValueError(f"question has {RESPONSE}, and the pairs are of pictures or clips")
    # A network of its own where an adapter is put into it: others share that of `models.vlm`.
    network = QwenVL(name, dtype=dtype) if rank else body_of(name, dtype)
    return Backbone(network, question or (RESPONSES_QUESTION if responses else QUESTION))


def is_qwen(name: str) -> bool:
    """True for a Qwen-VL by its configuration, or by its name where it is not on this machine."""
    source = locate(name) if not is_file_of_weights(name) else name
    folder = folder_of(source)
    if folder is None or not (folder / "config.json").is_file():
        return "qwen" in name.lower() and "vl" in name.lower()
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return found.get("model_type") in FAMILIES


def _facts(
    body: Backbone,
    name: str,
    settings: HeadSettings,
    head: PreferenceHead,
    summary: HeadSummary,
    dtype: str,
    adapter: Adapter | None,
) -> HeadFacts:
    found = summary.accuracy
    figures = {
        "settings": asdict(settings),
        "pairs": {name: getattr(summary, name) for name in ("fitted", "stopping", "held_out", "prompts")},
        "step": summary.step,
        "held-out accuracy": {name: _shown(getattr(found, name)) for name in ("before", "after")},
    }
    return HeadFacts(
        encoder=name,
        content=content_of(body.source),
        dtype=dtype,
        resize=body.network.resize if isinstance(body.network, Encoder) else "",
        loss=settings.loss,
        width=head.width,
        hidden=head.hidden,
        question=body.question,
        form=settings.form,
        adapted=adapter is not None,
        figures=figures,
    )


# --- data ---------------------------------------------------------------------------------------------------


def embed(
    pairs: Sequence[AnyPair], body: Backbone, engine: Engine
) -> tuple[list[AnyPair], EmbeddedPairs, list[str]]:
    """The usable pairs, their embeddings, and the reason of each unusable one."""
    results: list[tuple[Vector, Vector, Vector] | str] = []
    for start in range(0, len(pairs), CHUNK):
        results += engine.run(_embed_all(pairs[start : start + CHUNK], body))
    both = zip(pairs, results, strict=True)
    found = [(pair, result) for pair, result in both if not isinstance(result, str)]
    problems = [result for result in results if isinstance(result, str)]
    if len(found) < FEWEST:
        reason = f"; one that is not: {problems[0]}" if problems else ""
        raise ValueError(f"{len(found)} pairs are usable, and a fit takes {FEWEST} at least{reason}")
    usable = [pair for pair, _ in found]
    halves = zip(*(result for _, result in found), strict=True)
    chosen, rejected, texts = (torch.from_numpy(np.stack(column)).to(body.device) for column in halves)
    return usable, as_pairs(usable, chosen, rejected, texts), problems


def as_pairs(
    pairs: Sequence[AnyPair], chosen: torch.Tensor, rejected: torch.Tensor, texts: torch.Tensor
) -> EmbeddedPairs:
    """Embeddings with what their pairs say."""
    margins = torch.tensor([_margin(pair) for pair in pairs], device=chosen.device)
    ties = torch.tensor([pair.tie for pair in pairs], device=chosen.device)
    return EmbeddedPairs(chosen, rejected, texts, margins, ties, [pair.prompt for pair in pairs])


async def _embed_all(pairs: Sequence[AnyPair], body: Backbone) -> list[tuple[Vector, Vector, Vector] | str]:
    return await gather(*(_embed_one(pair, body) for pair in pairs))


async def _embed_one(pair: AnyPair, body: Backbone) -> tuple[Vector, Vector, Vector] | str:
    """Embeddings of chosen, rejected and prompt; or the reason why the pair is unusable."""
    network = body.network
    try:
        if isinstance(network, QwenVL):
            states = (state_of(network, body.question, *half) for half in halves_of(pair))
            chosen, rejected = await gather(*states)
            return chosen, rejected, chosen[:0]
        assert isinstance(pair, PreferencePair)
        if "video" in (pair.chosen.kind, pair.rejected.kind):
            return "the pair is of clips, and a head looks at pictures"
        image, other, text = await gather(
            network.image(pair.chosen), network.image(pair.rejected), network.text(pair.prompt)
        )
    except Unscorable as error:
        return str(error)
    return image, other, text.vector


def _margin(pair: AnyPair) -> float:
    given = pair.facts.get("margin")
    if not isinstance(given, int | float) or isinstance(given, bool) or given < 0:
        return math.nan
    return float(given)
