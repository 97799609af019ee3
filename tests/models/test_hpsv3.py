"""HPSv3 from a tiny random checkpoint in its published format, against a second writing of the publisher's
lines; and what every scalar model on a Qwen-VL body shares.
"""

import asyncio
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.prompt_files import prompt_file

from mmreward import Media, Sample, load, models
from mmreward.cli.fetching import wants_of
from mmreward.errors import Unavailable, Unscorable
from mmreward.evals.published import readers, scalars
from mmreward.evals.published.one_by_one import NaiveQwen
from mmreward.models import fetching, pins
from mmreward.models.vlms.scalar_files import head_of, merged
from mmreward.registry import find

PIXELS = 200_704
TOKEN = "<|Reward|>"
SAMPLES = readers.prompted()
PROMPTS = [sample.prompt for sample in SAMPLES]
PICTURES = [readers.pictures_of(sample)[0] for sample in SAMPLES]


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    return scalars.save_hpsv3(tmp_path_factory.mktemp("hpsv3"))


@pytest.fixture(scope="module")
def naive(args):
    return readers.qwen(args)


def published(naive, picture, prompt, *, flat=True):
    return readers.hpsv3_logits(naive, readers.hpsv3_asked(naive, picture, prompt), flat=flat).tolist()


def scored(engine, reward, samples=SAMPLES):
    scores = engine.score(samples, reward)[reward.info.name]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return scores


def test_values_are_those_of_the_publishers_lines(engine, args, naive):
    scores = scored(engine, load("hpsv3", **args))
    for score, picture, prompt in zip(scores, PICTURES, PROMPTS, strict=True):
        mu, log_sigma = published(naive, picture, prompt)
        assert score.value == pytest.approx(mu, abs=1e-4)
        assert score.parts["uncertainty"] == pytest.approx(math.exp(log_sigma), rel=1e-4)
    assert len({round(score.value, 4) for score in scores}) == len(scores)


def test_rows_and_columns_for_pictures_are_another_number(naive):
    """Trap: the publisher's forward counts tokens of pictures on like words."""
    apart = [
        abs(published(naive, picture, "red")[0] - published(naive, picture, "red", flat=False)[0])
        for picture in PICTURES[:2]
    ]
    assert min(apart) > 1e-3


def test_any_batch_gives_the_same_numbers(engine, args):
    reward, found = load("hpsv3", **args), []
    for order in (SAMPLES, SAMPLES[::-1], *([sample] for sample in SAMPLES)):
        engine.cache.clear()
        found += [
            (int(sample.id), score.value)
            for sample, score in zip(order, scored(engine, reward, order), strict=True)
        ]
    for row in range(len(SAMPLES)):
        values = [value for number, value in found if number == row]
        assert len(values) == 3 and max(values) - min(values) < 1e-5


def test_prompts_of_one_picture_look_at_it_once(engine, args):
    reward = load("hpsv3", **args)
    *_, network = reward.networks  # the words come first
    samples = [Sample(prompt=prompt, image=Media(PICTURES[1].copy())) for prompt in PROMPTS]
    engine.cache.clear()
    network.vision.forget()
    seen = []
    visual = network.module.model.visual
    hook = visual.register_forward_pre_hook(lambda module, given, named: seen.append(1), with_kwargs=True)
    together = scored(engine, reward, samples)
    hook.remove()
    assert len(seen) == 1
    for sample, score in zip(samples, together, strict=True):
        engine.cache.clear()
        assert scored(engine, reward, [sample])[0].value == pytest.approx(score.value, abs=1e-5)


def test_the_gradient_is_the_slope(engine, args):
    reward = load("hpsv3", **args)
    picture = torch.from_numpy(np.array(PICTURES[4])).permute(2, 0, 1)[None].float() / 255
    picture = picture.clamp(0.1, 0.9)
    pixels = picture.clone().requires_grad_()
    (value,) = reward.score_tensor(pixels, ["red"])
    (slope,) = torch.autograd.grad(value, pixels)
    step = 1e-3 * slope / slope.norm()
    with torch.no_grad():
        up, down = (reward.score_tensor(picture + sign * step, ["red"])[0] for sign in (1, -1))
    assert float(up - down) / 2e-3 == pytest.approx(float(slope.norm()), rel=2e-2)
    (seen,) = scored(engine, reward, [Sample(prompt="red", image=Media(PICTURES[4]))])
    whole = torch.from_numpy(np.array(PICTURES[4])).permute(2, 0, 1)[None].float() / 255
    assert float(reward.score_tensor(whole, ["red"])[0]) == pytest.approx(seen.value, abs=1e-4)


