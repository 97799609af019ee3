"""Vision-language models of the Qwen2.5-VL and Qwen3-VL families. Ops "read", "write" and "logprob".

The plain batched route: rows padded on the right, explicit position ids, hidden states gathered at each row's
own last token. Nothing is ever left to state on the module (transformers keeps `rope_deltas` there) or to a
default cache.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import torch

from ..batching import Cost
from ..engine import current
from ..failures import Unscorable
from .answers import Ask, LogProb, Pictures, Read, Sampling, Written, media_of
from .base import TorchNetwork
from .decoding import Inputs, decode
from .labels import label_logprobs, label_sets


class VLM(TorchNetwork):
    """Reads label probabilities, writes text, and scores given text.

    Args:
        weights, dtype, min_pixels, max_pixels: see `mmreward.models.vlm`.
    """

    def __init__(
        self,
        weights: str,
        *,
        dtype: str = "float32",
        min_pixels: int | None = None,
        max_pixels: int | None = None,
    ) -> None:
        super().__init__(weights, dtype=dtype, min_pixels=min_pixels, max_pixels=max_pixels)

    async def read(self, media: Pictures, question: str, labels: Sequence[str], *, system: str = "") -> Read:
        """Probabilities of the first answer token falling on each label (all one-token spellings of it).

        Raises:
            ValueError: labels that this tokenizer cannot tell apart by one token.
        """
        ask = Ask(media_of(media), question, system)
        item = (ask, tuple(labels), self.label_sets(tuple(labels)))
        key = (ask.key, tuple(labels))
        return cast(Read, await current().submit(self, "read", item, key=key, share=ask.share))

    async def write(
        self,
        media: Pictures,
        prompt: str,
        *,
        max_tokens: int = 512,
        temperature: float = 0.0,
        seed: int = 0,
        system: str = "",
    ) -> Written:
        """Generate an answer: greedily, or sampled at a temperature from a seed of its own.

        Equal arguments give equal words, alone or in any batch (up to float rounding).
        """
        if max_tokens < 1 or temperature < 0:
            raise ValueError(
                f"max_tokens {max_tokens} must be at least 1, temperature {temperature} at least 0"
            )
        ask = Ask(media_of(media), prompt, system)
        sampling = Sampling(max_tokens, temperature, seed)
        key = (ask.key, sampling)
        return cast(Written, await current().submit(self, "write", (ask, sampling), key=key, share=ask.share))

    async def logprob(self, media: Pictures, prompt: str, continuation: str, *, system: str = "") -> LogProb:
        """How probable the model finds `continuation` as the beginning of its answer."""
        ask = Ask(media_of(media), prompt, system)
        item, key = (ask, continuation), (ask.key, continuation)
        return cast(LogProb, await current().submit(self, "logprob", item, key=key, share=ask.share))

    # --- what the checkpoint says about itself ----------------------------------------------------

    @cached_property
    def processor(self) -> Any:
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(self.source)

    @cached_property
    def limits(self) -> tuple[int, int]:
        """(min_pixels, max_pixels) pictures are brought between."""
        size = self.processor.image_processor.size
        low, high = self.options["min_pixels"], self.options["max_pixels"]
        return low or size["shortest_edge"], high or size["longest_edge"]

    def label_sets(self, labels: tuple[str, ...]) -> list[list[int]]:
        if labels not in self._label_sets:
            chat = self.chat(Ask((), "?"))
            tail = chat[chat.rindex("?") + 1 :]
            self._label_sets[labels] = label_sets(self.processor.tokenizer, tail, labels)
        return self._label_sets[labels]

    @cached_property
    def _label_sets(self) -> dict[tuple[str, ...], list[list[int]]]:
        return {}

    def build(self) -> torch.nn.Module:
        from transformers import AutoModelForImageTextToText

        model: Any = AutoModelForImageTextToText.from_pretrained(
            self.source, dtype=self.dtype, attn_implementation="sdpa"
        )
        if model.config.model_type not in ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"):
            raise ValueError(
                f"{self.name} is a {model.config.model_type}; the Qwen2.5-VL and Qwen3-VL families work"
            )
        return cast(torch.nn.Module, model)

    # --- the engine's side ------------------------------------------------------------------------

    def cost(self, op: str, item: Any) -> Cost:
        from qwen_vl_utils.vision_process import smart_resize

        ask: Ask = item[0]
        factor, (low, high) = self._factor, self.limits
        pixels = 0
        for media in ask.media:
            height, width = smart_resize(*media.size, factor=factor, min_pixels=low, max_pixels=high)
            pixels += height * width
        words = len(ask.text) + len(ask.system) + (len(item[1]) if op == "logprob" else 0)
        ahead = item[1].max_tokens if op == "write" else 0
        return Cost(pixels // factor**2 + words // 3 + ahead + 16, pixels * 24)

    def prepare(self, op: str, items: list[Any]) -> Any:
        asks = [item[0] for item in items]
        chats = [self.chat(ask) for ask in asks]
        spans = [0] * len(items)
        if op == "logprob":
            spans = [self._span(chat, item[1]) for chat, item in zip(chats, items, strict=True)]
            chats = [chat + item[1] for chat, item in zip(chats, items, strict=True)]
        return self._tokenize(asks, chats), [item[1:] for item in items], spans

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        tokens, details, spans = batch
        inputs = Inputs.of(self.module.model, tokens, self.device)
        if op == "write":
            samplings = [sampling for (sampling,) in details]
            return self._written(decode(self.module, inputs, samplings, self._stops))
        hidden = self.module.model(**inputs.kwargs, use_cache=False).last_hidden_state
        if op == "read":
            last = hidden[torch.arange(len(details), device=hidden.device), inputs.lengths - 1]
            logprobs = self.module.lm_head(last).float().log_softmax(-1).cpu()
            return [_read(row, *detail) for row, detail in zip(logprobs, details, strict=True)]
        return [
            self._logprob(hidden[row], inputs.ids[row], int(inputs.lengths[row]), span)
            for row, span in enumerate(spans)
        ]

    def _logprob(self, hidden: torch.Tensor, ids: torch.Tensor, length: int, span: int) -> LogProb:
        logprobs = self.module.lm_head(hidden[length - span - 1 : length - 1]).float().log_softmax(-1)
        picked = logprobs.gather(-1, ids[length - span : length, None])
        return LogProb(float(picked.sum()), span)

    def _written(self, rows: list[tuple[list[int], bool]]) -> list[Written]:
        decode_ids = self.processor.tokenizer.decode
        # Special tokens are kept: some models answer in them (box tokens); the stop token is not in `ids`.
        return [Written(decode_ids(ids, skip_special_tokens=False), done, len(ids)) for ids, done in rows]

    # --- chat, pictures, tokens -------------------------------------------------------------------

    def chat(self, ask: Ask) -> str:
        """The prompt in the checkpoint's own chat template, up to where the answer begins."""
        return cast(
            str,
            self.processor.apply_chat_template(_messages(ask), tokenize=False, add_generation_prompt=True),
        )

    def _tokenize(self, asks: list[Ask], chats: list[str]) -> dict[str, torch.Tensor]:
        from qwen_vl_utils import process_vision_info

        low, high = self.limits
        conversations = [_messages(ask, low, high) for ask in asks]
        patch = self.processor.image_processor.patch_size
        images, _ = process_vision_info(conversations, image_patch_size=patch)
        with self.processing:
            return dict(
                self.processor(
                    text=chats,
                    images=images,
                    do_resize=False,
                    padding=True,
                    padding_side="right",
                    return_tensors="pt",
                )
            )

    def _span(self, chat: str, continuation: str) -> int:
        """How many tokens the continuation adds to the prompt.

        Raises:
            Unscorable: it is empty, or its first token would merge with the prompt's last.
        """
        encode = self.processor.tokenizer.encode
        with self.processing:
            before, whole = (
                encode(chat, add_special_tokens=False),
                encode(chat + continuation, add_special_tokens=False),
            )
        if len(whole) <= len(before) or whole[: len(before)] != before:
            raise Unscorable(f"continuation {continuation[:40]!r} does not begin with a token of its own")
        return len(whole) - len(before)

    @property
    def _factor(self) -> int:
        processor = self.processor.image_processor
        return int(processor.patch_size * processor.merge_size)

    @cached_property
    def _stops(self) -> set[int]:
        stops = self.module.generation_config.eos_token_id
        if stops is None:
            stops = self.processor.tokenizer.eos_token_id
        return set(stops) if isinstance(stops, list) else {stops}


def _messages(ask: Ask, low: int | None = None, high: int | None = None) -> list[dict[str, Any]]:
    """The conversation; with pixel limits the pictures are decoded into it, without them only marked."""
    content: list[dict[str, Any]] = []
    for media in ask.media:
        picture = {"image": media.picture(), "min_pixels": low, "max_pixels": high} if low else {}
        content.append({"type": "image", **picture})
    content.append({"type": "text", "text": ask.text})
    system = [{"role": "system", "content": [{"type": "text", "text": ask.system}]}] if ask.system else []
    return [*system, {"role": "user", "content": content}]


def _read(logprobs: torch.Tensor, labels: tuple[str, ...], sets: list[list[int]]) -> Read:
    scores = label_logprobs(logprobs, sets)
    return Read(dict(zip(labels, scores.softmax(0).tolist(), strict=True)), float(scores.logsumexp(0).exp()))
