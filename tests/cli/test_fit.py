"""`mmreward fit`, and the two rewards that read what it writes."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from typer.testing import CliRunner

from mmreward import Engine, Media, Sample, load, models
from mmreward.assets import ASSETS
from mmreward.cli import app
from mmreward.mini.world import describe, render, sample_scene
from mmreward.models.maps import Shift, Transport, read_map, shifted, write_map
from mmreward.tune.fit import fit_file

ROWS = 120


def tinted(picture):
    """What a generator with a style of its own might draw: all its pictures are off in the same way."""
    return Image.fromarray((0.85 * np.asarray(picture) + 30).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tinted pictures with their captions beside them, and three rows that cannot be used."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("drawn")
    for index in range(ROWS):
        scene = sample_scene(rng)
        tinted(render(scene, 32)).save(folder / f"{index:03}.png")
        (folder / f"{index:03}.txt").write_text(str(describe(scene)))
    (folder / "torn.png").write_bytes(b"no picture")
    (folder / "torn.txt").write_text("a red circle")
    (folder / "blank.png").write_bytes((folder / "000.png").read_bytes())
    (folder / "blank.txt").write_text(" ")
    return folder


@pytest.fixture(scope="module")
def files(folder, tmp_path_factory):
    """Both maps, fitted with the command, and what it printed."""
    out = tmp_path_factory.mktemp("fitted")
    done = {}
    for kind, steps in (("d2-align", 200), ("pisces", 60)):
        file = out / f"{kind}.safetensors"
        arguments = ["fit", kind, folder, "--weights", "mini-clip", "--out", file, "--steps", steps]
        result = CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"], catch_exceptions=False)
        assert result.exit_code == 0
        done[kind] = str(file), result.output
    return done


@pytest.fixture(scope="module")
def rows(folder):
    """Pixels (N, 3, 32, 32), their captions, and the embeddings of both."""
    encoder = models.clip("mini-clip")
    paths = sorted(folder.glob("[0-9]*.png"))
    pixels = torch.stack([Media(path).pixels() for path in paths]).float() / 255
    prompts = [path.with_suffix(".txt").read_text() for path in paths]
    with torch.no_grad():
        return pixels, prompts, encoder.embed_pixels(pixels), encoder.embed_texts(prompts)


REWARDS = [("d2_align", "d2-align"), ("pisces", "pisces")]


@pytest.mark.parametrize(("name", "kind"), REWARDS)
def test_the_reward_is_the_function_of_the_file_both_ways_and_has_a_gradient(
    files, folder, rows, engine, name, kind
):
    pixels, prompts, images, texts = (part[:6] for part in rows)
    file, _ = files[kind]
    moved, _ = read_map(Path(file))
    if kind == "d2-align":
        expected = (images * shifted(texts, moved.bias, 1.5)).sum(-1)
    else:
        expected = moved.quality(texts, images)
    reward = load(name, fitted=file, weights="mini-clip")
    samples = [Sample(prompt=prompt, image=Media(folder / f"{n:03}.png")) for n, prompt in enumerate(prompts)]
    scores = [score.value for score in engine.score(samples, reward)[name]]
    assert scores == pytest.approx(expected.tolist(), abs=1e-5)
    leaf = pixels.clone().requires_grad_()
    values = reward.score_tensor(leaf, prompts)
    torch.testing.assert_close(values.detach(), expected, atol=1e-5, rtol=0)
    values.sum().backward()
    assert (leaf.grad.abs().amax((1, 2, 3)) > 0).all()
    assert scores != pytest.approx((images * texts).sum(-1).tolist(), abs=1e-3), "the map does nothing"


def cosines(output):
    """Plain and moved, of the two lines that the command prints."""
    lines = [line for line in output.splitlines() if line.startswith("  ")]
    return [tuple(float(number) for number in line.split()[-2:]) for line in lines]


def test_fitting_raises_the_cosine_of_prompts_it_has_not_seen(files):
    for _, output in files.values():
        (plain, moved), _ = cosines(output)
        assert moved > plain + 0.01


def test_unusable_rows_are_counted_and_one_says_why(files):
    for file, output in files.values():
        counts = output.splitlines()[1]
        assert "2 unusable, such as: " in counts
        fitted, held = int(counts.split()[0]), int(counts.split()[4])
        assert fitted + held == ROWS and held > 5
        assert read_map(Path(file))[1].rows == fitted


def best_common_move(images, texts, way):
    """How much the mean cosine gains when all pictures move the same distance along one way, at best."""
    moves = [
        (F.normalize(images + step * way, dim=-1) * texts).sum(-1).mean()
        for step in torch.linspace(-0.6, 0.6, 25)
    ]
    return float(max(moves) - (images * texts).sum(-1).mean())


def test_moving_all_pictures_along_the_bias_earns_less_of_the_corrected_reward(files, rows):
    _, _, images, texts = rows
    moved, _ = read_map(Path(files["d2-align"][0]))
    way = F.normalize(moved.bias, dim=0)
    plain = best_common_move(images, texts, way)
    assert plain > 0.01
    assert best_common_move(images, moved(texts), way) < plain / 10


def test_without_a_bias_it_is_clipscore(rows, tmp_path):
    pixels, prompts, _, texts = (part[:4] for part in rows)
    encoder = models.clip("mini-clip")
    write_map(tmp_path / "zero.safetensors", Shift(torch.zeros(texts.shape[1]), 2.0), encoder, 1)
    reward = load("d2_align", fitted=str(tmp_path / "zero.safetensors"), weights="mini-clip")
    plain = load("clipscore", weights="mini-clip").score_tensor(pixels, prompts)
    torch.testing.assert_close(reward.score_tensor(pixels, prompts), plain, atol=1e-6, rtol=0)


def test_the_push_of_the_fit_is_the_push_of_the_reward(folder, rows, tmp_path):
    pixels, prompts, images, texts = (part[:4] for part in rows)
    file = tmp_path / "bias.safetensors"
    with Engine("cpu") as engine:
        fit_file("d2-align", folder, "mini-clip", file, engine, steps=20, push=3.0)
    moved, _ = read_map(file)
    values = load("d2_align", fitted=str(file), weights="mini-clip").score_tensor(pixels, prompts)
    torch.testing.assert_close(values, (images * shifted(texts, moved.bias, 3.0)).sum(-1))
    assert not torch.allclose(values, (images * shifted(texts, moved.bias, 1.5)).sum(-1), atol=1e-4)


def test_another_file_is_another_fingerprint_even_under_the_same_name(rows, tmp_path):
    pixels, prompts, _, texts = (part[:4] for part in rows)
    file, encoder = tmp_path / "bias.safetensors", models.clip("mini-clip")
    made = []
    for scale in (0.0, 0.3):
        bias = torch.zeros(texts.shape[1])
        bias[0] = scale
        file.unlink(missing_ok=True)
        write_map(file, Shift(bias), encoder, 1)
        made.append(load("d2_align", fitted=str(file), weights="mini-clip"))
    first, second = made
    assert first.fingerprint != second.fingerprint
    assert not torch.equal(first.score_tensor(pixels, prompts), second.score_tensor(pixels, prompts))


def test_the_network_travels_as_long_as_its_file_is_the_same(files, rows, tmp_path, monkeypatch):
    pixels, prompts, *_ = (part[:4] for part in rows)
    file = tmp_path / "mini-map.safetensors"
    shutil.copy(files["d2-align"][0], file)
    monkeypatch.chdir(tmp_path)
    network = models.mapped(file.name, "d2-align", "mini-clip")
    luggage = pickle.dumps(network)
    monkeypatch.chdir("/")
    there = pickle.loads(luggage)
    torch.testing.assert_close(there.similarity(pixels, prompts), network.similarity(pixels, prompts))
    file.unlink()
    write_map(file, Shift(torch.zeros(128)), models.clip("mini-clip"), 1)
    with pytest.raises(ValueError, match="not those it was sent from"):
        pickle.loads(luggage)


def test_a_file_of_another_kind_or_encoder_is_refused(files, tmp_path):
    bias, transport = files["d2-align"][0], files["pisces"][0]
    with pytest.raises(ValueError, match="was fitted for pisces, not for d2-align"):
        load("d2_align", fitted=transport, weights="mini-clip")
    copy, changed = tmp_path / "copy", tmp_path / "changed"
    shutil.copytree(ASSETS / "mini-clip", copy)
    shutil.copytree(copy, changed)
    (changed / "tokenizer.json").write_text("{}")
    assert load("d2_align", fitted=bias, weights=str(copy)), "the same weights elsewhere"
    with pytest.raises(ValueError, match=r"was fitted on mini-clip, and .*changed has other weights"):
        load("d2_align", fitted=bias, weights=str(changed))


def test_a_file_that_is_no_map_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*absent\.safetensors; `mmreward fit` makes one"):
        load("pisces", fitted=str(tmp_path / "absent.safetensors"), weights="mini-clip")
    (tmp_path / "torn.safetensors").write_bytes(b"no map")
    with pytest.raises(ValueError, match="holds no map that `mmreward fit` made"):
        load("pisces", fitted=str(tmp_path / "torn.safetensors"), weights="mini-clip")
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        load("pisces", fitted=str(tmp_path / "map.bin"), weights="mini-clip")


def test_a_map_that_diverged_is_not_written(tmp_path):
    broken = Transport(4, 3)
    broken.layers[0].bias.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        write_map(tmp_path / "map.safetensors", broken, models.clip("mini-clip"), 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "changed", "message"),
    [
        ("pisces", {"push": 1.5}, "push 1.5 belongs to d2-align"),
        ("d2-align", {"push": 0.5}, "push must be above 0.5"),
        ("d2-align", {"steps": 0}, "steps must be at least 1, not 0"),
        ("other", {}, "kind is d2-align or pisces, not 'other'"),
    ],
)
def test_wrong_settings_are_named(folder, tmp_path, engine, kind, changed, message):
    with pytest.raises(ValueError, match=message):
        fit_file(kind, folder, "mini-clip", tmp_path / "map.safetensors", engine, **changed)


def test_too_little_data_and_a_file_that_is_there_are_refused(folder, tmp_path, engine):
    few = tmp_path / "few.jsonl"
    few.write_text(f'{{"prompt": "a red circle", "image": "{folder}/000.png"}}\n{{"prompt": "a cat"}}\n')
    with pytest.raises(ValueError, match=r"1 rows are usable, and a fit takes 32 at least.*has no image"):
        fit_file("pisces", few, "mini-clip", tmp_path / "map.safetensors", engine)
    few.write_text(f'{{"prompt": "a red circle", "image": "{folder}/000.png"}}\n' * 40)
    with pytest.raises(ValueError, match="1 different prompts; a fit takes 10 at least"):
        fit_file("d2-align", few, "mini-clip", tmp_path / "map.safetensors", engine)
    (tmp_path / "map.safetensors").write_bytes(b"another's")
    with pytest.raises(ValueError, match="is there already"):
        fit_file("d2-align", few, "mini-clip", tmp_path / "map.safetensors", engine)
    assert (tmp_path / "map.safetensors").read_bytes() == b"another's"
