"""Dual encoders against transformers and open_clip themselves, on shared random weights."""

import asyncio
import shutil
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmreward import Engine, Media, Sample, load, models
from mmreward.adapters.scorer import Scorer
from mmreward.models import encoders, fetching, sharing
from mmreward.models.base import pooled
from mmreward.models.encoder_handle import Encoder
from mmreward.models.pixels import Recipe, grouped, normalise, resize_pil, to_input
from mmreward.models.wants import want_of
from mmreward.models.weights import BACKENDS

LONG_A = "a red circle " * 100
LONG_B = "two blue squares " * 100


def embed(engine, net, pictures, texts):
    async def work():
        images = asyncio.gather(*(net.image(Media(picture)) for picture in pictures))
        return await images, await asyncio.gather(*(net.text(text) for text in texts))

    images, texts = engine.run(work())
    return np.stack(images), texts


def test_transformers_clip_matches_upstream_on_three_aspect_ratios(engine, clip_folder, pictures):
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    texts = ["a red circle", "two blue squares and a longer caption than the first"]
    model = CLIPModel.from_pretrained(clip_folder).eval()
    processor = AutoImageProcessor.from_pretrained(clip_folder, backend="pil")
    with torch.no_grad():
        pixels = processor(images=pictures, return_tensors="pt")
        want = F.normalize(pooled(model.get_image_features(**pixels)), dim=-1)
        tokens = AutoTokenizer.from_pretrained(clip_folder)(texts, padding=True, return_tensors="pt")
        want_text = F.normalize(pooled(model.get_text_features(**tokens)), dim=-1)
    images, got = embed(engine, models.clip(clip_folder, resize="pil"), pictures, texts)
    np.testing.assert_allclose(images, want.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.stack([text.vector for text in got]), want_text.numpy(), atol=1e-5)


def test_open_clip_matches_upstream(engine, open_clip_folder, pictures):
    import open_clip

    name = f"local-dir:{open_clip_folder}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    model.eval()
    texts = ["a red circle", "something else"]
    with torch.no_grad():
        want = model.encode_image(torch.stack([preprocess(p) for p in pictures]), normalize=True)
        want_text = model.encode_text(open_clip.get_tokenizer(name)(texts), normalize=True)
    images, got = embed(engine, models.clip(open_clip_folder, resize="pil"), pictures, texts)
    np.testing.assert_allclose(images, want.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.stack([text.vector for text in got]), want_text.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["ViT-B-32/openai", "ViT-L-14/openai", "ViT-H-14/dfn5b"])
def test_published_weights_are_refused_of_an_architecture_with_the_other_gelu(name):
    """open_clip warns, and computes other numbers than the publisher's."""
    architecture, _, tag = name.partition("/")
    fix = f"give open_clip:{architecture}-quickgelu/{tag}"
    with pytest.raises(ValueError, match=f"trained with the quick GELU, .* {fix}"):
        encoders.open_clip_towers(f"open_clip:{name}", torch.float32)
    with pytest.raises(ValueError, match=fix):
        fetching._hub_place(want_of(f"open_clip:{name}", "clip"))
    assert encoders.published_cfg(f"{architecture}-quickgelu", tag)["quick_gelu"]
    assert encoders.published_cfg("ViT-B-32", "laion2b_s34b_b79k") and not encoders.published_cfg("tiny", "x")


def test_looped_equals_batched(engine, clip_folder, pictures):
    net = models.clip(clip_folder)
    texts = ["one", "a much longer text than the other one", "three"]
    batched_images, batched_texts = embed(engine, net, pictures, texts)
    engine.cache.clear()
    for index, picture in enumerate(pictures):
        image, _ = embed(engine, net, [picture], ["one"])
        np.testing.assert_allclose(image[0], batched_images[index], atol=1e-5)
    for index, text in enumerate(texts):
        engine.cache.clear()
        alone = engine.run(net.text(text))
        np.testing.assert_allclose(alone.vector, batched_texts[index].vector, atol=1e-5)


@pytest.mark.parametrize("folder", ["clip_folder", "open_clip_folder"])
def test_text_beyond_the_context_is_cut_flagged_and_still_tells_prompts_apart(engine, folder, request):
    net = models.clip(request.getfixturevalue(folder))
    a, b, short = (engine.run(net.text(text)) for text in (LONG_A, LONG_B, "short"))
    assert (a.truncated, b.truncated, short.truncated) == (True, True, False)
    assert np.abs(a.vector - b.vector).max() > 1e-4


