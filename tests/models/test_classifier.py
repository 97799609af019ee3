"""Image classifiers and scalar heads against their upstream forms."""

import asyncio
import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from mmreward import Media, Sample, load, models
from mmreward.models.heads import fold


def test_probabilities_match_the_transformers_pipeline(engine, classifier_folder, pictures):
    from transformers import pipeline

    want = pipeline("image-classification", classifier_folder, device="cpu")(pictures, top_k=3)
    net = models.classifier(classifier_folder)

    async def work():
        return await asyncio.gather(*(net.probabilities(Media(picture)) for picture in pictures))

    for row, expected in zip(engine.run(work()), want, strict=True):
        assert row == pytest.approx({entry["label"]: entry["score"] for entry in expected}, abs=1e-5)


@pytest.mark.parametrize("size", [(3, 50), (50, 3), (4, 4)])
def test_a_picture_as_narrow_as_its_channels_are_many_is_not_turned_round(engine, classifier_folder, size):
    from transformers import pipeline

    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    (want,) = pipeline("image-classification", classifier_folder, device="cpu")(
        [Image.fromarray(noise)], top_k=3
    )
    row = engine.run(models.classifier(classifier_folder).probabilities(Media(noise)))
    assert row == pytest.approx({entry["label"]: entry["score"] for entry in want}, abs=1e-5)


def test_artifact_takes_the_clean_label_and_names_a_missing_one(engine, classifier_folder, pictures):
    samples = [Sample(image=Media(picture)) for picture in pictures]
    scores = engine.score(samples, {"artifact": {"classifier": classifier_folder}})["artifact"]
    assert all(score.value == pytest.approx(score.parts["clean"]) for score in scores)
    wrong = {"artifact": {"classifier": classifier_folder, "clean_label": "spotless"}}
    score = engine.score(samples[:1], wrong)["artifact"][0]
    assert score.status == "error" and "spotless" in score.note and "clean" in score.note


def test_artifact_refuses_two_ways_of_asking_at_once():
    with pytest.raises(ValueError, match="not both"):
        load("artifact", classifier="a", judge="b")


def layers(rng, sizes, indices):
    state = {}
    for index, (given, made) in zip(indices, itertools.pairwise(sizes), strict=True):
        state[f"layers.{index}.weight"] = rng.normal(size=(made, given)).astype(np.float32)
        state[f"layers.{index}.bias"] = rng.normal(size=made).astype(np.float32)
    return state


def test_folding_equals_running_the_layers_one_by_one(engine, clip_folder, pictures, tmp_path):
    rng = np.random.default_rng(0)
    state = layers(rng, (24, 16, 8, 4, 2, 1), (0, 2, 4, 6, 7))
    save_file(state, tmp_path / "head.safetensors")
    head = models.head(str(tmp_path / "head.safetensors"), clip_folder)
    media = Media(pictures[0])
    x = torch.from_numpy(engine.run(models.clip(clip_folder).image(media)).astype(np.float64))
    for index in (0, 2, 4, 6, 7):
        weight, bias = (
            torch.from_numpy(state[f"layers.{index}.{name}"]).double() for name in ("weight", "bias")
        )
        x = weight @ x + bias
    assert engine.run(head.value(media)) == pytest.approx(float(x[0]), rel=1e-5)


def test_heads_of_both_resizes_share_the_tower_and_differ_in_name(clip_folder, tmp_path):
    state = {"weight": np.ones((1, 24), np.float32), "bias": np.zeros(1, np.float32)}
    file = str(tmp_path / "head.safetensors")
    save_file(state, file)
    tensor, pil = models.head(file, clip_folder), models.head(file, clip_folder, resize="pil")
    assert tensor.encoder.network is pil.encoder.network is models.clip(clip_folder).network
    assert tensor.fingerprint != pil.fingerprint


def test_a_single_linear_layer_is_read_as_it_is():
    weight, bias = fold({"weight": np.ones((1, 3), np.float32), "bias": np.array([2.0], np.float32)})
    assert weight.tolist() == [1, 1, 1] and bias == 2


def test_layers_with_activations_between_them_do_not_fold():
    state = layers(np.random.default_rng(0), (4, 3, 2, 2, 2, 1), (0, 3, 6, 9, 11))
    with pytest.raises(ValueError, match="activations"):
        fold(state)