def test_a_prompt_with_a_token_of_the_models_is_a_typed_failure(engine, args):
    reward = load("hpsv3", **args)
    rows = [Sample(prompt=f"a {token}", image=Media(PICTURES[0])) for token in (TOKEN, "<|image_pad|>")]
    marked, placed = engine.score(rows, reward)["hpsv3"]
    assert marked.status == placed.status == "error" and math.isnan(marked.value)
    assert f"the prompt contains {TOKEN}" in marked.note and "stands for a picture" in placed.note
    with pytest.raises(Unscorable, match="the prompt contains"):
        reward.score_tensor(torch.zeros(1, 3, 64, 64), [f"a {TOKEN}"])


def test_names_of_either_transformers_and_a_pickle_of_tensors_load(engine, args, tmp_path):
    state = load_file(args["weights"])
    new = {}
    for name, tensor in state.items():
        own = f"model.{name}" if name.startswith("visual.") else name
        new[own.replace("model.", "model.language_model.", 1) if name.startswith("model.") else own] = tensor
    assert any(name.startswith("model.visual.") for name in new)
    save_file(new, tmp_path / "new.safetensors")
    torch.save({"model": state}, tmp_path / "old.pth")
    want = [score.value for score in scored(engine, load("hpsv3", **args), SAMPLES[:2])]
    for file in ("new.safetensors", "old.pth"):
        other = load("hpsv3", **{**args, "weights": str(tmp_path / file)})
        assert [score.value for score in scored(engine, other, SAMPLES[:2])] == pytest.approx(want, abs=1e-6)


def test_weights_of_another_body_are_refused(engine, args, tmp_path):
    """A peer loads VideoReward into another architecture, and scores with what was never trained."""
    other = scalars.save_base(tmp_path / "other", "qwen2_5_vl")
    with pytest.raises(Unavailable, match=r"was not trained on this body, a qwen2_5_vl: \d+ tensors missing"):
        scored(engine, load("hpsv3", **{**args, "base": other}))
    state = load_file(args["weights"])
    short = {**state, "model.embed_tokens.weight": state["model.embed_tokens.weight"][1:].clone()}
    headless = {name: tensor for name, tensor in state.items() if not name.startswith("rm_head")}
    for changed, said in ((short, "trained on another body"), (headless, "has no head")):
        file = tmp_path / f"{len(changed)}.safetensors"
        save_file(changed, file)
        with pytest.raises(Unavailable, match=said):
            scored(engine, load("hpsv3", **{**args, "weights": str(file)}))


