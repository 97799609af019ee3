"""`mmreward fit pisces` on clips by a ViCLIP, and the reward that reads what it writes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from mmreward import Engine, Media, Sample, load, models
from mmreward.cli import app
from mmreward.cli.fetching import wants_of
from mmreward.evals.published.viclip import save_viclip
from mmreward.mini.world import describe, render, sample_scene
from mmreward.models.maps import read_map

ROWS = 40


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return save_viclip(tmp_path_factory.mktemp("viclip") / "ViClip-InternVid-10M-FLT.pth")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clips of a scene that moves, with captions beside them; and a picture, which is none."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("clips")
    for index in range(ROWS):
        scene = sample_scene(rng)
        frames = [np.roll(np.asarray(render(scene, 32)), 3 * step, axis=1) for step in range(3)]
        first, *rest = (Media(frame).picture() for frame in frames)
        more = {"save_all": True, "append_images": rest, "duration": 125, "lossless": True}
        first.save(folder / f"{index:03}.webp", **more)
        (folder / f"{index:03}.txt").write_text(str(describe(scene)))
    render(sample_scene(rng), 32).save(folder / "still.png")
    (folder / "still.txt").write_text("a red circle")
    return folder


@pytest.fixture(scope="module")
def fitted(folder, file, tmp_path_factory):
    """The map, and what the command printed."""
    out = tmp_path_factory.mktemp("fitted") / "pisces.safetensors"
    given = ["fit", "pisces", folder, "--weights", file, "--out", out, "--steps", 40, "--device", "cpu"]
    result = CliRunner().invoke(app, [*map(str, given)], catch_exceptions=False)
    assert result.exit_code == 0
    return str(out), result.output


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def test_clips_are_carried_to_and_the_reward_is_the_function_of_the_file(fitted, folder, file, engine):
    out, printed = fitted
    assert "1 unusable, such as: " in printed and "video" in printed
    plain, moved = (float(number) for number in printed.splitlines()[3].split()[-2:])
    assert moved > plain + 0.01
    transport, origin = read_map(Path(out))
    assert origin.encoder == file and ROWS // 2 < origin.rows < ROWS
    samples = [
        Sample(prompt=path.with_suffix(".txt").read_text(), video=Media(path, "video"))
        for path in sorted(folder.glob("*.webp"))[:5]
    ]
    reward = load("pisces", fitted=out, weights=file)
    assert reward.info.needs == ("prompt", "video") and reward.tensor_fn is None
    found = [score.value for score in engine.score(samples, reward)["pisces"]]
    encoder = models.clip_encoder(file)

    async def embedded(sample):
        return await encoder.image(sample.video), (await encoder.text(sample.prompt)).vector

    for sample, value in zip(samples, found, strict=True):
        clip, text = (torch.from_numpy(each) for each in engine.run(embedded(sample)))
        assert value == pytest.approx(float((F.normalize(transport(text), dim=-1) @ clip).detach()), abs=1e-5)
        assert abs(value - float(text @ clip)) > 1e-3, "the map does nothing"
    (still,) = engine.score([Sample(prompt="x", image=Media(np.zeros((8, 8, 3), np.uint8)))], reward)[
        "pisces"
    ]
    assert still.status == "missing"


def test_another_encoder_or_a_resize_is_refused(fitted, tmp_path):
    other = save_viclip(tmp_path / "other.pth", seed=5)
    with pytest.raises(ValueError, match=r"was fitted on .*, and .*other\.pth has other weights"):
        load("pisces", fitted=fitted[0], weights=other)
    with pytest.raises(ValueError, match="resize 'pil'"):
        load("pisces", fitted=fitted[0], weights=other, resize="pil")


def test_fetch_knows_the_file(fitted):
    wanted = wants_of("pisces", {"fitted": fitted[0], "weights": "owner/name/ViClip.pth"})
    assert any(want.kind == "hub file" and want.name == "owner/name/ViClip.pth" for want in wanted)
