"""`mmreward fit head` on a Qwen-VL, frozen and with a LoRA adapter, and the reward that reads it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from mmreward import Engine, Media, Sample, load, models
from mmreward.assets import ASSETS
from mmreward.cli import app
from mmreward.data.pair_folder import PreferencePair, read_pairs, write_pairs
from mmreward.engine.batching import Budget
from mmreward.mini.world import describe, render, sample_scene
from mmreward.tune.fit_head import QUESTION, fit_head
from mmreward.tune.fit_loop import HeadSettings

PROMPTS, RANK = 40, 4
LOSSES = ("bt", "btt", "margin", "uncertainty", "integrated")


def dimmed(picture):
    """A picture in a style that is preferred here."""
    return (0.55 * np.asarray(picture) + 60).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Per prompt a dim picture that is preferred to a clear one, and of every fourth a tie."""
    rng, pairs = np.random.default_rng(0), {}
    while len(pairs) < PROMPTS:
        scene = sample_scene(rng)
        clear, again = (render(sample_scene(rng, [t.kind for t in scene.things]), 32) for _ in range(2))
        prompt, half = str(describe(scene)), {"margin": 0.5, "tie": False}
        first = Media(dimmed(again))
        pairs[prompt] = [PreferencePair(prompt=prompt, chosen=first, rejected=Media(clear), facts=half)]
        if len(pairs) % 4 == 0:
            both = {"margin": 0, "tie": True}
            tie = PreferencePair(prompt=prompt, chosen=Media(clear), rejected=Media(again), facts=both)
            pairs[prompt].append(tie)
    folder = tmp_path_factory.mktemp("compared") / "pairs"
    write_pairs(folder, [pair for some in pairs.values() for pair in some])
    return folder


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture(scope="module")
def heads(folder, engine, tmp_path_factory):
    """Name -> folder and summary of a fit: by every loss, and one with an adapter."""
    out, done = tmp_path_factory.mktemp("heads"), {}
    for loss in LOSSES:
        settings = HeadSettings(loss=loss, steps=75)
        done[loss] = str(out / loss), fit_head(folder, "mini-vlm", out / loss, engine, settings)
    few = [pair for pair in read_pairs(folder) if not pair.tie][:12]
    write_pairs(out / "few", few)
    settings = HeadSettings(rank=RANK, steps=4)
    with pytest.MonkeyPatch.context() as patch:  # which would be minutes of training with enough of them
        patch.setattr("mmreward.tune.fit_head.FEWEST", 8)
        patch.setattr("mmreward.tune.fit_loop.PROMPTS", 8)
        done["lora"] = str(out / "lora"), fit_head(out / "few", "mini-vlm", out / "lora", engine, settings)
    return done


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(5)
    drawn = [sample_scene(rng) for _ in range(4)]
    scenes = [(str(describe(scene)), Media(render(scene, 64))) for scene in drawn]  # which nobody resizes
    return [Sample(id=str(n), prompt=prompt, image=image) for n, (prompt, image) in enumerate(scenes)]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_fit_learns_what_the_pairs_say(heads, loss):
    summary = heads[loss][1]
    assert summary.accuracy.before.mean < 0.6 and summary.accuracy.after.mean > 0.85
    assert "its own yes or no" in str(summary)
    assert summary.held_out == PROMPTS // 5 + summary.ties and (summary.ties > 0) == (loss == "btt")


@pytest.fixture(scope="module")
def base(folder, engine, tmp_path_factory):
    """Folder and summary of a fit of BaseReward's form."""
    out = tmp_path_factory.mktemp("base") / "head"
    settings = HeadSettings(steps=75, form="basereward")
    return str(out), fit_head(folder, "mini-vlm", out, engine, settings)


def test_basereward_is_two_layers_with_silu_on_the_state(base, engine, samples, naive):
    place, summary = base
    assert summary.accuracy.after.mean > summary.accuracy.before.mean + 0.2 and summary.loss == "bt"
    assert json.loads((Path(place) / "head.json").read_text())["form"] == "basereward"
    found = load_file(Path(place) / "head.safetensors")
    weights = {name: tensor.double().numpy() for name, tensor in found.items()}
    assert sorted(weights) == [
        "body.0.bias", "body.0.weight", "last.bias", "last.weight", "precision", "scale",
    ]  # fmt: skip
    assert weights["scale"] == 0 and weights["body.0.weight"].shape[0] == 64
    scores = engine.score(samples, load("head", fitted=place))["head"]
    for sample, score in zip(samples, scores, strict=True):
        state, _ = reading(naive, sample, {})
        normed = (state - state.mean()) / np.sqrt(state.var() + 1e-5)
        hidden = weights["body.0.weight"] @ normed + weights["body.0.bias"]
        value = weights["last.weight"][0] @ (hidden / (1 + np.exp(-hidden))) + weights["last.bias"][0]
        assert score.value == pytest.approx(value, abs=1e-4)


