import json
import shutil

import pytest
from support.tiny_stable_diffusion import pipeline_xl

from mmreward.generators.loading import footprint, load


@pytest.mark.parametrize("shard", ["10GB", "20KB"])
def test_counts_what_load_loads(tmp_path, shard):
    pipeline_xl().save_pretrained(tmp_path, max_shard_size=shard)
    assert (len(list((tmp_path / "unet").glob("*.safetensors"))) > 1) == (shard == "20KB")
    parts = load(str(tmp_path), device="cpu").parts
    counted = {role: sum(p.numel() for p in part.parameters()) for role, part in parts.items()}
    sizes = footprint(str(tmp_path))
    assert {role: size.parameters for role, size in sizes.items()} == counted
    assert all(size.bytes == 4 * size.parameters for size in sizes.values())
    assert footprint(str(tmp_path), "bfloat16")["vae"].bytes == 2 * counted["vae"]


def test_variants_and_safety_checkers_are_not_counted(tmp_path):
    pipe = pipeline_xl()
    pipe.save_pretrained(tmp_path)
    before = footprint(str(tmp_path))
    shutil.copytree(tmp_path / "vae", tmp_path / "safety_checker")
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["safety_checker"] = ["diffusers", "AutoencoderKL"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    pipe.unet.save_pretrained(tmp_path / "unet", variant="fp16")
    assert footprint(str(tmp_path)) == before


def test_the_miniature():
    sizes = footprint("mini-flow")
    counted = {
        role: sum(p.numel() for p in part.parameters()) for role, part in load("mini-flow").parts.items()
    }
    assert {role: size.parameters for role, size in sizes.items()} == counted


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match="hf download nobody/such-a-model"):
        footprint("nobody/such-a-model")
    with pytest.raises(ValueError, match="'float8' is no dtype"):
        footprint("mini-flow", "float8")
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    with pytest.raises(ValueError, match="no safetensors in"):
        footprint(str(tmp_path))
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors").write_bytes(b"no header")
    with pytest.raises(ValueError, match=r"unet/model\.safetensors' is no safetensors file"):
        footprint(str(tmp_path))
