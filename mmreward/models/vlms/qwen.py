"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5 as networks. Ops "read", "write", "logprob" and "state".

A batch is a few trees of prompts (`prompts.Grove`): questions about one picture share their beginning, and
every picture is encoded once. Nothing is ever left to state on the module (transformers keeps `rope_deltas`
there), to a default cache, or to default positions.

Knows the engine's `Network` protocol and transformers; `handle.LocalVLM` is the side that rewards see.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple, cast

import torch

from ...engine.batching import Cost, Feed
from ...errors import Unscorable
from ...media import Media
from ..base import TorchNetwork, loading
from ..pictures import in_turn
from ..weights import content_of, fingerprint_of, folder_of, locate
from .answers import Ask, Written, continuation_span, label_logprobs, label_sets, messages
from .decoding import CACHE, Decoder, Forking, Start, decode, forked
from .likelihoods import continuations, reads, with_odds
from .prompts import Grove, Prompt, encoder_outputs, tokenized
from .refilling import refilled
from .rendering import Renderer
from .vision import Features, View, Vision

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")


class Item(NamedTuple):
    """One call. `detail` by op: labels and their tokens ("read" and "state"), a Sampling ("write"), or the
    beginning of the answer and the continuation ("logprob")."""

    ask: Ask
    view: View
    detail: Any


SHAPES = (
    "no_repeat_ngram_size",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "sequence_bias",
    "min_new_tokens",
)
"""Settings of a generation config that change greedy answers, beside the repetition penalty."""


def penalty_of(source: str) -> float:
    """Repetition penalty of a checkpoint on this machine, from its generation_config.json; else 1."""
    folder = folder_of(source)
    file = None if folder is None else folder / "generation_config.json"
    if file is None or not file.is_file():
        return 1.0
    return float(json.loads(file.read_text(encoding="utf-8")).get("repetition_penalty") or 1.0)


