"""VIP, R3M and LIV from their publishers' files, against torchvision and open_clip themselves."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from support.tiny_resnets import resnet, save_liv, save_resnet
from torchvision import transforms

from mmreward import Media, Sample, load
from mmreward.errors import Unavailable


def picture(seed: int, height: int = 60, width: int = 90) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return np.repeat(np.repeat(small, 10, 0), 10, 1)


FILM = np.stack([picture(seed) for seed in range(3)])
SAMPLE = Sample(prompt="a red cup", video=Media(FILM, "video", fps=1.0), inputs=(Media(picture(2)),))


def published(family: str) -> list[float]:
    """The publishers' preprocessing of a picture, embedding and similarity."""
    ready = transforms.Compose([
        transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    batch = torch.stack([ready(Image.fromarray(one)) for one in (*FILM, picture(2))])
    with torch.no_grad():
        *states, goal = resnet(family)(batch)
    return [-float(torch.linalg.norm(state - goal)) for state in states]


@pytest.mark.parametrize("family", ["vip", "r3m"])
def test_the_value_is_minus_the_distance_to_the_goal(engine, tmp_path, family):
    reward = load(family, weights=save_resnet(tmp_path / "model.pt", family), frames="all")
    (score,) = engine.score([SAMPLE], reward)[family]
    wanted = published(family)
    assert [score.parts[f"frame_{n}"] for n in range(3)] == pytest.approx(wanted, abs=1e-4)
    assert score.value == pytest.approx(0, abs=1e-5) and wanted[0] < -0.01, "the last frame is the goal"
    assert score.parts["gain"] == pytest.approx(-wanted[0], abs=1e-4)
    turned = Sample(prompt="", video=Media(FILM[::-1], "video", fps=1.0), inputs=SAMPLE.inputs)
    (back,) = engine.score([turned], reward)[family]
    assert back.value == pytest.approx(wanted[0], abs=1e-4)
    assert back.parts["gain"] == pytest.approx(-score.parts["gain"], abs=1e-4)


def test_an_episode_that_stands_still_gains_nothing(engine, tmp_path):
    reward = load("vip", weights=save_resnet(tmp_path / "model.pt", "vip"))
    still = Sample(prompt="", video=Media(np.stack([FILM[0]] * 3), "video", fps=1.0), inputs=SAMPLE.inputs)
    (score,) = engine.score([still], reward)["vip"]
    assert score.parts["gain"] == pytest.approx(0, abs=1e-5) and score.value < 0
    (alone,) = engine.score([Sample(image=Media(FILM[0]), inputs=SAMPLE.inputs)], reward)["vip"]
    assert alone.value == pytest.approx(score.value, abs=1e-5) and "voc" not in alone.parts
    (none,) = engine.score([Sample(video=SAMPLE.video)], reward)["vip"]
    assert none.status == "missing" and "inputs" in none.note


def test_a_file_of_another_family_is_refused_by_name(engine, tmp_path):
    reward = load("vip", weights=save_resnet(tmp_path / "model.pt", "r3m"))
    with pytest.raises(Unavailable, match="tensors by name"):
        engine.score([SAMPLE], reward)


def test_liv_is_the_cosine_of_the_published_clip(engine, tmp_path):
    args = save_liv(tmp_path)
    model, _, ready = open_clip.create_model_and_transforms(args["architecture"], precision="fp32")
    state = torch.load(args["weights"])["liv"]
    model.load_state_dict({name.removeprefix("module.model."): tensor for name, tensor in state.items()})
    tokens = open_clip.get_tokenizer(args["architecture"])(["a red cup"])
    with torch.no_grad():
        pictures = model.eval().encode_image(torch.stack([ready(Image.fromarray(one)) for one in FILM]))
        text = model.encode_text(tokens)
    cosines = torch.nn.functional.cosine_similarity(pictures, text).tolist()
    (score,) = engine.score([SAMPLE], load("liv", **args, frames="all"))["liv"]
    assert [score.parts[f"frame_{n}"] for n in range(3)] == pytest.approx(cosines, abs=1e-5)
    (shown,) = engine.score([SAMPLE], load("liv", **args, goal="picture"))["liv"]
    assert shown.value == pytest.approx(1, abs=1e-5)
    (none,) = engine.score([Sample(video=SAMPLE.video)], load("liv", **args))["liv"]
    assert none.status == "missing" and "no prompt" in none.note