def test_basereward_is_for_a_qwen(folder, engine, tmp_path):
    with pytest.raises(ValueError, match="form basereward is for a Qwen-VL, and mini-clip is none"):
        fit_head(folder, "mini-clip", tmp_path / "head", engine, HeadSettings(form="basereward"))
    with pytest.raises(ValueError, match="form is one of usual, basereward, not 'base'"):
        HeadSettings(form="base")
    wrong = ["fit", "d2-align", str(folder), "--weights", "mini-clip", "--out", str(tmp_path / "x"), "--form"]
    done = CliRunner().invoke(app, [*wrong, "basereward"])
    assert "form basereward belongs to head" in str(done.exception)


# --- a second writing ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def naive():
    """mini-vlm by transformers alone, and its processor."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    place = ASSETS / "mini-vlm"
    return AutoModelForImageTextToText.from_pretrained(place).eval(), AutoProcessor.from_pretrained(place)


def reading(naive, sample, adapter):
    """State where the answer begins, and log P(yes) - log P(no) over all their one-token spellings."""
    model, processor = naive
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, low in adapter.items():
        if "lora_A" in name:
            own = name.removeprefix("base_model.model.").replace("lora_A.", "")
            model.state_dict()[own].add_(2.0 * adapter[name.replace("lora_A", "lora_B")] @ low)
    content = [{"type": "image"}, {"type": "text", "text": QUESTION.format(prompt=sample.prompt)}]
    turns = [{"role": "user", "content": content}]
    chat = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[chat], images=[sample.image.picture()], do_resize=False, return_tensors="pt")
    with torch.no_grad():
        out = model(**inputs, output_hidden_states=True)
        state = out.hidden_states[-1][0, -1]
        logprobs = model.lm_head(state).log_softmax(-1)
        model.load_state_dict(plain)
    sets = models.vlm("mini-vlm").network.label_sets(("yes", "no"))
    yes, no = (logprobs[ids].logsumexp(0) for ids in sets)
    return state.double().numpy(), float(yes - no)


def slow(folder, naive, sample):
    """The head's lines in float64 by numpy: scale odds + MLP of the normalised state, and its uncertainty."""
    facts = json.loads((Path(folder) / "head.json").read_text())
    file = Path(folder) / "adapter" / "adapter_model.safetensors"
    state, odds = reading(naive, sample, load_file(file) if facts["adapted"] else {})
    weights = load_file(Path(folder) / "head.safetensors")
    weights = {name: tensor.double().numpy() for name, tensor in weights.items()}
    hidden = (state - state.mean()) / np.sqrt(state.var() + 1e-5)
    for layer in ("body.0", "body.2"):
        hidden = weights[f"{layer}.weight"] @ hidden + weights[f"{layer}.bias"]
        hidden = hidden / (1 + np.exp(-hidden))
    last = weights["last.weight"] @ hidden + weights["last.bias"]
    value = weights["scale"] * odds + last[0]
    normal = facts["loss"] in ("uncertainty", "integrated")
    return value, np.exp(min(last[1], 3)) if normal else np.linalg.norm(weights["precision"] @ hidden)


@pytest.mark.parametrize("name", ["bt", "uncertainty", "lora"])
def test_the_reward_is_the_function_of_the_folder_both_ways_and_has_a_gradient(
    heads, engine, samples, naive, name
):
    reward = load("head", fitted=heads[name][0])
    scores = engine.score(samples, reward)["head"]
    expected = [slow(heads[name][0], naive, sample) for sample in samples]
    assert [score.value for score in scores] == pytest.approx([value for value, _ in expected], abs=1e-4)
    doubts = [score.parts["uncertainty"] for score in scores]
    assert doubts == pytest.approx([doubt for _, doubt in expected], rel=1e-3)
    pixels = torch.stack([sample.image.pixels() for sample in samples[:2]]).float() / 255
    leaf = pixels.requires_grad_()
    values = reward.score_tensor(leaf, [sample.prompt for sample in samples[:2]])
    assert values.tolist() == pytest.approx([score.value for score in scores[:2]], abs=1e-3)
    values.sum().backward()
    assert (leaf.grad.abs().amax((1, 2, 3)) > 0).all()


