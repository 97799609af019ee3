"""ImageReward from a tiny random checkpoint in the publisher's format, against a second writing of it."""

import re
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from mmreward import Engine, Media, Sample, load
from mmreward.errors import Unavailable
from mmreward.evals.published import checkpoints
from mmreward.evals.published.cases import PICTURES
from mmreward.evals.published.second import SECOND

PROMPTS = (
    "a red circle",
    "Two blue squares, & a FOX!",
    "[ENC] the photo [SEP] of",
    "x",
    "a red circle " * 30,
)
SAMPLES = [
    Sample(id=str(row), prompt=prompt, image=Media(PICTURES[row])) for row, prompt in enumerate(PROMPTS)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("blip")


@pytest.fixture(scope="module")
def args(folder):
    return checkpoints.save_blip(folder / "files", "ImageReward.pt")


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def values(engine, reward, samples=SAMPLES):
    engine.cache.clear()
    scores = engine.score(samples, reward)["imagereward"]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return np.array([score.value for score in scores])


def failure(engine, **args):
    with pytest.raises(Unavailable) as caught:
        engine.score(SAMPLES[:1], load("imagereward", **args))
    return str(caught.value)


def test_it_is_the_publishers_number(engine, args):
    with torch.no_grad():
        second = SECOND["imagereward"](args)
        want = [second.value(PICTURES[row], prompt) for row, prompt in enumerate(PROMPTS)]
    got = values(engine, load("imagereward", **args))
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=0)
    assert np.ptp(got) > 0.1


def test_it_is_the_same_in_any_batch(engine, args):
    reward = load("imagereward", **args)
    together = values(engine, reward)
    np.testing.assert_allclose(values(engine, reward, SAMPLES[::-1])[::-1], together, atol=1e-5, rtol=0)
    alone = [values(engine, reward, [sample])[0] for sample in SAMPLES]
    np.testing.assert_allclose(alone, together, atol=1e-5, rtol=0)


def test_by_tensor_it_has_the_gradient(engine, args):
    reward, second = load("imagereward", resize="tensor", **args), SECOND["imagereward"](args)
    for row in (0, 3):
        pixels = torch.from_numpy(np.array(PICTURES[row])).permute(2, 0, 1)[None].float() / 255
        ours, theirs = (pixels.clone().requires_grad_() for _ in range(2))
        value = reward.score_tensor(ours, [PROMPTS[row]])
        assert value.item() == pytest.approx(values(engine, reward, [SAMPLES[row]])[0], abs=1e-5)
        value.sum().backward()
        second.tensor(theirs, PROMPTS[row]).sum().backward()
        scale = float(theirs.grad.abs().max())
        torch.testing.assert_close(ours.grad / scale, theirs.grad / scale, atol=1e-4, rtol=0)
        assert scale > 0


def test_what_stands_behind_35_tokens_is_not_read_and_that_is_said(engine, args):
    prompts = ("a red circle " * 11 + "fox", "a red circle " * 11 + "night", "a red circle " * 10 + "fox")
    samples = [Sample(id=str(n), prompt=p, image=Media(PICTURES[1])) for n, p in enumerate(prompts)]
    scores = engine.score(samples, load("imagereward", **args))["imagereward"]
    assert [score.parts["truncated"] for score in scores] == [1, 1, 0]  # 33 words and both ends are 35
    assert scores[0].value == pytest.approx(scores[1].value, abs=1e-5)
    assert abs(scores[0].value - scores[2].value) > 1e-4


def test_equal_arguments_share_one_network_and_a_resize_is_another_fingerprint(args):
    one, other, tensor = (load("imagereward", **args, **more) for more in ({}, {}, {"resize": "tensor"}))
    assert one.networks[0] is other.networks[0]
    assert one.fingerprint == other.fingerprint != tensor.fingerprint


def test_safetensors_of_the_same_tensors_do_as_well(engine, args, tmp_path):
    from safetensors.torch import save_file

    state = torch.load(args["weights"], weights_only=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "own.safetensors")
    other = load("imagereward", **args | {"weights": str(tmp_path / "own.safetensors")})
    np.testing.assert_allclose(values(engine, other), values(engine, load("imagereward", **args)), atol=1e-5)


