import json
from pathlib import Path

import diffusers
import huggingface_hub.constants
import pytest
import torch
from support.tiny_stable_diffusion import pipeline, pipeline_xl

import mmreward.generators
from mmreward.generators.loading import FAMILIES, load
from mmreward.generators.mini_flow import MiniFlow
from mmreward.generators.stable_diffusion import StableDiffusion, StableDiffusionXL
from mmreward.mini import flow
from mmreward.sampling import sample

HERE = Path(mmreward.generators.__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    saved = tmp_path_factory.mktemp("models")
    pipeline().save_pretrained(saved / "sd")
    pipeline_xl().save_pretrained(saved / "xl")
    return saved


@pytest.mark.parametrize(
    ("name", "build", "kind"), [("sd", pipeline, StableDiffusion), ("xl", pipeline_xl, StableDiffusionXL)]
)
def test_a_loaded_model_samples_as_the_one_saved(folder, name, build, kind):
    loaded = load(str(folder / name), device="cpu", steps=2)
    assert type(loaded) is kind
    ours = sample(loaded, ["a cat"], [1], guidance=3.0)
    torch.testing.assert_close(ours, sample(kind(build(), steps=2), ["a cat"], [1], guidance=3.0))


def test_options_reach_the_family(folder):
    loaded = load(str(folder / "sd"), device="cpu", dtype="bfloat16", height=24, guidance=2.0)
    assert loaded.guidance == 2.0
    assert loaded.dtype == torch.bfloat16
    latents = loaded.noise([1])
    velocity = loaded.velocity(latents, 0.5, loaded.encode(["a cat"]), 2.0)
    pixels = loaded.decode(latents - 0.5 * velocity)
    assert pixels.shape == (1, 3, 24, 16)
    assert {latents.dtype, velocity.dtype, pixels.dtype} == {torch.float32}


def test_half_precision_leaves_the_vae_whole(folder):
    loaded = load(str(folder / "sd"), device="cpu", dtype="float16")
    assert loaded.dtype == torch.float16
    assert next(loaded.parts["vae"].parameters()).dtype == torch.float32


def test_the_miniature_by_name_and_by_folder():
    for name in ("mini-flow", str(flow.FOLDER)):
        assert isinstance(load(name, device="cpu"), MiniFlow)


@pytest.mark.parametrize(
    "pipeline_class", [p for p, family in FAMILIES.items() if (HERE / f"{family.split(':')[0]}.py").exists()]
)
def test_every_family_is_where_the_table_says(pipeline_class):
    module, _, name = FAMILIES[pipeline_class].partition(":")
    imported = __import__(f"mmreward.generators.{module}", fromlist=[name])
    assert isinstance(getattr(imported, name), type)
    assert isinstance(getattr(diffusers, pipeline_class), type)


def test_unknown_options_are_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(
        ValueError, match="'guidence' is no option of StableDiffusion: did you mean 'guidance'"
    ):
        load(str(tmp_path), guidence=3)
    with pytest.raises(ValueError, match="'frames' is no option of StableDiffusion: there are height"):
        load(str(tmp_path), frames=16)
    with pytest.raises(ValueError, match="'frames' is no option of MiniFlow: there are height, width"):
        load("mini-flow", frames=9)
    with pytest.raises(ValueError, match="'bfloat' is no dtype: did you mean 'bfloat16'"):
        load("mini-flow", dtype="bfloat")


def test_unknown_pipelines_are_refused(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "AudioLDM2Pipeline"}))
    with pytest.raises(
        ValueError, match=r"no family for 'AudioLDM2Pipeline'; there are .*StableDiffusionPipeline"
    ):
        load(str(tmp_path))


def test_a_model_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name in (str(tmp_path / "missing"), str(tmp_path), "nobody/such-a-model", "not an id"):
        with pytest.raises(ValueError, match=f"no model '{name}': give 'mini-flow', a folder"):
            load(name)


def test_pickled_weights_are_refused(tmp_path):
    pipe = pipeline()
    pipe.save_pretrained(tmp_path)
    weights = next((tmp_path / "unet").glob("*.safetensors"))
    torch.save(pipe.unet.state_dict(), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ValueError, match=r"cannot load .* from safetensors"):
        load(str(tmp_path))
