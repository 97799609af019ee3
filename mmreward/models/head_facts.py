"""Facts of a fitted preference head, `head.json` of its folder: which encoder it belongs to, and its shape.

Read before any network is made, so that a head's encoder is known without torch. The tensors beside it are
read by `preferences`.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import words

FACTS, TENSORS = "head.json", "head.safetensors"
"""Names of the two files of a folder."""
ADAPTER = "adapter"
"""Folder of a LoRA adapter in a head's folder, in peft's format."""
PROMPT, RESPONSE = "{prompt}", "{response}"
"""Places in a question that a Qwen-VL is asked."""
Loss = Literal["bt", "btt", "margin", "uncertainty", "integrated"]
NORMAL: tuple[Loss, ...] = ("uncertainty", "integrated")
"""Losses whose head gives a mean and a standard deviation."""
Form = Literal["usual", "basereward"]
Whole = Annotated[int, Field(ge=1)]


class HeadFacts(BaseModel):
    """Facts of a head.

    Args:
        kind: of the file.
        encoder: name, when the head was fitted, of the dual encoder, or of the Qwen-VL where there is a
            question.
        content: hash of the encoder's weights, see `weights.content_of`.
        dtype, resize: of the encoder, as for `mmreward.models.clip`; a Qwen-VL has no resize.
        loss: it was fitted with.
        width: of the embeddings, or of the Qwen-VL's states.
        hidden: width of the head's layers.
        question: that the Qwen-VL is asked, with {prompt}, and with {response} where the head was fitted on
            pairs of responses; "" of a dual encoder.
        form: of a Qwen-VL's head; see `preferences.StateHead` and `preferences.BaseRewardHead`.
        adapted: True where the folder has a LoRA adapter of the Qwen-VL (`ADAPTER`).
        figures: of the fit, to read; nothing depends on them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["preference head"] = "preference head"
    encoder: str
    content: str
    dtype: str
    resize: str
    loss: Loss
    width: Whole
    hidden: Whole
    question: str = ""
    form: Form = "usual"
    adapted: bool = False
    figures: dict[str, Any] = Field(default_factory=dict)

    @property
    def normal(self) -> bool:
        """True for a head that gives a mean and a standard deviation."""
        return self.loss in NORMAL

    @property
    def of_responses(self) -> bool:
        """True for a head that rates responses."""
        return RESPONSE in self.question


class Handle(NamedTuple):
    """Encoder of a head as a reward names it, or as the head was fitted where it names none."""

    encoder: str
    dtype: str
    resize: str


def read_facts(folder: str | Path) -> HeadFacts:
    """The facts in a folder.

    Raises:
        ValueError: no such folder, or none that `mmreward fit head` wrote.
    """
    file = Path(folder) / FACTS
    if not file.is_file():
        raise ValueError(f"{folder} is no fitted head: it has no {FACTS}; `mmreward fit head` makes one")
    try:
        return HeadFacts.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{file} is no fitted head's: {where}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no fitted head's: {words(error)}") from None


def handle_of(facts: HeadFacts, encoder: str, dtype: str, resize: str) -> Handle:
    """The encoder to use; "" for any of the three is the fit's own."""
    return Handle(encoder or facts.encoder, dtype or facts.dtype, resize or facts.resize)