def test_half_precision_keeps_the_head_in_float32(args):
    reward = load("imagereward", dtype="bfloat16", **args)
    module = reward.networks[0].module
    assert module.mlp["layers"]["0"].weight.dtype == torch.float32
    assert module.blip["visual_encoder"].norm.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda s: s.pop("blip.visual_encoder.norm.weight"),
            r"1 tensors missing \(blip.visual_encoder.norm.w",
        ),
        (lambda s: s.update(other=torch.ones(2)), r"1 tensors unexpected \(other\)"),
        (lambda s: s.pop("blip.visual_encoder.pos_embed"), "no BLIP with a head: .*pos_embed"),
        (lambda s: s.update({"mlp.layers.9.weight": torch.ones(1, 1)}), r"layers are \[0, 2, 4, 6, 7, 9\]"),
    ],
)
def test_another_file_is_refused_by_name(engine, args, tmp_path, change, said):
    state = torch.load(args["weights"], weights_only=True)
    change(state)
    torch.save(state, tmp_path / "other.pt")
    assert re.search(said, failure(engine, **args | {"weights": str(tmp_path / "other.pt")}))


def test_a_head_with_activations_is_another_scorers(engine, args, tmp_path):
    cycle = checkpoints.save_blip(tmp_path / "cycle", "other.pt", indices=(0, 2, 4, 6, 8))
    assert "another scorer's file" in failure(engine, **cycle)
    with pytest.raises(Unavailable, match="another scorer's file"):
        engine.score(SAMPLES[:1], load("cyclereward", **args))


def test_cyclereward_is_its_publishers_number_reads_further_and_has_the_gradient(engine, tmp_path):
    args = checkpoints.save_blip(tmp_path / "cycle", "CycleReward-Combo.pth", indices=(0, 2, 4, 6, 8))
    second, reward = SECOND["cyclereward"](args), load("cyclereward", **args)
    with torch.no_grad():
        want = [second.value(PICTURES[row], prompt) for row, prompt in enumerate(PROMPTS)]
    scores = engine.score(SAMPLES, reward)["cyclereward"]
    np.testing.assert_allclose([score.value for score in scores], want, atol=1e-5, rtol=0)
    assert np.ptp(want) > 1e-3
    assert [score.parts["truncated"] for score in scores] == [0, 0, 0, 0, 0]  # 92 tokens, and 128 are read
    alone = [engine.score([sample], reward)["cyclereward"][0].value for sample in SAMPLES[::-1]][::-1]
    np.testing.assert_allclose(alone, want, atol=1e-5, rtol=0)
    pixels = torch.from_numpy(np.array(PICTURES[3])).permute(2, 0, 1)[None].float() / 255
    ours, theirs = (pixels.clone().requires_grad_() for _ in range(2))
    reward.score_tensor(ours, [PROMPTS[3]]).sum().backward()
    second.tensor(theirs, PROMPTS[3]).sum().backward()
    scale = float(theirs.grad.abs().max())
    torch.testing.assert_close(ours.grad / scale, theirs.grad / scale, atol=1e-4, rtol=0)


def test_cyclereward_names_the_file_that_torch_hubs_cache_lacks(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name in ("Combo", "T2I", "I2T"):
        with pytest.raises(ValueError, match=rf"`curl .*v1\.0\.0/CycleReward-{name}\.pth'`") as caught:
            load("cyclereward", weights=name)
        assert "\n" not in str(caught.value)


def test_another_vocabulary_is_refused(engine, args, tmp_path):
    words = Path(args["vocabulary"]).read_text() + "more\n"
    (tmp_path / "vocab.txt").write_text(words)
    said = failure(engine, **args | {"vocabulary": str(tmp_path / "vocab.txt")})
    assert re.search(r"\d+ words with \[DEC\] and \[ENC\], and .* has \d+", said)


def test_a_pickle_that_runs_code_is_refused(engine, args, tmp_path, monkeypatch):
    class Hostile:
        def __reduce__(self):
            return Path.mkdir, (Path("ran"),)

    monkeypatch.chdir(tmp_path)
    torch.save({"blip": Hostile()}, "bad.pt")
    assert "refused" in failure(engine, **args | {"weights": "bad.pt"})
    assert not Path("ran").exists()


def test_offline_it_fails_when_it_is_loaded_and_names_what_to_fetch(monkeypatch, tmp_path, args):
    import huggingface_hub.constants as hub

    def refuse(*_):
        raise AssertionError("asked for a network")

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ValueError, match=r"`hf download zai-org/ImageReward ImageReward.pt`") as caught:
        load("imagereward")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"`hf download google-bert/bert-base-uncased vocab.txt`"):
        load("imagereward", weights=args["weights"])


def test_an_unknown_resize_is_refused(args):
    with pytest.raises(ValueError, match="resize is one of tensor, pil, uint8, draft, not 'best'"):
        load("imagereward", **args, resize="best")
