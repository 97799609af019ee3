"""Robometer (arXiv:2603.02115) in LeRobot's format: a Qwen3-VL with heads for progress, success and
preference of an episode, read at tokens of its own. Op "score".

A folder has `config.json` (the body's configuration under `vlm_config`, the tokenizer's id under
`base_model_id`, how progress is binned) and `model.safetensors` (the body under `model.`, the heads beside).
Five tokens are added to the tokenizer in the order of training; the vocabulary must then be the body's.

Every frame is a picture, with a token behind it where its progress and success are read; a comparison is two
episodes with a token between and one at the end. The chat numbers its pictures and ends without an answer.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from ...engine.engine import current
from ...errors import Unscorable
from ...media import Media
from ..base import loading
from ..checkpoints import files_of, fill, misfits, state_of
from ..weights import content_of, fingerprint_of, folder_of, locate
from .answers import Ask, asked, messages
from .prompts import Grove
from .qwen import Item, QwenVL
from .scalar_files import Tensors, plain_name
from .vision import View

SPLIT, REWARD, PREFERENCE, SIMILARITY, PROGRESS = TOKENS = (
    "<|split_token|>",
    "<|reward_token|>",
    "<|pref_token|>",
    "<|sim_token|>",
    "<|prog_token|>",
)
"""In the order in which training added them; two of them are read by no head."""
HEADS = ("progress_head", "success_head", "preference_head")
FEWEST, MOST = 4, 16_384
"""Tokens of one picture, as qwen-vl-utils bounds them."""
PUBLISHED = {"use_multi_image": True, "use_per_frame_progress_token": True}
"""What a configuration must say for its heads to be read as they are read here."""


class Judged(NamedTuple):
    """Progress and probability of success at each frame, 0 to 1; of a comparison at the first episode's
    frames and then the second's, with the probability that the first is better."""

    progress: tuple[float, ...]
    success: tuple[float, ...]
    better: float | None = None


class Heads(torch.nn.Module):
    """A body without its language head, and the heads by name, which are read in float32."""

    def __init__(self, model: torch.nn.Module, heads: dict[str, torch.nn.Module]) -> None:
        super().__init__()
        self.model = model
        self.heads = torch.nn.ModuleDict(heads)


