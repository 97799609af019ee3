"""The host's cost: sources are measured, peers appear where they are installed, starts are real."""

import sys
import types

import numpy as np
import pytest
import torch

from mmreward.data.rows import read_rows
from mmreward.evals import host, host_clips, host_peers, startup
from mmreward.evals.host import HostCost, PeerCost, complaints
from mmreward.evals.host_peers import PEERS, Peer, installed


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(host, "BATCH", 4)
    monkeypatch.setattr(host, "ROUNDS", 1)


def test_the_bars():
    fine = {"uint8 tensor": HostCost(100.0, 150.0, 50.0), "float tensor": HostCost(300.0, 300.0, 9.0)}
    assert complaints(fine, {"they x 2": PeerCost(500.0, 100.0, 5.0)}) == []
    slow = {"uint8 tensor": HostCost(100.0, 160.0, 51.0), "float tensor": HostCost(300.0, 330.0, 9.0)}
    told = complaints(slow, {"they x 2": PeerCost(490.0, 100.0, 5.0)})
    assert [text.split(":")[0] for text in told] == ["they x 2", *["uint8 tensor"] * 2, "float tensor"]
    assert "4.90 times ours, bar 5" in told[0]


def test_batches_are_waited_for_and_the_environment_stays(small, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    waits = host.batches(64)
    assert list(waits) == ["PNG file", "JPEG file", "WebP file"]
    assert all(wait.alone > 0 and wait.together > 0 for wait in waits.values())
    assert host.os.environ["LOCAL_WORLD_SIZE"] == "3"
    assert host.batch_table(waits).row_count == 3


def test_frames_of_clips_are_measured_beside_the_bare_calls(monkeypatch):
    """Every way gives the same pixels, which `measure` sees to."""
    monkeypatch.setattr(host_clips, "GROUPS", (15, 30))
    monkeypatch.setattr(host_clips, "LOOKED_AT", (1, 8))
    rows = host_clips.measure((64, 96), 2)
    assert list(rows) == [(group, count) for group in (15, 30) for count in host_clips.LOOKED_AT]
    assert all(min(row) > 0 for row in rows.values()) and host_clips.table(rows).row_count == 4
    told = host_clips.complaints(
        {(60, 1): host_clips.ClipCost(1, 9, 9), (60, 8): host_clips.ClipCost(10, 13, 9)}
    )
    assert told == ["8 frames, key frames every 60: 1.30 times the bare calls, bar 1.2"]


def test_sources_and_peers_are_measured_on_the_same_pictures(small):
    """A peer that takes what its source makes, once for each of its encoders."""
    seen = []

    def load(folders):
        assert all((folder / "config.json").exists() for folder in folders)

        def scorer(pictures, texts):
            seen.append((len(folders), [tuple(one.shape) for one in pictures], len(texts)))
            return [0.0] * len(pictures)

        return scorer

    peer = Peer("sys", "float tensor", {1: 1.0, 2: 3.0}, load)
    rows, others = host.measure(64, ["PIL", "float tensor"], {"they": peer})
    assert list(rows) == ["PIL", "float tensor"] and all(row.bare > 0 for row in rows.values())
    assert list(others) == ["they x 1, float tensor", "they x 2, float tensor"]
    assert [row.bar for row in others.values()] == [1.0, 3.0]
    assert seen == [(number, [(3, 64, 64)] * 4, 4) for number in (1, 1, 2, 2)]  # a warm round and one more


def test_peers_are_those_that_are_installed(monkeypatch):
    monkeypatch.setattr(host_peers, "find_spec", lambda name: name == "torchmetrics" or None)
    assert list(installed()) == ["torchmetrics CLIPScore"]
    assert all(peer.source in host.SOURCES for peer in PEERS.values())


def test_torchmetrics_is_given_features_as_tensors(tmp_path, monkeypatch):
    """A stand-in of its interface: what it asks of a model and a processor."""

    class CLIPScore:
        def __init__(self, model_name_or_path):
            self.model, self.processor = model_name_or_path()

        def reset(self):
            self.total = 0.0

        def update(self, pictures, texts):
            inputs = self.processor(images=pictures, text=texts, return_tensors="pt", padding=True)
            image = self.model.get_image_features(inputs["pixel_values"])
            text = self.model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
            self.total += torch.nn.functional.cosine_similarity(image, text).sum().item()

        def compute(self):
            return torch.tensor(self.total)

    module = types.ModuleType("torchmetrics.multimodal.clip_score")
    module.CLIPScore = CLIPScore
    for name in ("torchmetrics", "torchmetrics.multimodal"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    host.save_dual_encoder(tmp_path / "clip", host.TOWER, 0, torch.float32)
    scorer = host_peers.torchmetrics_clip([tmp_path / "clip"])
    pictures = [torch.from_numpy(host.drawn(n, 0, 64).transpose(2, 0, 1).copy()) for n in range(3)]
    found = scorer(pictures, ["a", "b", "c"])
    assert len(found) == 1 and np.isfinite(found[0]) and scorer(pictures, ["a", "b", "c"]) == found


# --- startup --------------------------------------------------------------------------------------


def test_a_start_is_timed_and_says_what_was_imported():
    given = {"python": ("-c", "pass"), "json": ("-c", "import json, decimal")}
    found = startup.measure({name: startup.Command(words) for name, words in given.items()}, runs=1)
    assert all(row.wall > 0 and row.processor > 0 for row in found.values())
    assert len(found["json"].imports) == startup.SHOWN
    with pytest.raises(RuntimeError, match="ended with 3: at last"):
        code = "import sys; sys.stderr.write('at last'); sys.exit(3)"
        startup.measure({"bad": startup.Command(("-c", code))}, runs=1)


def test_whole_packages_are_named_the_longest_first():
    timed = """import time: self [us] | cumulative | imported package
import time:       10 |         10 |     torch.nn
import time:     9000 |    2000000 |   torch
import time:      500 |     300000 |   numpy
import time:       50 |        900 |   mmreward
something else
import time:        5 |      90000 | __editable___finder
import time:        5 |       4000 | json
import time:        5 |         40 | enum
"""
    assert startup.longest(timed) == (("torch", 2.0), ("numpy", 0.3), ("json", 0.004))


def test_the_commands_have_their_data(tmp_path):
    given = startup.commands(tmp_path)
    rows = list(read_rows(tmp_path / "pictures"))
    assert len(rows) == startup.PICTURES and all(row.sample.image and row.sample.prompt for row in rows)
    some = {name: one for name, one in given.items() if name == "score one answer" or one.code}
    assert len(some) == 4 and startup.measure(some, runs=1)["score one answer"].wall > 0
