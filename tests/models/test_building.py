"""Networks that are built on two threads at once, and what the process sees meanwhile."""

import threading

import pytest
import torch
from transformers import AutoModelForImageTextToText, PreTrainedModel

from mmreward.models.building import building
from mmreward.models.encoders import DualEncoder
from mmreward.models.vlms.qwen import QwenVL


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_network_is_what_transformers_loads(vlm_folder, dtype):
    ours = QwenVL(vlm_folder, dtype=dtype).module
    theirs = AutoModelForImageTextToText.from_pretrained(vlm_folder, dtype=getattr(torch, dtype))
    mine, wanted = (dict([*one.named_parameters(), *one.named_buffers()]) for one in (ours, theirs))
    assert mine.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert mine[name].dtype == tensor.dtype and torch.equal(mine[name], tensor), name


def test_other_threads_keep_their_default_dtype(vlm_folder, monkeypatch):
    seen = []

    def look():
        seen.append((torch.get_default_dtype(), (torch.ones(1, dtype=torch.uint8) / 255).dtype))

    made = PreTrainedModel.__init__

    def watched(self, *args, **kwargs):
        other = threading.Thread(target=look)
        other.start(), other.join()
        made(self, *args, **kwargs)

    monkeypatch.setattr(PreTrainedModel, "__init__", watched)
    assert next(QwenVL(vlm_folder, dtype="bfloat16").module.parameters()).dtype is torch.bfloat16
    assert seen and set(seen) == {(torch.float32, torch.float32)}


def test_networks_are_built_one_at_a_time(clip_folder, vlm_folder, monkeypatch):
    """Of two at once, transformers may leave the tying of weights switched off for the whole process."""
    tie, inside = PreTrainedModel.tie_weights, []
    begun, met = threading.Event(), threading.Event()
    made = PreTrainedModel.__init__

    def watched(self, *args, **kwargs):
        name = threading.current_thread().name
        inside.append(name)
        if name == "first":
            begun.set(), met.wait(0.2)  # gives the other the time to come in
        else:
            met.set()
        made(self, *args, **kwargs)

    monkeypatch.setattr(PreTrainedModel, "__init__", watched)
    network, encoder = QwenVL(vlm_folder, dtype="bfloat16"), DualEncoder(clip_folder)
    first = threading.Thread(target=lambda: network.module, name="first")
    other = threading.Thread(target=lambda: encoder.towers, name="other")
    first.start()
    assert begun.wait(60)
    other.start()
    first.join(), other.join()
    order = [name for index, name in enumerate(inside) if index == 0 or inside[index - 1] != name]
    assert order == ["first", "other"]
    assert PreTrainedModel.tie_weights is tie


def test_a_builder_may_build_another_within():
    with building(), building():
        assert torch.tensor(1.5).dtype is torch.float32