@pytest.mark.parametrize("folder", ["clip_folder", "open_clip_folder"])
def test_score_tensor_has_the_same_numbers_and_a_gradient(engine, folder, request, pictures):
    reward = load("clipscore", weights=request.getfixturevalue(folder))
    square = [picture.resize((48, 48)) for picture in pictures]
    prompts = ["red", "blue", "red", "a long green one"]
    samples = [Sample(prompt=p, image=Media(i)) for p, i in zip(prompts, square, strict=True)]
    scores = [score.value for score in engine.score(samples, reward)["clipscore"]]
    pixels = torch.stack([Media(picture).pixels() for picture in square]).float() / 255
    pixels.requires_grad_(True)
    values = reward.score_tensor(pixels, prompts)
    torch.testing.assert_close(values.detach(), torch.tensor(scores), atol=1e-5, rtol=0)
    values.sum().backward()
    assert torch.isfinite(pixels.grad).all() and (pixels.grad.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_float_pixels_and_their_8_bit_file_score_alike(engine, clip_folder):
    rng = np.random.default_rng(5)
    array = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    net = models.clip(clip_folder)
    from_bytes = engine.run(net.image(Media(array)))
    from_float = engine.run(net.image(Media(torch.from_numpy(array).permute(2, 0, 1).float() / 255)))
    np.testing.assert_allclose(from_bytes, from_float, atol=1e-6)


@pytest.mark.parametrize("fit", ["shortest", "longest", "squash"])
def test_the_two_resize_backends_differ_by_rounding_only(fit, pictures):
    recipe = Recipe(size=(24, 24), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), fit=fit)
    arrays = [np.asarray(picture) for picture in pictures]
    by_pil = normalise(torch.stack([resize_pil(array, recipe) for array in arrays]), recipe)
    by_tensor = to_input(grouped([torch.from_numpy(a.copy()).permute(2, 0, 1) for a in arrays]), recipe)
    difference = (by_pil - by_tensor).abs() * 255
    assert difference.max() <= 4 and difference.mean() < 0.5


# --- one network, many handles --------------------------------------------------------------------------


def test_ways_to_resize_share_the_network_and_have_fingerprints_of_their_own(clip_folder):
    handles = [models.clip(clip_folder, resize=resize) for resize in BACKENDS]
    assert len({id(handle.network) for handle in handles}) == 1
    assert models.clip(clip_folder) is handles[0]
    rewards = [load("clipscore", weights=clip_folder, resize=resize) for resize in BACKENDS]
    assert len({reward.networks[0].fingerprint for reward in rewards}) == len(BACKENDS) == 4
    assert len({reward.fingerprint for reward in rewards}) == 4


def test_another_dtype_is_another_network(clip_folder):
    assert models.clip(clip_folder, dtype="bfloat16").network is not models.clip(clip_folder).network


def test_a_copied_folder_is_the_same_network_and_a_changed_one_is_not(clip_folder, tmp_path):
    copy, changed = shutil.copytree(clip_folder, tmp_path / "a"), shutil.copytree(clip_folder, tmp_path / "b")
    (changed / "preprocessor_config.json").write_text("{}")
    assert models.clip(str(copy)).network is models.clip(clip_folder).network
    assert models.clip(str(changed)).network is not models.clip(clip_folder).network