class QwenVL(TorchNetwork):
    """One set of weights; see `mmreward.models.vlm` for the handle rewards use.

    Args:
        weights: a hub id or folder.
        dtype: of the weights; label probabilities are computed in float32 whatever it is.
        adapter: a LoRA adapter in peft's format (hub id or folder) that is added to the weights; empty for
            none.

    Raises:
        ValueError: no such folder of an adapter.
    """

    def __init__(self, weights: str, *, dtype: str = "float32", adapter: str = "") -> None:
        super().__init__(weights, dtype=dtype)
        self.adapter = locate(adapter) if adapter else ""
        self._label_sets: dict[tuple[str, ...], list[list[int]]] = {}
        self._renderer = Renderer(weights)

    # --- the checkpoint's own settings ------------------------------------------------------------

    @cached_property
    def processor(self) -> Any:
        from transformers import AutoProcessor

        with loading(self.name):
            return AutoProcessor.from_pretrained(self.source)

    @cached_property
    def vision(self) -> Vision:
        return Vision(self.processor)

    @cached_property
    def config(self) -> Any:
        from transformers import AutoConfig

        with loading(self.name):
            config: Any = AutoConfig.from_pretrained(self.source)
        if config.model_type not in FAMILIES:
            raise ValueError(
                f"{self.name} is a {config.model_type}; the Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5 "
                "families work"
            )
        return config

    @cached_property
    def branches(self) -> bool:
        """True when rows can be merged into trees, which takes full attention in every layer: a recurrent
        layer has no mask, and would carry one branch's state into the next."""
        kinds = getattr(self.config.get_text_config(), "layer_types", None) or ["full_attention"]
        return set(kinds) == {"full_attention"}

    def label_sets(self, labels: tuple[str, ...]) -> list[list[int]]:
        """Token ids of each label's spellings; see `answers.label_sets`."""
        if labels not in self._label_sets:
            chat = self.chat(Ask((), "?"))
            with self.processing:
                tail = chat[chat.rindex("?") + 1 :]
                self._label_sets[labels] = label_sets(self.processor.tokenizer, tail, labels)
        return self._label_sets[labels]

    def build(self) -> torch.nn.Module:
        from transformers import AutoModelForImageTextToText

        module = AutoModelForImageTextToText.from_pretrained(
            self.source, config=self.config, dtype=self.dtype, attn_implementation="sdpa"
        )
        if self.adapter:
            from peft import PeftModel

            with loading(f"the adapter {self.adapter} of {self.name}"):
                module = PeftModel.from_pretrained(module, self.adapter).merge_and_unload()
        return cast(torch.nn.Module, module)

    def unload(self) -> None:
        self.vision.forget()
        super().unload()

    def make(self) -> None:
        """Load the processor, and what sizes pictures, see `Reward.make`."""
        import_module("qwen_vl_utils.vision_process")
        _ = self.processor

    # --- the engine's side ------------------------------------------------------------------------

    def cost(self, op: str, item: Item) -> Cost:
        ask, view, detail = item
        forced = "".join(detail) if op == "logprob" else ""
        self._refuse_placeholders(ask.words, forced)
        pixels = 0
        for media in ask.media:
            height, width = self.vision.size(media, view)
            frames = 1 if media.kind == "image" else len(self.vision.frames(media, view)[0])
            pixels += height * width * frames
        seen = pixels // self.vision.factor**2
        first = len(ask.system) // 3 + 8
        if ask.media:
            first += seen // len(ask.media)
        ahead = detail.max_tokens if op == "write" else len(forced) // 3
        total = seen + len(ask.words) // 3 + ahead + 24
        return Cost(total, pixels * 24, first if ask.media else 0)

    def prepare(self, op: str, items: list[Item]) -> Any:
        chats = [self.chat(item.ask) for item in items]
        ends = [item.detail if op == "logprob" else ("", "") for item in items]
        shown = {(media.key, item.view): media for item in items for media in item.ask.media}
        looks = [(media, view) for (_, view), media in shown.items()]
        found = in_turn([media for media, _ in looks], lambda index: self.vision.look(*looks[index]))
        looked = dict(zip(shown, found, strict=True))
        sights = [tuple(looked[media.key, item.view] for media in item.ask.media) for item in items]
        shares = [(item.ask.share, item.view) for item in items]
        texts = [chat + given + end for chat, (given, end) in zip(chats, ends, strict=True)]
        with self.processing:
            prompts = tokenized(self.processor, texts, sights, shares)
            if op == "logprob":
                spans = [self._span(chat, *end) for chat, end in zip(chats, ends, strict=True)]
                prompts = [prompt._replace(span=span) for prompt, span in zip(prompts, spans, strict=True)]
        for prompt in prompts:
            self._refuse_overlong(len(prompt.ids))
        return Grove.of(prompts, self._pad, merge=self.branches), items

    def _refuse_overlong(self, tokens: int) -> None:
        """Raises Unscorable for a prompt beyond the context, where a model's answer means nothing."""
        most = self.config.get_text_config().max_position_embeddings
        if tokens > most:
            raise Unscorable(f"the prompt has {tokens} tokens, and {self.name} reads at most {most}")

    def forward(self, op: str, batch: tuple[Grove, list[Item]]) -> list[Any]:
        try:
            return self._forward(op, *batch)
        except torch.OutOfMemoryError:
            self.vision.forget()  # what is tried next may need the memory
            raise

    def refills(self, op: str) -> bool:
        """True for texts, where rows can be merged: a recurrent layer's states cannot be moved together."""
        return op == "write" and self.branches

    @torch.inference_mode()
    def forward_on(self, op: str, feed: Feed) -> None:
        decoder = Decoder(self.module, self._stops, self._penalty)
        try:
            refilled(feed, decoder, self._start, self._pad, self._written)
        except torch.OutOfMemoryError:
            self.vision.forget()  # what is tried next may need the memory
            raise

    @torch.inference_mode()
    def _forward(self, op: str, grove: Grove, items: list[Item]) -> list[Any]:
        if op == "write":
            start = self._start(grove)
            ids = [prompt.ids for prompt in grove.prompts]
            samplings = [item.detail for item in items]
            written = decode(self.module, start, samplings, self._stops, self._penalty, ids)
            return [self._written(ids, stopped) for ids, stopped in written]
        hidden = self._hidden(grove)
        if op == "logprob":
            tokens = [prompt.ids[-prompt.span :] for prompt in grove.prompts]
            return continuations(self.module.lm_head, hidden, tokens)
        answers = reads if op == "read" else with_odds
        return answers(self.module.lm_head, torch.cat(hidden), [item.detail for item in items])

    # --- with a gradient ----------------------------------------------------------------------------

    def read_pixels(
        self,
        pixels: torch.Tensor,
        questions: Sequence[Sequence[str]],
        view: View,
        labels: tuple[str, ...],
        system: str = "",
    ) -> torch.Tensor:
        """See `handle.LocalVLM.read_pixels`; label log-probabilities (N, Q, labels), not renormalised."""
        sets = self.label_sets(labels)
        states, _ = self._pixel_states(pixels, questions, view, system)
        scores = label_logprobs(self.module.lm_head(torch.cat(states)).float().log_softmax(-1), sets)
        return scores.reshape(len(pixels), -1, len(labels))

    def logprob_pixels(
        self, pixels: torch.Tensor, questions: Sequence[str], view: View, continuation: str
    ) -> list[torch.Tensor]:
        """See `handle.LocalVLM.logprob_pixels`; log-probabilities (tokens,) for each picture."""
        states, prompts = self._pixel_states(pixels, [[text] for text in questions], view, "", continuation)
        found = []
        for hidden, prompt in zip(states, prompts, strict=True):
            ids = torch.from_numpy(prompt.ids[-prompt.span :]).to(hidden.device)
            logprobs = self.module.lm_head(hidden).float().log_softmax(-1)
            found.append(logprobs.gather(-1, ids[:, None])[:, 0])
        return found

    def readings(self, items: list[Item]) -> torch.Tensor:
        """State where each answer begins, and behind it the odds of two labels, (N, D + 1), with a gradient
        in those weights of the language model that take one."""
        grove, _ = self.prepare("state", items)
        with torch.no_grad():
            features = self.vision.encode(self.module.model, grove.sights, self.device)
        return self._with_odds(torch.cat(self._states(grove, features)), items[0].detail[1])

    def state_pixels(
        self, pixels: torch.Tensor, questions: Sequence[str], view: View, labels: tuple[str, str]
    ) -> torch.Tensor:
        """`readings` of float pictures, one question each, differentiable in the pictures."""
        states, _ = self._pixel_states(pixels, [[text] for text in questions], view, "")
        return self._with_odds(torch.cat(states), self.label_sets(labels))

    def _with_odds(self, states: torch.Tensor, sets: list[list[int]]) -> torch.Tensor:
        scores = label_logprobs(self.module.lm_head(states).float().log_softmax(-1), sets)
        return torch.cat([states.float(), scores[:, :1] - scores[:, 1:]], dim=-1)

    def _pixel_states(
        self,
        pixels: torch.Tensor,
        questions: Sequence[Sequence[str]],
        view: View,
        system: str,
        continuation: str = "",
    ) -> tuple[list[torch.Tensor], list[Prompt]]:
        """States that predict each answer, or each token of a continuation, picture by picture; with a
        gradient."""
        if self.device != pixels.device:
            self.load(str(pixels.device))
        features = self.vision.encode_pixels(self.module.model, pixels, view)
        chats, sights = [], []
        for sight, picture, asked in zip(features, pixels.detach(), questions, strict=True):
            for text in asked:
                self._refuse_placeholders(text, system, continuation)
                chats.append(self.chat(Ask((Media(picture),), text, system)))
                sights.append((sight,))
        with self.processing:
            texts = [chat + continuation for chat in chats]
            prompts = tokenized(self.processor, texts, sights, [seen[0].key for seen in sights])
            if continuation:
                spans = [self._span(chat, "", continuation) for chat in chats]
                prompts = [prompt._replace(span=span) for prompt, span in zip(prompts, spans, strict=True)]
        grove = Grove.of(prompts, self._pad, merge=self.branches)
        return self._states(grove, {sight.key: each for sight, each in features.items()}), prompts

    # --- running a grove --------------------------------------------------------------------------

    def _run(self, grove: Grove, features: dict[Any, Features], use_cache: bool) -> tuple[Any, torch.Tensor]:
        """Output of the model without its head over all trees, and the positions (4, B, T) of their
        tokens."""
        positions = self._positions(grove).to(self.device)
        output = self.module.model(
            input_ids=grove.ids.to(self.device),
            position_ids=positions,
            attention_mask=grove.mask(self.device),
            mm_encoder_outputs=encoder_outputs(grove.sights, features),
            use_cache=use_cache,
        )
        return output, positions

    def _positions(self, grove: Grove) -> torch.Tensor:
        return grove.positions(self.module.model)

    def _hidden(self, grove: Grove) -> list[torch.Tensor]:
        """States that predict each prompt's continuation: (1, H), or (span, H) where it has one."""
        if not self.branches:
            return Forking(self.module, self.vision, grove, self.device).hidden()
        return self._states(grove, self.vision.encode(self.module.model, grove.sights, self.device))

    def _states(self, grove: Grove, features: dict[Any, Features]) -> list[torch.Tensor]:
        """The same as `_hidden`, in one forward pass over all trees."""
        output, _ = self._run(grove, features, use_cache=False)
        states = []
        # The state at a token predicts the next one: a continuation's first token is predicted by the
        # prompt's last, and its last token predicts nothing that is asked for.
        for (tree, path), prompt in zip(grove.where(), grove.prompts, strict=True):
            end = len(path) - 1 if prompt.span else len(path)
            states.append(
                output.last_hidden_state[tree, path[end - max(prompt.span, 1) : end].to(self.device)]
            )
        return states

    def _start(self, grove: Grove) -> Start:
        """The cache and last states of every prompt, from which decoding continues."""
        if not self.branches:
            return Forking(self.module, self.vision, grove, self.device).start()
        features = self.vision.encode(self.module.model, grove.sights, self.device)
        output, positions = self._run(grove, features, use_cache=True)
        where = grove.where()
        trees = torch.tensor([tree for tree, _ in where])
        places = torch.nn.utils.rnn.pad_sequence([path for _, path in where], batch_first=True)
        lengths = torch.tensor([len(path) for _, path in where])
        mask = (torch.arange(places.shape[1]) < lengths[:, None]).long()
        last = places[torch.arange(len(where)), lengths - 1]
        trees, places, mask, last = (tensor.to(self.device) for tensor in (trees, places, mask, last))
        return Start(
            hidden=output.last_hidden_state[trees, last],
            cache=forked(getattr(output, CACHE), trees, places),
            mask=mask,
            positions=positions[:, trees, last],
        )

    # --- from states to answers -------------------------------------------------------------------

    def _written(self, ids: list[int], stopped: bool) -> Written:
        # Special tokens are kept: some models answer in them (box tokens); the stop token is not in `ids`.
        text = self.processor.tokenizer.decode(ids, skip_special_tokens=False)
        return Written(text, stopped, len(ids))

    # --- chats ------------------------------------------------------------------------------------

    def chat(self, ask: Ask) -> str:
        """The prompt in the checkpoint's own chat template, up to where the answer begins; of an open
        question up to the end of its text.

        Raises:
            Unscorable: the template does not end in time, or writes too much; see `rendering.Renderer`.
        """
        turns = messages(ask, [[{"type": media.kind}] for media in ask.media])
        template = self.processor.apply_chat_template
        whole = self._renderer.text(
            lambda: cast(str, template(turns, tokenize=False, add_generation_prompt=not ask.open))
        )
        if not ask.open:
            return whole
        kept, ended, _ = whole.rpartition(self.processor.tokenizer.eos_token)
        if not ended or not kept.endswith(ask.text[-1:]):
            raise Unscorable(f"the chat template of {self.name} does not end a turn as its tokenizer does")
        return kept

    def _span(self, chat: str, given: str, continuation: str) -> int:
        """Number of tokens at the end that are the continuation's."""
        texts = (chat, chat + given, chat + given + continuation)
        encode = self.processor.tokenizer.encode
        prompt, before, whole = (encode(text, add_special_tokens=False) for text in texts)
        return continuation_span(prompt, before, whole, continuation)

    def _refuse_placeholders(self, *texts: str) -> None:
        for token in (self.processor.image_token, self.processor.video_token):
            if any(token in text for text in texts):
                raise Unscorable(f"the text contains {token}, which stands for a picture")

    @property
    def _pad(self) -> int:
        tokenizer = self.processor.tokenizer
        return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0)

    @cached_property
    def _penalty(self) -> float:
        """The checkpoint's repetition penalty: 1.05 for Qwen2.5-VL. Temperature and limit are the caller's; a
        checkpoint that shapes greedy answers in another way is refused.

        Raises:
            ValueError: a setting of the generation config that is not followed here.
        """
        config = self.module.generation_config
        shaped = [name for name in SHAPES if getattr(config, name, None) not in (None, 0, [], {})]
        if shaped:
            raise ValueError(
                f"the generation config of {self.name} sets {', '.join(shaped)}, which is not followed here: "
                "take it out, or serve the model and name it as MODEL@URL"
            )
        return float(config.repetition_penalty or 1.0)

    @cached_property
    def fingerprint(self) -> str:
        """See `TorchNetwork`; with the repetition penalty of answers where the checkpoint has one, and the
        adapter where there is one."""
        penalty = penalty_of(self.source)
        options = self.options | ({} if penalty == 1 else {"repetition_penalty": penalty})
        options |= {"adapter": content_of(self.adapter)} if self.adapter else {}
        return fingerprint_of(type(self).__name__, self.content, self.dtype, options)

    @cached_property
    def _stops(self) -> set[int]:
        stops = self.module.generation_config.eos_token_id
        if stops is None:
            stops = self.processor.tokenizer.eos_token_id
        return set(stops) if isinstance(stops, list) else {stops}