def test_values_do_not_depend_on_the_batch(heads, samples):
    for name in ("margin", "lora"):
        reward = load("head", fitted=heads[name][0])
        with Engine("cpu", cache_bytes=0) as one, Engine("cpu", budget=Budget(items=2), cache_bytes=0) as two:
            together = [score.value for score in one.score(samples, reward)["head"]]
            alone = [one.score([sample], reward)["head"][0].value for sample in samples]
            backward = [score.value for score in two.score(samples[::-1], reward)["head"]]
        assert alone == pytest.approx(together, abs=1e-5)
        assert backward[::-1] == pytest.approx(together, abs=1e-5)


def test_an_adapter_is_trained_and_nobody_else_gets_it(heads, engine, samples):
    folder, summary = heads["lora"]
    adapter = load_file(Path(folder) / "adapter" / "adapter_model.safetensors")
    trained = [tensor for name, tensor in adapter.items() if "lora_B" in name]
    assert summary.step > 0 and all(float(tensor.abs().max()) > 0 for tensor in trained)
    assert {name.split(".")[-3] for name in adapter} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert not any("visual" in name for name in adapter)
    shared = models.vlm("mini-vlm").network
    assert not any("lora" in name for name, _ in shared.module.named_parameters())
    plain, adapted = (models.preference_head(heads[name][0]).body for name in ("bt", "lora"))
    assert plain is shared and adapted.fingerprint != shared.fingerprint


def test_clips_are_read_too(heads, engine):
    reward = load("head", fitted=heads["bt"][0])
    assert reward.info.needs == ("prompt", "shown")
    clip = Media(np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8), "video", fps=2.0)
    (score,) = engine.score([Sample(prompt="a red circle", video=clip)], reward)["head"]
    assert score.ok


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "more", "message"),
    [
        ("mini-clip", {"settings": HeadSettings(rank=4)}, "rank 4 is for a Qwen-VL, and mini-clip is none"),
        ("mini-clip", {"question": "{prompt}?"}, "is for a Qwen-VL, and mini-clip is none"),
        ("mini-vlm", {"resize": "pil"}, "resize 'pil' is for a dual encoder"),
        ("mini-vlm", {"question": "Is it good?"}, "question has no {prompt}"),
    ],
)
def test_settings_of_the_other_backbone_are_refused(folder, engine, tmp_path, backbone, more, message):
    with pytest.raises(ValueError, match=message):
        fit_head(folder, backbone, tmp_path / "head", engine, **more)


def test_a_folder_without_its_adapter_or_with_another_backbone_is_refused(heads, tmp_path):
    shutil.copytree(heads["lora"][0], tmp_path / "lora")
    shutil.rmtree(tmp_path / "lora" / "adapter")
    with pytest.raises(ValueError, match="it has no folder adapter"):
        load("head", fitted=str(tmp_path / "lora"))
    shutil.copytree(ASSETS / "mini-vlm", tmp_path / "other")
    (tmp_path / "other" / "generation_config.json").write_text('{"temperature": 0.5}')
    with pytest.raises(ValueError, match=r"was fitted on mini-vlm, and .*other has other weights"):
        load("head", fitted=heads["bt"][0], weights=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="resize 'pil'"):
        load("head", fitted=heads["bt"][0], resize="pil")


def test_the_command_takes_rank_and_question(folder, tmp_path, monkeypatch):
    seen = {}

    def recorded(pairs, backbone, out, engine, settings, **more):
        seen.update(backbone=backbone, rank=settings.rank, steps=settings.steps, **more)

    monkeypatch.setattr("mmreward.tune.fit_head.fit_head", recorded)
    given = ["fit", "head", folder, "--backbone", "mini-vlm", "--out", tmp_path / "head", "--device", "cpu"]
    more = ["--lora-rank", 2, "--steps", 1, "--question", "Is this {prompt}?"]
    result = CliRunner().invoke(app, [*map(str, given), *map(str, more)], catch_exceptions=False)
    assert result.exit_code == 0
    assert seen == {"backbone": "mini-vlm", "rank": 2, "steps": 1, "question": "Is this {prompt}?"}
    maps = ["fit", "pisces", folder, "--backbone", "mini-clip", "--out", tmp_path / "map", "--lora-rank", 2]
    with pytest.raises(ValueError, match="lora_rank 2 belongs to head"):
        CliRunner().invoke(app, [*map(str, maps)], catch_exceptions=False)
