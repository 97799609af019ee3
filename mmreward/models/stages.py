"""SARM (arXiv:2509.25358) in LeRobot's format: stages of a task and progress within them, from a window of
frames, the robot's states and the task's words. Op "window".

A folder has `config.json` (`type` is "sarm") and `model.safetensors`: `stage_model.*` says which stage each
frame of a window is in, `subtask_model.*`, told the likeliest stage, how far that stage is. Both read three
streams (frames and task as CLIP embeds them, states), laid end to end under one causal mask. The frame that
is judged is the middle one: half of a window is what happens after it. Progress is what the stages before
were worth on average, and the share of the present one.

States are normalised as in training by `policy_preprocessor.json` and the file that it names, where the
folder has them.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from ..engine.batching import Cost
from ..engine.engine import current
from ..errors import Unavailable
from ..media import Media
from .base import TorchNetwork, loading
from .checkpoints import files_of, fill, state_of
from .encoder_handle import Encoder
from .weights import folder_of

HEADS = ("sparse", "dense")
STEP = "normalizer_processor"
"""LeRobot's name for the step of its preprocessor that normalises states."""
EPSILON = 1e-8


class Staged(NamedTuple):
    """Progress of a window's middle frame, 0 to 1, its stage from 0 with that stage's probability, and how
    far the stage is."""

    progress: float
    stage: int
    confidence: float
    within: float


class Window(NamedTuple):
    """One call: embeddings of the frames (T, D) and of the task (E,), and states (T, S)."""

    frames: "np.ndarray[Any, Any]"
    text: "np.ndarray[Any, Any]"
    states: "np.ndarray[Any, Any]"
    head: str


