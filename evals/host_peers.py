"""Other projects' own code on the same pictures, for `host`: contenders that run where they are installed.

Each is a function that loads dual encoders and returns what scores a batch of pictures with them. Nothing of
theirs is written again: where a release does not fit the installed transformers, what stands between is
small and named. Knows nothing of how they are measured.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

Scorer = Callable[[Sequence[torch.Tensor], Sequence[str]], list[float]]
"""Scores of pictures with a text each, under every encoder in turn."""


class Peer(NamedTuple):
    """Somebody else's way of scoring.

    Args:
        module: that must be importable.
        source: the name of the source in `host.SOURCES` that it takes.
        rewards: numbers of encoders it is measured with, each with the least times that it is to take of our
            time.
        load: from the folders of the encoders to its scorer.
    """

    module: str
    source: str
    rewards: Mapping[int, float]
    load: Callable[[Sequence[Path]], Scorer]


def torchmetrics_clip(folders: Sequence[Path]) -> Scorer:
    """`CLIPScore` of torchmetrics, updated with the batch as a list."""
    from torchmetrics.multimodal.clip_score import CLIPScore

    metrics = [CLIPScore(model_name_or_path=_opened(folder)) for folder in folders]

    def scorer(pictures: Sequence[torch.Tensor], texts: Sequence[str]) -> list[float]:
        scores = []
        for metric in metrics:
            metric.reset()
            metric.update(list(pictures), list(texts))
            scores.append(float(metric.compute()))
        return scores

    return scorer


def _opened(folder: Path) -> Callable[[], tuple[Any, Any]]:
    """A model and its processor as `CLIPScore` takes them: since transformers 5 the features of a CLIP are
    inside an output, and torchmetrics 1.9 divides by their norm."""

    def load() -> tuple[Any, Any]:
        from transformers import CLIPModel, CLIPProcessor

        model = CLIPModel.from_pretrained(folder).eval()

        def features(call: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *given: _tensor(call(*given))

        opened = _Model(model, features(model.get_image_features), features(model.get_text_features))
        return opened, CLIPProcessor.from_pretrained(folder)

    return load


class _Model(torch.nn.Module):
    """A model whose features are tensors."""

    def __init__(self, model: Any, image: Callable[..., Any], text: Callable[..., Any]) -> None:
        super().__init__()
        self.inner, self.config = model, model.config
        self.get_image_features, self.get_text_features = image, text


def _tensor(output: Any) -> Any:
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def flow_factory_clip(folders: Sequence[Path]) -> Scorer:
    """Flow-Factory's `RewardProcessor` with its CLIP rewards, as its trainer calls it: float pictures."""
    from accelerate import Accelerator
    from flow_factory.hparams import RewardArguments
    from flow_factory.rewards.clip import CLIPRewardModel
    from flow_factory.rewards.reward_processor import RewardProcessor
    from flow_factory.samples import BaseSample

    accelerator = Accelerator(cpu=True)
    models = {}
    for number, folder in enumerate(folders):
        arguments = RewardArguments(name=f"clip {number}", dtype="float32", device="cpu")
        arguments.extra_kwargs = {"model_name_or_path": str(folder)}
        models[arguments.name] = CLIPRewardModel(arguments, accelerator)
    processor = RewardProcessor(accelerator, models, verbose=False)

    def scorer(pictures: Sequence[torch.Tensor], texts: Sequence[str]) -> list[float]:
        samples = [BaseSample(image=one, prompt=text) for one, text in zip(pictures, texts, strict=True)]
        found = processor.compute_rewards(samples, store_to_samples=False)
        return [float(value) for column in found.values() for value in column]

    return scorer


PEERS: Mapping[str, Peer] = {
    "torchmetrics CLIPScore": Peer("torchmetrics", "uint8 tensor", {1: 1.0}, torchmetrics_clip),
    "Flow-Factory": Peer("flow_factory", "float tensor", {2: 5.0, 5: 10.0}, flow_factory_clip),
}


def installed(peers: Mapping[str, Peer] = PEERS) -> dict[str, Peer]:
    """Peers whose package is here."""
    return {name: peer for name, peer in peers.items() if find_spec(peer.module) is not None}