def test_the_published_prompt_is_pinned(engine, args, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rest = {key: value for key, value in args.items() if key != "words"}
    with pytest.raises(ValueError, match=r"is not on this machine .*: fetch it with `curl .*hpsv3\.py"):
        load("hpsv3", **rest)
    with scalars.stand_ins() as real:
        file = prompt_file(tmp_path, "hpsv3", "hpsv3 end")
        ours = scored(engine, load("hpsv3", **rest, words=file), SAMPLES[:2])
        place = pins.PINS["hpsv3"].file
        place.parent.mkdir(parents=True)
        place.write_text((tmp_path / "hpsv3.py").read_text())
        fetched = scored(engine, load("hpsv3", **rest), SAMPLES[:2])
    want = scored(engine, load("hpsv3", **args), SAMPLES[:2])
    for same in (ours, fetched):
        assert [s.value for s in same] == pytest.approx([s.value for s in want], abs=1e-5)
    assert len(real["hpsv3"].commit) == 40 and len(real["hpsv3"].sha256) == 64
    with pytest.raises(ValueError, match="has no text with the SHA-256"):
        load("hpsv3", **rest, words=file)  # of our words
    (tmp_path / "other.py").write_text("x = 1")
    with pytest.raises(ValueError, match="has no text with the SHA-256"):
        load("hpsv3", **rest, words=str(tmp_path / "other.py"))
    (tmp_path / "own.txt").write_text(f"rate it {TOKEN}")
    with pytest.raises(ValueError, match=r"the prompt has \{text_prompt\} 0 times"):
        load("hpsv3", **rest, words=str(tmp_path / "own.txt"))
    with pytest.raises(ValueError, match="neither published nor a text that can be read"):
        load("hpsv3", **rest, words=str(tmp_path / "absent.txt"))


def test_what_is_fetched():
    wants = {want.name: want for want in wants_of("hpsv3", {})}
    assert wants["MizzenAI/HPSv3/HPSv3.safetensors"].kind == "hub file"
    body = wants["Qwen/Qwen2-VL-7B-Instruct"]
    assert "tokenizer.json" in body.parts and not any(part.endswith(".safetensors") for part in body.parts)
    (text,) = (want for want in wants.values() if want.kind == "url")
    assert text.name.startswith("https://raw.githubusercontent.com/") and text.to.endswith("hpsv3.py")
    assert len(wants) == 3
    assert fetching.command(body).startswith("hf download Qwen/Qwen2-VL-7B-Instruct --include '*.json' ")
    for name in ("HPSv3_7B", "hps-v3", "HPS3"):
        with pytest.raises(ValueError, match="did you mean 'hpsv3'"):
            find(name)


def test_missing_weights_are_said_before_any_row(args, monkeypatch, tmp_path):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    own = {"words": args["words"]}
    with pytest.raises(ValueError, match=r"`hf download MizzenAI/HPSv3 HPSv3\.safetensors`"):
        load("hpsv3", **own)
    with pytest.raises(ValueError, match=r"`hf download Qwen/Qwen2-VL-7B-Instruct --include '\*\.json' "):
        load("hpsv3", **own, weights=args["weights"])
    with pytest.raises(ValueError, match="KlingTeam/VideoReward model_config"):
        load("videoreward", words=scalars.worded(tmp_path, prompt=scalars.CLIP))
    with pytest.raises(ValueError, match="`hf download Skywork/Skywork-VL-Reward-7B`"):
        load("skywork_vl")


@pytest.mark.parametrize(
    ("family", "flat"), [("qwen2_5_vl", True), ("qwen2_5_vl", False), ("qwen3_vl", False)]
)
def test_the_same_heads_sit_on_the_other_bodies(engine, family, flat, tmp_path):
    base = scalars.save_base(tmp_path, family)
    state = {**scalars.full_state(base, (TOKEN,), 2), **scalars.ranknet("rm_head", 4)}
    save_file(state, tmp_path / "reward.safetensors")
    naive = NaiveQwen(base, state, (TOKEN,))
    net = models.scalar_vlm(str(tmp_path / "reward.safetensors"), base, tokens=(TOKEN,), flat=flat)
    texts = [f"red {TOKEN} circle", f"how many shapes {TOKEN}"]

    async def both():
        return await asyncio.gather(*(net.score(Media(PICTURES[1]), text) for text in texts))

    for text, ((*got,),) in zip(texts, engine.run(both()), strict=True):
        hidden = naive.states(naive.inputs([PICTURES[1]], text), flat=flat)
        assert got == pytest.approx(naive.ranknet(hidden, "rm_head")[0].tolist(), abs=1e-4)


def test_adapters_are_added_to_what_they_adapt():
    draw = torch.Generator().manual_seed(0)
    weight, a, b = (torch.randn(*shape, generator=draw) for shape in ((6, 4), (2, 4), (6, 2)))
    plain = merged({"x.weight": weight, "x.lora_A.weight": a, "x.lora_B.weight": b, "y.bias": b}, 0.5, "w")
    wrapped = merged(
        {"x.base_layer.weight": weight, "x.lora_A.default.weight": a, "x.lora_B.default.weight": b}, 0.5, "w"
    )
    for state in (plain, wrapped):
        torch.testing.assert_close(state["x.weight"], weight + 0.5 * b @ a)
    assert set(plain) == {"x.weight", "y.bias"}
    for half in ({"x.weight": weight, "x.lora_A.weight": a}, {"x.lora_A.weight": a, "x.lora_B.weight": b}):
        with pytest.raises(ValueError, match="without its other half or its weight"):
            merged(half, 0.5, "w")


def test_a_head_is_linear_or_has_relu_between_its_layers():
    state = {name.removeprefix("h."): tensor for name, tensor in scalars.ranknet("h", 3).items()}
    head, x = head_of(state, "w"), torch.randn(5, scalars.WIDTH)
    want = (x @ state["0.weight"].T + state["0.bias"]).relu()
    want = (want @ state["3.weight"].T + state["3.bias"]).relu()
    torch.testing.assert_close(head(x), want @ state["5.weight"].T + state["5.bias"])
    linear = head_of({"weight": state["0.weight"]}, "w")
    torch.testing.assert_close(linear(x), x @ state["0.weight"].T)
    with pytest.raises(ValueError, match="does not chain at layer 5"):
        head_of({**state, "5.weight": torch.zeros(2, 15)}, "w")
