"""The OpenAI chat protocol as data: requests, data URLs of pictures, and answers checked field by field.

Answers are checked because a proxy's error page, a half-implemented server and a truncated body all arrive
with status 200 sooner or later. Pictures are sent without loss: one that is scored for its quality must not
be compressed on the way.

Knows nothing of sockets. Imports no torch.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from ...errors import Unscorable
from ...media import Media
from ...trust import LONG, redacted, unescaped
from ..vlms.answers import Ask, Parts, Written, messages

M = TypeVar("M", bound=BaseModel)

# --- answers --------------------------------------------------------------------------------------


class Candidate(BaseModel):
    """Token and its log-probability in nats; None is a probability of zero."""

    token: str
    logprob: FiniteFloat | None = Field(None, le=1e-3)

    @property
    def prob(self) -> float:
        return 0.0 if self.logprob is None else math.exp(self.logprob)


class Position(Candidate):
    top_logprobs: list[Candidate] = []


class LogProbs(BaseModel):
    content: list[Position] | None = None


class Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    message: Message
    finish_reason: str | None = None
    logprobs: LogProbs | None = None


class Usage(BaseModel):
    completion_tokens: int = Field(ge=0)


class PromptToken(BaseModel):
    logprob: FiniteFloat = Field(le=1e-3)


class Completion(BaseModel):
    """Answer of /chat/completions; the last two fields are vLLM's."""

    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: list[dict[int, PromptToken] | None] | None = None


def parse(kind: type[M], data: bytes) -> M:
    """Answer's JSON as the given pydantic model.

    Raises:
        Unscorable: it is not JSON, or a field is missing or wrong.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the answer"
        begins = " ".join(redacted(unescaped(data.decode("utf-8", "replace"))).split())[:120]
        raise Unscorable(
            f"the server's answer has the wrong form: {redacted(where)}: {redacted(first['msg'])}: {begins}"
        ) from None


def written(completion: Completion) -> Written:
    """Text of an answer, and `finished` where it is whole.

    Raises:
        Unscorable: "unparsable" for a refusal, a filtered answer and an empty one; "error" when the server
            does not say why it stopped, or how many tokens it wrote.
    """
    choice = completion.choices[0]
    if choice.message.refusal:
        raise Unscorable(f"the model refused: {redacted(choice.message.refusal)[:200]}", "unparsable")
    if choice.finish_reason == "content_filter":
        raise Unscorable("the server's content filter stopped the answer", "unparsable")
    if choice.finish_reason not in ("stop", "length"):
        reason = redacted(str(choice.finish_reason))[:80]
        raise Unscorable(f"the answer ended for the reason {reason!r}, not stop or length")
    if completion.usage is None:
        raise Unscorable("the server does not say how many tokens it wrote (no usage)")
    # A judge's words become notes: a key that a proxy writes into them must not.
    text = redacted(choice.message.content or "", LONG)
    tokens = completion.usage.completion_tokens
    if not text.strip():
        raise Unscorable(f"the answer is empty after {tokens} tokens", "unparsable")
    return Written(text, choice.finish_reason == "stop", tokens)


# --- requests -------------------------------------------------------------------------------------


def request_messages(ask: Ask, pictures: Sequence[Parts]) -> list[dict[str, Any]]:
    """Chat messages as a server takes them. Only the user shows pictures."""
    chat = messages(ask, pictures)
    return [
        message
        if message["role"] == "user"
        else {"role": message["role"], "content": message["content"][0]["text"]}
        for message in chat
    ]


def json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The `response_format` that asks for an answer of this JSON schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema), "strict": True}}


# --- pictures -------------------------------------------------------------------------------------

PASSED = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}
"""Formats whose bytes are sent as they are, and their MIME subtypes."""


def data_url(media: Media, low: int | None = None, high: int | None = None) -> str:
    """Data URL of a picture without loss: its own bytes where every server decodes them alike, else PNG.

    Its own bytes go when they are PNG, JPEG or WebP, with one frame, RGB or grey, not rotated by EXIF, and
    already between `low` and `high` pixels; it is decoded here all the same, so that a torn file is not sent.

    Raises:
        Unscorable: a picture that cannot be decoded; a video.
    """
    if media.kind != "image":
        raise Unscorable(
            "a served model is shown pictures: say MODEL@URL?clips=8 to send a clip as 8 of its frames, or "
            "?clips=video to send its file, which vLLM reads"
        )
    pixels = media.array()
    height, width = pixels.shape[:2]
    size = fitted(height, width, low, high)
    data = media.content()
    kind = passing(data) if isinstance(data, bytes) and size == (height, width) else ""
    if not kind:
        from PIL import Image

        picture = Image.fromarray(pixels)
        if size != (height, width):
            picture = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=1)
        kind, data = "png", buffer.getvalue()
    assert isinstance(data, bytes)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def picture_part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def clip_part(media: Media) -> dict[str, Any]:
    """Part of a message with a clip's own file, as vLLM and SGLang take it; which frames of it are looked at
    is the server's choice.

    Raises:
        Unscorable: the clip is frames in memory or no container that servers read.
    """
    data = media.content()
    kinds = {"mp4": b"ftyp", "webm": b"\x1aE\xdf\xa3"}
    found = [kind for kind, mark in kinds.items() if isinstance(data, bytes) and mark in data[:12]]
    if not found or not isinstance(data, bytes):
        raise Unscorable("clips=video sends an MP4, MOV or WebM file, and this clip is none: say clips=8")
    url = f"data:video/{found[0]};base64,{base64.b64encode(data).decode()}"
    return {"type": "video_url", "video_url": {"url": url}}


def fitted(height: int, width: int, low: int | None, high: int | None) -> tuple[int, int]:
    """(height, width) in the same proportion with at least `low` pixels, and at most `high` whatever `low`
    is."""
    area = height * width
    if low is not None and area < low:
        scale = math.sqrt(low / area)
        height, width = math.ceil(height * scale), math.ceil(width * scale)
    if high is not None and height * width > high:
        scale = math.sqrt(high / (height * width))
        height, width = max(1, math.floor(height * scale)), max(1, math.floor(width * scale))
    return height, width


def passing(data: bytes) -> str:
    """The MIME subtype under which a picture's own bytes can be sent; empty when they must be re-encoded."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        plain = picture.mode in ("RGB", "L") and "transparency" not in picture.info
        upright = picture.getexif().get(0x0112, 1) == 1
        single = getattr(picture, "n_frames", 1) == 1
        return PASSED.get(picture.format or "", "") if plain and upright and single else ""