class Robometer(QwenVL):
    """One Robometer.

    Args:
        weights: a folder or hub id in LeRobot's format.
        base: hub id or folder of tokenizer and processor; "" takes what the configuration names.
        dtype: of the body; the heads are in float32.
    """

    def __init__(self, weights: str, base: str = "", *, dtype: str = "float32") -> None:
        super().__init__(weights, dtype=dtype)
        self.source = locate(weights)
        self._base = locate(base) if base else ""

    async def progress(self, pictures: Sequence[Media], text: str) -> Judged:
        """Progress and success at every frame of one episode.

        Raises:
            Unscorable: the text has one of our tokens in it.
        """
        return await self._judged(pictures, text, "")

    async def compared(self, first: Sequence[Media], second: Sequence[Media], texts: Sequence[str]) -> Judged:
        """The probability that the first of two episodes is better, and both's progress.

        Args:
            first, second: their frames.
            texts: before the first, between the two, and at the end.

        Raises:
            Unscorable: a text has one of our tokens in it.
        """
        before, between, after = texts
        return await self._judged(first, before, SPLIT + between, second, after + PREFERENCE)

    async def _judged(
        self,
        first: Sequence[Media],
        before: str,
        between: str,
        second: Sequence[Media] = (),
        after: str = "",
    ) -> Judged:
        own = before + between.removeprefix(SPLIT) + after.removesuffix(PREFERENCE)
        for token in TOKENS:
            if token in own:
                raise Unscorable(f"the text contains {token}, at which the heads are read")
        text, places = before, []
        for pictures, words in ((first, between), (second, after)):
            for _ in pictures:
                places.append(len(text))
                text += PROGRESS
            text += words
        ask = asked((*first, *second), text, places=places)
        item = Item(ask, self.view, bool(second))
        found = await current().submit(self, "score", item, key=(ask.key, bool(second)), share=None)
        return cast(Judged, found)

    # --- the published files ----------------------------------------------------------------------

    @cached_property
    def folder(self) -> Path:
        found = folder_of(self.source)
        if found is None:
            from huggingface_hub import snapshot_download

            found = Path(snapshot_download(self.source))
        return found

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What `config.json` says.

        Raises:
            Unavailable: there is none, or its heads are read in another way.
        """
        with loading(self.name):
            found: dict[str, Any] = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
            if "vlm_config" not in found:
                raise ValueError("config.json has no vlm_config: it is no Robometer in LeRobot's format")
            for key, wanted in PUBLISHED.items():
                if found.get(key, wanted) != wanted:
                    raise ValueError(f"config.json says {key}: {found[key]!r}; {wanted!r} is read here")
        return found

    @cached_property
    def base(self) -> str:
        return self._base or str(self.settings.get("base_model_id") or "Qwen/Qwen3-VL-4B-Instruct")

    @cached_property
    def processor(self) -> Any:
        from tokenizers import AddedToken
        from transformers import AutoProcessor

        with loading(self.base):
            processor = AutoProcessor.from_pretrained(self.base)
        added = [AddedToken(token, normalized=False, special=True) for token in TOKENS]
        processor.tokenizer.add_tokens(added, special_tokens=True)
        return processor

    @cached_property
    def config(self) -> Any:
        from transformers import AutoConfig

        facts = dict(self.settings["vlm_config"])
        with loading(self.name):
            config: Any = AutoConfig.for_model(facts.pop("model_type"), **facts)
        return config

    @cached_property
    def view(self) -> View:
        return View(FEWEST * self.vision.factor**2, MOST * self.vision.factor**2)

    def build(self) -> torch.nn.Module:
        from transformers import AutoModel

        state: Tensors = {}
        for file in files_of(self.folder):
            state |= state_of(str(file))
        body = {
            plain_name(name.removeprefix("model.")): tensor
            for name, tensor in state.items()
            if name.startswith("model.") and not name.startswith("model.lm_head.")
        }
        rows = len(self.processor.tokenizer)
        if self.config.get_text_config().vocab_size != rows:
            said = f"{self.config.get_text_config().vocab_size} tokens and its tokenizer {rows}"
            raise ValueError(f"{self.name} has {said}: it was trained on another body than {self.base}")
        with torch.device("meta"):
            bare = AutoModel.from_config(self.config)
        if wrong := misfits(bare.state_dict(), body):
            raise ValueError(f"{self.name} does not fit its own configuration: {wrong}")
        model = type(bare).from_pretrained(
            None, config=self.config, state_dict=body, dtype=self.dtype, attn_implementation="sdpa"
        )
        width = self.config.get_text_config().hidden_size
        heads: dict[str, torch.nn.Module] = {}
        for name in HEADS:
            head = head_of(width, self.bins if name == "progress_head" else 1)
            own = {
                key.removeprefix(f"{name}."): value.float()
                for key, value in state.items()
                if key.startswith(f"{name}.")
            }
            fill(head, own, f"{self.name}, {name}")
            heads[name] = head
        return Heads(model, heads)

    @property
    def bins(self) -> int:
        """Bins of progress; 1 where it is one number."""
        if str(self.settings.get("progress_loss_type", "discrete")).lower() != "discrete":
            return 1
        return int(self.settings.get("progress_discrete_bins") or 10)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, dtype and limits."""
        facts = self.options | {"base": content_of(self._base) if self._base else ""}
        return fingerprint_of(type(self).__name__, self.content, self.dtype, facts)

    # --- running ----------------------------------------------------------------------------------

    @torch.inference_mode()
    def _forward(self, op: str, grove: Grove, items: list[Item]) -> list[Any]:
        features = self.vision.encode(self.module.model, grove.sights, self.device)
        output, _ = self._run(grove, features, use_cache=False)
        progress, preference = self.processor.tokenizer.convert_tokens_to_ids([PROGRESS, PREFERENCE])
        found: list[Any] = []
        for (tree, path), prompt, item in zip(grove.where(), grove.prompts, items, strict=True):
            ids = torch.from_numpy(prompt.ids)
            states = output.last_hidden_state[tree, path.to(self.device)].float()
            at = states[(ids == progress).to(self.device)]
            better = None
            if item.detail:
                logit = self.module.heads["preference_head"](states[(ids == preference).to(self.device)])
                better = float(logit.sigmoid())
            success = self.module.heads["success_head"](at)[:, 0].sigmoid()
            found.append(Judged(tuple(self._share(at).tolist()), tuple(success.tolist()), better))
        return found

    def _share(self, states: torch.Tensor) -> torch.Tensor:
        """Progress of states (N, H), (N,): the mean of the bins' centres, evenly spaced from 0 to 1."""
        logits = self.module.heads["progress_head"](states)
        if self.bins == 1:
            return cast(torch.Tensor, logits[:, 0].sigmoid())
        centres = torch.linspace(0.0, 1.0, self.bins, device=logits.device)
        return cast(torch.Tensor, (logits.softmax(-1) * centres).sum(-1).clamp(0.0, 1.0))

    def chat(self, ask: Ask) -> str:
        """The prompt with its pictures numbered, ended, and without the beginning of an answer."""
        turns = messages(ask, [[{"type": media.kind}] for media in ask.media])
        template = self.processor.apply_chat_template
        return self._renderer.text(
            lambda: cast(
                str, template(turns, tokenize=False, add_generation_prompt=False, add_vision_id=True)
            )
        )


def head_of(width: int, outputs: int) -> torch.nn.Sequential:
    """A head's layers, by the places that they have in the published file."""
    half = width // 2
    return torch.nn.Sequential(
        torch.nn.Linear(width, half),
        torch.nn.LayerNorm(half),
        torch.nn.GELU(),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(half, outputs),
    )