class Tower(torch.nn.Module):
    """One of the two networks, with the names that it has in the file.

    Args:
        facts: the configuration.
        streams: that it reads; three, and the stage as a fourth.
        outputs: of each head.
    """

    def __init__(self, facts: dict[str, Any], streams: int, outputs: dict[str, int]) -> None:
        super().__init__()
        width = int(facts["hidden_dim"])
        self.lang_proj = torch.nn.Linear(int(facts["text_dim"]), width)
        self.visual_proj = torch.nn.Linear(int(facts["image_dim"]), width)
        self.state_proj = torch.nn.Linear(int(facts["max_state_dim"]), width)
        layer = torch.nn.TransformerEncoderLayer(width, int(facts["num_heads"]), 4 * width, batch_first=True)
        self.transformer = torch.nn.TransformerEncoder(
            layer, int(facts["num_layers"]), enable_nested_tensor=False
        )
        self.first_pos = torch.nn.Parameter(torch.zeros(1, width))
        wide = width * streams
        self.fusion_backbone = torch.nn.Sequential(
            torch.nn.LayerNorm(wide), torch.nn.Linear(wide, width), torch.nn.ReLU()
        )
        self.heads = torch.nn.ModuleDict(
            {name: torch.nn.Linear(width, count) for name, count in outputs.items()}
        )

    def forward(
        self,
        frames: torch.Tensor,
        text: torch.Tensor,
        states: torch.Tensor,
        head: str,
        stage: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Outputs at each frame, (B, T, outputs), of frames (B, T, D), a text (B, E), states (B, T, S), and
        stages as one-hot vectors (B, T, C)."""
        seen = self.visual_proj(frames)
        seen = torch.cat((seen[:, :1] + self.first_pos, seen[:, 1:]), 1)
        words = self.lang_proj(text)[:, None].expand(-1, frames.shape[1], -1)
        streams = [seen, words, self.state_proj(states)]
        if stage is not None:  # it has no weights: the one-hot vector, filled up with zeros
            streams.append(torch.nn.functional.pad(stage, (0, seen.shape[-1] - stage.shape[-1])))
        tokens = torch.cat(streams, 1)
        ahead = torch.nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        found = self.transformer(tokens, mask=ahead, is_causal=True)
        together = torch.cat(found.chunk(len(streams), 1), -1)
        return cast(torch.Tensor, self.heads[head](self.fusion_backbone(together)))


class Sarm(TorchNetwork):
    """One SARM, in float32.

    Args:
        weights: a folder or hub id in LeRobot's format.
        encoder: the CLIP that it was trained on, its embeddings unscaled.
    """

    def __init__(self, weights: str, encoder: Encoder) -> None:
        super().__init__(weights, encoder=encoder.fingerprint)
        self.encoder = encoder

    async def judged(
        self, pictures: Sequence[Media], prompt: str, states: "np.ndarray[Any, Any] | None", head: str
    ) -> Staged:
        """The middle frame of one window.

        Args:
            pictures: as many as `offsets`.
            prompt: the task.
            states: (T, S), as the robot gives them; None for zeros, as LeRobot fills in where it has none.
            head: "sparse" or "dense".

        Raises:
            Unavailable: the network has no such head, or another encoder.
        """
        frames = np.stack([await self.encoder.image(media) for media in pictures])
        text = (await self.encoder.text(prompt)).vector
        for what, given, wanted in (("pictures", frames, "image_dim"), ("texts", text, "text_dim")):
            if given.shape[-1] != self.settings[wanted]:
                said = f"{self.name} takes {self.settings[wanted]} numbers of {what}"
                raise Unavailable(f"{said} and {self.encoder.name} gives {given.shape[-1]}: name its encoder")
        ready = self._normalised(states, len(frames))
        key = (tuple(media.key for media in pictures), prompt, ready.tobytes(), head)
        window = Window(frames, text, ready, head)
        return cast(Staged, await current().submit(self, "window", window, key=key))

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
            Unavailable: it is no SARM's, or has values that it cannot have.
        """
        with loading(self.name):
            found: dict[str, Any] = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
            if found.get("type") != "sarm":
                raise ValueError(f"config.json is of type {found.get('type')!r}, not sarm")
            for key in ("n_obs_steps", "frame_gap", "num_sparse_stages", "hidden_dim"):
                if not isinstance(found.get(key), int) or found[key] < 1:
                    raise ValueError(f"config.json has {key}: {found.get(key)!r}; it is a number from 1 up")
        return found

    def offsets(self, gap: int = 0) -> list[int]:
        """Of a window's frames from the middle one.

        Args:
            gap: frames between two of them; 0 for the configuration's.
        """
        half = int(self.settings["n_obs_steps"]) // 2
        return [place * (gap or int(self.settings["frame_gap"])) for place in range(-half, half + 1)]

    @property
    def view(self) -> str:
        """The camera that it was trained on, as views are called here."""
        return str(self.settings.get("image_key") or "").removeprefix("observation.images.")

    def stages(self, head: str) -> int:
        """Stages of a head.

        Raises:
            Unavailable: it has no such head.
        """
        count = self.settings.get(f"num_{head}_stages")
        if not isinstance(count, int):
            raise Unavailable(f"{self.name} was trained without a {head} head: say head=sparse")
        return count

    def ends(self, head: str) -> list[float]:
        """Progress where each stage begins, and 1 behind the last.

        Raises:
            Unavailable: shares that are not as many as the stages.
        """
        count = self.stages(head)
        shares = self.settings.get(f"{head}_temporal_proportions") or [1.0] * count
        if len(shares) != count or not all(share >= 0 for share in shares) or not sum(shares) > 0:
            raise Unavailable(f"{self.name} gives {shares!r} as the shares of {count} stages")
        return [0.0, *(total / sum(shares) for total in accumulate(shares[:-1])), 1.0]

    @cached_property
    def _scale(self) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None":
        """Mean and deviation of the states in training; None where the folder does not say."""
        place = self.folder / "policy_preprocessor.json"
        if not place.is_file():
            return None
        with loading(self.name):
            steps = json.loads(place.read_text(encoding="utf-8")).get("steps", [])
            file = next((one.get("state_file") for one in steps if one.get("registry_name") == STEP), None)
            state = state_of(str(self.folder / Path(file).name)) if file else {}
        name = self.settings.get("state_key", "observation.state")
        mean, deviation = (state.get(f"{name}.{part}") for part in ("mean", "std"))
        if mean is None or deviation is None:
            return None
        return mean.double().numpy(), deviation.double().numpy()

    def _normalised(
        self, states: "np.ndarray[Any, Any] | None", count: int
    ) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """States (T, max_state_dim) as the network reads them: normalised, then cut or filled up."""
        width = int(self.settings["max_state_dim"])
        found = np.zeros((count, width), np.float32)
        if states is None:
            return found
        if self._scale is not None:
            mean, deviation = self._scale
            if states.shape[1] != len(mean):
                said = f"{self.name} was trained on states of {len(mean)} numbers"
                raise Unavailable(f"{said}, and these have {states.shape[1]}")
            states = (states - mean) / (deviation + EPSILON)
        kept = min(width, states.shape[1])
        found[:, :kept] = states[:, :kept]
        return found

    def build(self) -> torch.nn.Module:
        counts = {head: self.settings.get(f"num_{head}_stages") for head in HEADS}
        stages = {head: int(count or counts["sparse"] or 1) for head, count in counts.items()}
        module = torch.nn.ModuleDict(
            {
                "stage_model": Tower(self.settings, 3, stages),
                "subtask_model": Tower(self.settings, 4, dict.fromkeys(HEADS, 1)),
            }
        )
        state = {name: value for file in files_of(self.folder) for name, value in state_of(str(file)).items()}
        fill(module, {name: value.float() for name, value in state.items()}, self.name)
        return module

    # --- running ----------------------------------------------------------------------------------

    def cost(self, op: str, item: Window) -> Cost:
        return Cost(4 * len(item.frames), item.frames.nbytes)

    def prepare(self, op: str, items: list[Window]) -> Any:
        by_shape: dict[tuple[str, int], list[int]] = {}
        for place, item in enumerate(items):
            by_shape.setdefault((item.head, len(item.frames)), []).append(place)
        found = []
        for (head, _), places in by_shape.items():
            columns = zip(*(items[at][:3] for at in places), strict=True)
            found.append((head, places, [torch.from_numpy(np.stack(column)) for column in columns]))
        return found

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        found: dict[int, Staged] = {}
        for head, places, parts in batch:
            frames, text, states = (one.to(self.device).float() for one in parts)
            shares = self.module["stage_model"](frames, text, states, head).softmax(-1)
            confidence, stage = shares.max(-1)
            known = torch.nn.functional.one_hot(stage, shares.shape[-1]).float()
            within = self.module["subtask_model"](frames, text, states, head, known)[..., 0].sigmoid()
            middle, ends = frames.shape[1] // 2, self.ends(head)
            rows = (one[:, middle].cpu().tolist() for one in (stage, confidence, within))
            for at, number, sure, share in zip(places, *rows, strict=True):
                progress = ends[number] + share * (ends[number + 1] - ends[number])
                found[at] = Staged(min(1.0, max(0.0, progress)), number, sure, share)
        return [found[at] for at in range(len(found))]
