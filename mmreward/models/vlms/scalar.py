"""Scalar reward models on a Qwen-VL body: heads on the hidden states of named tokens. Op "score".

HPSv3, EditReward and VideoReward read the states of special tokens that they added to the vocabulary,
Skywork-VL-Reward that of the last one. All of it runs as `qwen` does: pictures are encoded once, prompts
about one picture share their beginning. What is read is a few numbers for each token; what they mean is the
reward's to say.

Positions are a trap: the forward of HPSv3, EditReward and VideoReward hands embeddings to the language model
without positions, so that pictures' tokens are counted on like words (`flat`), in training as in use. A port
that goes through transformers' own forward gives them rows and columns (M-RoPE), and other numbers.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch

from ...engine.engine import current
from ...errors import Unscorable
from ...media import Media
from ..base import loading
from ..checkpoints import files_of, state_of
from ..wants import hub_file
from ..weights import content_of, fingerprint_of, folder_of, locate, placed
from .answers import Ask, Pictures, Turn, media_of, messages
from .prompts import Grove, Prompt, tokenized
from .qwen import Item, QwenVL
from .scalar_files import Body, body_of
from .vision import Features, View

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
HEAD_FILE = "value_head.safetensors"
TURNS = ("<|im_start|>", "<|im_end|>")
"""Tokens that begin and end a turn: an answer that has them says what nobody said."""
Numbers = tuple[tuple[float, ...], ...]
"""For each token that is read, what the heads say of it."""


class ScalarVL(QwenVL):
    """One published scalar reward model.

    Args:
        weights: its file of tensors, by path or OWNER/NAME/FILE; or a folder or hub id in transformers
            format, with the head among its tensors or in a file of its own (`HEAD_FILE`), as LLaMA-Factory
            saves it.
        base: hub id or folder of the body it was trained on, for configuration, tokenizer and processor.
        tokens: special tokens that are read, in their order, each once in a prompt; () reads the last token.
        heads: that the file must have.
        flat: tokens of pictures are counted on like words; False gives them rows and columns.
        low, high: pixels of every picture, at least and at most; 0 leaves that to the body's processor.
        dtype: of the body; the heads are in float32.
    """

    def __init__(
        self,
        weights: str,
        base: str,
        *,
        tokens: tuple[str, ...] = (),
        heads: int = 1,
        flat: bool = True,
        low: int = 0,
        high: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__(weights, dtype=dtype)
        self.source = placed(weights)
        self.base = locate(base)
        self.tokens = tokens
        self.heads = heads
        self.flat = flat
        self.view = View(low or None, high or None)

    async def score(self, media: Pictures, text: str, answer: str | None = None) -> Numbers:
        """What the heads say of each token that is read.

        Args:
            media: pictures or a clip, which stand before the text.
            text: of the user's turn.
            answer: what is scored, as the assistant's turn; with it the chat ends there.

        Raises:
            Unscorable: the text has a token that is read, or a picture's, in a wrong place; an answer or its
                question begins or ends a turn.
        """
        self._refuse_marks(text)
        for token in TURNS if answer is not None else ():
            if token in text or token in cast(str, answer):
                raise Unscorable(f"prompt or response contain {token}, which begins or ends a turn")
        shown = media_of(media)
        ask = Ask(shown, text) if answer is None else Ask(shown, "", history=(Turn(text, answer),))
        item, share = Item(ask, self.view, None), (ask.share, self.view)
        found = await current().submit(self, "score", item, key=(ask.key, answer is None), share=share)
        return cast(Numbers, found)

    def values_of(self, pixels: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        """Differentiable numbers (N, tokens, outputs) of float pictures (N, 3, H, W) in [0, 1], one text
        each; runs where the pixels are."""
        if self.device != pixels.device:
            self.load(str(pixels.device))
        features = self.vision.encode_pixels(self.module.model, pixels, self.view)
        chats = []
        for picture, text in zip(pixels.detach(), texts, strict=True):
            self._refuse_marks(text)
            self._refuse_placeholders(text)
            chats.append(self.chat(Ask((Media(picture),), text)))
        with self.processing:
            prompts = tokenized(
                self.processor, chats, [(sight,) for sight in features], [sight.key for sight in features]
            )
        grove = Grove.of(prompts, self._pad)
        return torch.stack(self._read(grove, {sight.key: each for sight, each in features.items()}))

    # --- the published files ----------------------------------------------------------------------

    @cached_property
    def processor(self) -> Any:
        from tokenizers import AddedToken
        from transformers import AutoProcessor

        with loading(self.base):
            processor = AutoProcessor.from_pretrained(self.base)
        added = [AddedToken(token, normalized=False, special=True) for token in self.tokens]
        processor.tokenizer.add_tokens(added, special_tokens=True)
        return processor

    @cached_property
    def config(self) -> Any:
        from transformers import AutoConfig

        with loading(self.base):
            config: Any = AutoConfig.from_pretrained(self.base)
        if config.model_type not in FAMILIES:
            raise ValueError(f"{self.base} is a {config.model_type}, and scalar models sit on {FAMILIES}")
        return config

    def build(self) -> torch.nn.Module:
        vocabulary = len(self.processor.tokenizer) if self.tokens else 0
        body = body_of(self.config, self.tensors(), vocabulary, self.dtype, self.name)
        if len(body.heads) != self.heads:
            raise ValueError(f"{self.name} has {len(body.heads)} heads, and {self.heads} are read")
        return body

    def tensors(self) -> dict[str, torch.Tensor]:
        """Tensors of body and heads by their published names."""
        if hub_file(self.source) is not None or Path(self.source).is_file():
            return state_of(self.source)
        folder = folder_of(self.source)
        if folder is None:
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(self.source))
        state: dict[str, torch.Tensor] = {}
        head = folder / HEAD_FILE
        for file in (*files_of(folder), *([head] if head.is_file() else [])):
            state |= state_of(str(file))
        return state

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, body, tokens, positions and dtype."""
        facts = self.options | {"base": content_of(self.base), "tokens": self.tokens, "flat": self.flat}
        facts["view"] = self.view.facts
        return fingerprint_of(type(self).__name__, self.content, self.dtype, facts)

    # --- running ----------------------------------------------------------------------------------

    @torch.inference_mode()
    def _forward(self, op: str, grove: Grove, items: list[Item]) -> list[Any]:
        features = self.vision.encode(self.module.model, grove.sights, self.device)
        read = self._read(grove, features)
        return [tuple(tuple(row) for row in numbers.cpu().tolist()) for numbers in read]

    def _read(self, grove: Grove, features: dict[Any, Features]) -> list[torch.Tensor]:
        """(tokens, outputs) of each prompt."""
        output, _ = self._run(grove, features, use_cache=False)
        module = cast(Body, self.module)
        read = []
        for (tree, path), prompt in zip(grove.where(), grove.prompts, strict=True):
            at = path[self._places(prompt)].to(self.device)
            read.append(module.scores(output.last_hidden_state[tree, at]))
        return read

    def _places(self, prompt: Prompt) -> torch.Tensor:
        """Places of the tokens that are read, in a prompt's own row."""
        if not self.tokens:
            return torch.tensor([len(prompt.ids) - 1])
        ids = self.processor.tokenizer.convert_tokens_to_ids(list(self.tokens))
        return torch.tensor([int((prompt.ids == token).argmax()) for token in ids])

    def _positions(self, grove: Grove) -> torch.Tensor:
        return grove.indices().expand(4, -1, -1) if self.flat else super()._positions(grove)

    def chat(self, ask: Ask) -> str:
        """See `QwenVL.chat`; with an answer the chat ends behind it."""
        if not ask.history:
            return super().chat(ask)
        turns = messages(ask, [[{"type": media.kind}] for media in ask.media])[:-1]
        template = self.processor.apply_chat_template
        return self._renderer.text(
            lambda: cast(str, template(turns, tokenize=False, add_generation_prompt=False))
        )

    def _refuse_marks(self, text: str) -> None:
        for token in self.tokens:
            if (count := text.count(token)) != 1:
                raise Unscorable(
                    f"the prompt contains {token}, which marks where the score is read"
                    if count
                    else f"the published prompt has no {token}"
                )