def test_a_hub_id_and_a_folder_of_the_same_files_share_a_network(clip_folder, tmp_path, monkeypatch):
    repository = tmp_path / "models--someone--clip"
    shutil.copytree(clip_folder, repository / "snapshots" / "abc123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    # The folder first: the network is that of the first name, and this hub cache is gone after the test.
    by_folder, by_id = models.clip(clip_folder), models.clip("someone/clip")
    assert by_folder.network is by_id.network
    alone = Encoder("someone/clip")
    assert by_id.fingerprint == alone.fingerprint, "a fingerprint depends on what was loaded before"


@pytest.mark.parametrize("way", ["score", "begin", "ascore", "server"])
def test_networks_are_made_by_who_asks_and_not_on_the_engines_loop(way, clip_folder, tmp_path, monkeypatch):
    """Making one imports torch, for which a server's or a trainer's loop should not wait."""
    weights = str(shutil.copytree(clip_folder, tmp_path / "clip"))
    made, make = [], sharing.dual_encoder

    def noted(*args, **options):
        made.append(threading.current_thread())
        return make(*args, **options)

    monkeypatch.setattr(sharing, "dual_encoder", noted)
    reward, sample = (
        {"clipscore": {"weights": weights}},
        Sample(prompt="a", image=np.zeros((8, 8, 3), np.uint8)),
    )
    if way == "server":
        Scorer(reward)
        assert made == [threading.current_thread()]
        return
    with Engine("cpu") as engine:
        assert load("clipscore", weights=weights).fingerprint and not made, "a fingerprint needs no network"
        if way == "ascore":
            scores = asyncio.run(engine.ascore([sample], reward))
        else:
            scores = (
                engine.score([sample], reward) if way == "score" else engine.begin([sample], reward).result()
            )
        assert scores["clipscore"][0].ok and made == [threading.current_thread()]


def test_a_prompt_is_encoded_once_for_all_samples_and_rewards_on_one_tower(engine, clip_folder, pictures):
    engine.cache.clear()
    encoded = []
    network = models.clip(clip_folder).network
    prepare = network.prepare

    def counted(op, items):
        encoded.extend(items if op == "text" else [])
        return prepare(op, items)

    samples = [Sample(prompt="a red circle", image=Media(pictures[i % 4].rotate(i))) for i in range(8)]
    rewards = {
        "one": {"reward": "clipscore", "weights": clip_folder},
        "two": {"reward": "clipscore", "weights": clip_folder, "resize": "pil"},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "prepare", counted)
        scores = engine.score(samples, rewards)
    assert all(score.status == "ok" for column in scores.values() for score in column)
    assert encoded == ["a red circle"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("folder", ["clip_folder", "open_clip_folder"])
def test_half_precision_towers_give_unit_vectors_in_float32_near_the_full_ones(
    engine, folder, dtype, request, pictures
):
    folder = request.getfixturevalue(folder)
    half, full = (load("clipscore", weights=folder, dtype=name) for name in (dtype, "float32"))
    square = [picture.resize((40, 40)) for picture in pictures]
    vectors, texts = embed(engine, models.clip(folder, dtype=dtype), square, ["red"])
    assert vectors.dtype == texts[0].vector.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    samples = [Sample(prompt="red", image=Media(picture)) for picture in square]
    scores = engine.score(samples, {"half": half, "full": full})
    for a, b in zip(scores["half"], scores["full"], strict=True):
        assert a.value == pytest.approx(b.value, abs=0.02)
    pixels = torch.stack([Media(picture).pixels() for picture in square]).float() / 255
    values = half.score_tensor(pixels, ["red"] * len(square))
    assert values.dtype == torch.float32
    torch.testing.assert_close(
        values, torch.tensor([score.value for score in scores["half"]]), atol=1e-2, rtol=0
    )


def test_siglip_text_is_padded_to_full_length(engine, siglip_folder):
    from transformers import AutoTokenizer, SiglipModel

    model, tokenizer = (
        SiglipModel.from_pretrained(siglip_folder),
        AutoTokenizer.from_pretrained(siglip_folder),
    )
    tokens = tokenizer(["red circle"], padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        features = pooled(model.get_text_features(input_ids=tokens["input_ids"]))
    got = engine.run(models.clip(siglip_folder).text("red circle"))
    np.testing.assert_allclose(got.vector, F.normalize(features, dim=-1)[0].numpy(), atol=1e-5)


# --- a CPU's caches -----------------------------------------------------------------------------------------


def test_on_a_cpu_a_batch_goes_through_the_tower_in_parts_of_the_same_embeddings(
    clip_folder, open_clip_folder, monkeypatch
):
    from mmreward.models import encoders
    from mmreward.models.pictures import PictureBatch

    draw = np.random.default_rng(0)
    pixels = torch.from_numpy(draw.integers(0, 256, (7, 3, 48, 48), dtype=np.uint8))
    for folder in (clip_folder, open_clip_folder):
        network = models.clip(folder).network
        tower, calls = network.towers, []

        def counted(some, tower=tower, calls=calls):
            calls.append(len(some))
            return tower.image(some)

        batch = PictureBatch([encoders.Group(list(range(7)), pixels)], tower.recipe, torch.device("cpu"))
        whole = np.stack(network.forward("image", batch))
        monkeypatch.setattr(network, "_towers", tower._replace(image=counted))
        per_picture = tower.widest * 4 // torch.get_num_threads()
        monkeypatch.setattr(encoders, "CACHED", 3 * per_picture)
        parts = np.stack(network.forward("image", batch))
        assert tower.widest > 0 and calls == [3, 3, 1]
        np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_the_widest_layer_of_the_published_towers():
    """ViT-B/32: 49 patches of 3072 numbers. A convolutional tower goes whole."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    from mmreward.models.encoders import widest_of

    with torch.device("meta"):
        given = {"intermediate_size": 3072, "hidden_size": 768, "image_size": 224, "patch_size": 32}
        tower = CLIPVisionModel(CLIPVisionConfig(num_hidden_layers=1, **given))
        convolutions = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3))
    assert widest_of(tower, (224, 224)) == 49 * 3072
    assert widest_of(convolutions, (224, 224)) == 0
