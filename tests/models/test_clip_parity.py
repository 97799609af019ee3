"""Preprocessing of CLIP checkpoints against transformers' and open_clip's own, at sizes with awkward margins.

Odd margins of 1 and 3 mod 4, sides of one pixel less or more than the input, pictures thinner than a patch.
"""

import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmreward import Media, models
from mmreward.models.base import pooled
from mmreward.models.encoders import DualEncoder
from mmreward.models.pixels import grouped, normalise, resize, to_input

SIZES = [
    (640, 427),
    (1216, 832),
    (427, 640),
    (832, 1216),
    (1024, 1024),
    (33, 32),
    (32, 33),
    (35, 32),
    (32, 35),
    (37, 32),
    (39, 32),
    (31, 31),
    (33, 33),
    (31, 47),
    (97, 31),
    (768, 1344),
    (1344, 768),
    (500, 333),
    (7, 11),
    (211, 5),
]
"""Twenty (width, height)."""
EXACT = 2e-6


def picture(size):
    small = np.random.default_rng(size[0]).integers(0, 256, (-(-size[1] // 5), -(-size[0] // 5), 3))
    return Image.fromarray(small.astype(np.uint8)).resize(size)


def configured(folder, tmp_path, file="preprocessor_config.json", **changes):
    """A copy of a checkpoint with changes to its preprocessing."""
    copy = shutil.copytree(folder, tmp_path / "changed")
    for name in {file, "processor_config.json"} if file.startswith("pre") else {file}:
        path = copy / name
        if path.is_file():
            settings = json.loads(path.read_text())
            (settings.get("image_processor") or settings.get("preprocess_cfg") or settings).update(changes)
            path.write_text(json.dumps(settings))
    return str(copy)


def embeddings(engine, folder, sizes, resize):
    net = models.clip(folder, resize=resize)
    return np.stack([engine.run(net.image(Media(picture(size)))) for size in sizes])


def upstream(folder, sizes, resize):
    """transformers' own answer: its Pillow backend, or its torchvision one."""
    from transformers import AutoImageProcessor, CLIPModel

    backend = {"pil": "pil", "uint8": "torchvision"}[resize]
    processor = AutoImageProcessor.from_pretrained(folder, backend=backend)
    model = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        each = [processor(images=[picture(size)], return_tensors="pt")["pixel_values"] for size in sizes]
        return F.normalize(pooled(model.get_image_features(pixel_values=torch.cat(each))), dim=-1).numpy()


CONFIGS = {
    "as published": {},
    "larger than its crop": {"size": {"shortest_edge": 45}},
    "smaller than its crop": {"size": {"shortest_edge": 25}},
    "squashed": {"size": {"height": 32, "width": 32}, "do_center_crop": False},
    "squashed, then cropped": {"size": {"height": 45, "width": 51}},
    "not resized": {"do_resize": False},
    "not normalised": {"do_normalize": False},
    "in [-1, 1]": {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
    "in bytes": {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [64.0] * 3},
    "bilinear": {"resample": 2},
}


@pytest.mark.parametrize("resize", ["pil", "uint8"])
@pytest.mark.parametrize("case", CONFIGS)
def test_every_setting_of_a_clip_processor_is_followed(engine, clip_folder, tmp_path, case, resize):
    folder = configured(clip_folder, tmp_path, **CONFIGS[case])
    got, want = embeddings(engine, folder, SIZES, resize), upstream(folder, SIZES, resize)
    assert np.abs(got - want).max() <= EXACT


@pytest.mark.parametrize("resize", ["pil", "uint8"])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(32, 32), (32, 24)])
def test_open_clip_crops_by_its_own_rule(engine, open_clip_folder, tmp_path, mode, size, resize):
    import open_clip

    file = "open_clip_config.json"
    changes = {"resize_mode": mode, "fill_color": 90}
    folder = configured(open_clip_folder, tmp_path, file, **changes)
    settings = json.loads((tmp_path / "changed" / file).read_text())
    settings["model_cfg"]["vision_cfg"]["image_size"] = size if size[0] != size[1] else size[0]
    (tmp_path / "changed" / file).write_text(json.dumps(settings))
    if size[0] != size[1]:
        positions = open_clip_positions(tmp_path / "changed", size)
        assert positions
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    *geometry, _, _, norm = preprocess.transforms
    made = []
    for each in SIZES:
        if resize == "pil":
            made.append(preprocess(picture(each)))
            continue
        pixels = torch.from_numpy(np.array(picture(each))).permute(2, 0, 1)
        for step in geometry:
            pixels = on_bytes(step, pixels)
        made.append(norm(pixels / 255))
    with torch.no_grad():
        want = model.eval().encode_image(torch.stack(made), normalize=True).numpy()
    assert np.abs(embeddings(engine, folder, SIZES, resize) - want).max() <= EXACT


def on_bytes(step, pixels):
    """A step of open_clip's preprocessing on an 8-bit tensor, with torchvision's 8-bit kernel."""
    from torchvision.transforms.v2 import functional as tv

    if type(step).__name__ == "ResizeKeepRatio":
        height, width = pixels.shape[1:]
        ratios = height / step.size[0], width / step.size[1]
        ratio = max(ratios) if step.longest else min(ratios)
        size = [round(height / ratio), round(width / ratio)]
    elif type(step).__name__ == "Resize":
        size = step.size if isinstance(step.size, int) else list(step.size)
    else:
        return step(pixels)
    return tv.resize(pixels, size, step.interpolation, antialias=True)


def open_clip_positions(folder, size):
    """Weights of the right number of positions for an input that is not square."""
    import open_clip
    from safetensors.torch import save_file

    settings = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    torch.manual_seed(1)
    model = open_clip.CLIP(**settings)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model.visual.positional_embedding.shape[0] == 1 + size[0] * size[1] // 64


@pytest.mark.parametrize("resize_by", ["tensor", "uint8"])
def test_a_prepared_picture_is_not_resized_again(clip_folder, tmp_path, resize_by):
    """Where the edge is not the crop, a picture of the crop's size may be whole or done."""
    recipe = DualEncoder(configured(clip_folder, tmp_path, size={"shortest_edge": 45})).towers.recipe
    whole = torch.from_numpy(np.array(picture((32, 32)))).permute(2, 0, 1)
    done = resize(whole, recipe, resize_by)
    inputs = to_input(grouped([done, whole.contiguous()], ready=[True, False]), recipe)
    torch.testing.assert_close(inputs[0], normalise(done, recipe), atol=1e-6, rtol=0)
    assert (inputs[0] - inputs[1]).abs().mean() < 0.05
    assert (inputs[1] - normalise(whole, recipe)).abs().mean() > 0.2


REFUSED = {
    "neither resizes nor crops": {"do_resize": False, "do_center_crop": False},
    "set a crop_size": {"do_center_crop": False},
    "resample 1": {"resample": 1},
}


@pytest.mark.parametrize("words", REFUSED)
def test_preprocessing_without_one_input_size_is_refused_in_one_line(clip_folder, tmp_path, words):
    folder = configured(clip_folder, tmp_path, **REFUSED[words])
    with pytest.raises(ValueError, match=words) as caught:
        _ = DualEncoder(folder).towers
    assert "\n" not in str(caught.value)


def test_a_processor_that_does_more_than_its_switches_say_is_refused():
    from transformers import ConvNextImageProcessor

    from mmreward.models.encoders import recipe_of

    processor = ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875)
    with pytest.raises(ValueError, match="ConvNextImageProcessor"):
        recipe_of(processor)
