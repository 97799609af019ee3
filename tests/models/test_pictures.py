"""One decode and one resize a picture, whoever asks and however many at once."""

import asyncio
import gc
import io
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmreward import Engine, Media, Sample, Unscorable, models
from mmreward.limits import limited
from mmreward.models import pictures as memo
from mmreward.models.pictures import ThreadSingleFlight, distinct
from mmreward.models.pixels import Group, Recipe, grouped, resize, to_input
from mmreward.models.weights import BACKENDS

WAIT = 20
RECIPE = Recipe(size=(16, 16), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def encoded(seed, size=(40, 30)):
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def nothing_kept():
    memo.forget()
    yield
    memo.forget()


@pytest.fixture
def decodes(monkeypatch):
    """The keys of the pictures that were decoded, in order."""
    seen = []
    decode = Media.array

    def counted(media):
        seen.append(media.key)
        return decode(media)

    monkeypatch.setattr(Media, "array", counted)
    return seen


# --- the memo itself ------------------------------------------------------------------------------


def test_equal_pictures_have_one_place_in_the_order_of_their_first():
    one, other = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)
    medias = [Media(one), Media(other), Media(one.copy()), Media(other.copy())]
    found, rows = distinct(medias)
    assert found == medias[:2] and rows == [0, 1, 0, 1]
    assert distinct([]) == ([], [])


def test_threads_that_need_a_tensor_at_once_compute_it_once():
    once, made, gate = ThreadSingleFlight(1 << 20), [], threading.Event()

    def make():
        made.append(1)
        assert gate.wait(WAIT)
        return torch.ones(4)

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(once.get, "key", make) for _ in range(4)]
        gate.set()
        results = [one.result(WAIT) for one in asked]
    assert len(made) == 1 and all(result is results[0] for result in results)


def test_a_result_too_large_to_keep_still_reaches_those_who_wait(monkeypatch):
    once, made, gate, waiting = ThreadSingleFlight(0), [], threading.Event(), threading.Event()

    class Watched(Future):
        def result(self, timeout=None):
            waiting.set()
            return super().result(timeout)

    def make():
        made.append(1)
        assert gate.wait(WAIT)
        return torch.ones(4)

    monkeypatch.setattr(memo, "Future", Watched)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(once.get, "key", make) for _ in range(2)]
        assert waiting.wait(WAIT)
        gate.set()
        results = [one.result(WAIT) for one in asked]
    assert len(made) == 1 and results[0] is results[1] and once.nbytes == 0


def test_a_failure_is_kept_for_nobody():
    once, tries, gate = ThreadSingleFlight(1 << 20), [], threading.Event()

    def make():
        tries.append(1)
        assert gate.wait(WAIT)
        if len(tries) == 1:
            raise Unscorable("broken for now")
        return torch.ones(1)

    def ask():
        try:
            return once.get("key", make)
        except Unscorable as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask) for _ in range(2)]
        gate.set()
        refused, made = sorted((one.result(WAIT) for one in asked), key=torch.is_tensor)
    assert isinstance(refused, Unscorable) and isinstance(made, torch.Tensor)
    assert once.get("key", make) is made and len(tries) == 2


@given(
    asks=st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40),
    limit=st.sampled_from([0, 500, 1500, 1 << 20]),
)
def test_any_interleaving_gives_every_caller_its_own_tensor_within_the_limit(asks, limit):
    once = ThreadSingleFlight(limit)

    def ask(number, broken):
        def make():
            if broken:
                raise Unscorable(f"number {number}")
            return torch.full((32,), float(number))

        try:
            return once.get(number, make)[0].item()
        except Unscorable as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        answers = [one.result(WAIT) for one in [pool.submit(ask, *given) for given in asks]]
    for (number, broken), answer in zip(asks, answers, strict=True):
        # A caller whose own try would break may be handed what another made, and never a wrong one.
        assert answer == number or (broken and answer == f"number {number}")
    assert once.nbytes <= limit and not once._making


def test_what_is_kept_owns_its_memory():
    media = Media(encoded(0, (300, 200)))
    for backend in BACKENDS:
        kept = memo.resized(media, RECIPE, backend)
        assert kept.untyped_storage().nbytes() == kept.nbytes and kept.is_contiguous()
    same_size = torch.zeros(3, 16, 16, dtype=torch.uint8)
    for backend in BACKENDS:
        kept = memo.resized(Media(same_size), RECIPE, backend)
        same_size.fill_(9)
        assert kept.max() == 0
        same_size.zero_()


def test_a_callers_own_array_is_not_kept_decoded():
    memo.decoded(Media(torch.zeros(3, 8, 8, dtype=torch.uint8)))
    memo.decoded(Media(np.zeros((8, 8, 3), np.uint8)))
    assert memo._decoded.nbytes == 0


def test_a_clip_is_seen_by_its_first_frame():
    clip = torch.stack([torch.full((3, 8, 8), value, dtype=torch.uint8) for value in (7, 200)])
    assert memo.decoded(Media(clip, "video")).unique().tolist() == [7]


# --- through the networks -------------------------------------------------------------------------


def test_five_rewards_decode_a_picture_once(
    engine, clip_folder, open_clip_folder, classifier_folder, decodes
):
    engine.cache.clear()
    rewards = {
        "one": {"reward": "clipscore", "weights": clip_folder},
        "pil": {"reward": "clipscore", "weights": clip_folder, "resize": "pil"},
        "uint8": {"reward": "clipscore", "weights": clip_folder, "resize": "uint8"},
        "other": {"reward": "clipscore", "weights": open_clip_folder},
        "artifact": {"classifier": classifier_folder},
    }
    files = [encoded(seed) for seed in range(6)]
    scores = engine.score([Sample(prompt="red", image=Media(file)) for file in files], rewards)
    assert all(score.status == "ok" for column in scores.values() for score in column)
    assert sorted(decodes) == sorted(Media(file).key for file in files)


def test_networks_of_one_recipe_share_a_batch_while_one_of_them_has_it(monkeypatch):
    """And a batch of another order, way to resize, recipe or device is another one."""
    made = []
    monkeypatch.setattr(memo, "to_input", lambda *given: made.append(given) or to_input(*given))
    cpu, other = torch.device("cpu"), replace(RECIPE, mean=(0.5, 0.5, 0.5))
    looks = [(Media(encoded(seed, (40, 30))), "pil") for seed in range(3)]
    first = memo.prepared(looks, RECIPE, cpu)
    assert memo.prepared([(Media(encoded(seed, (40, 30))), "pil") for seed in range(3)], RECIPE, cpu) is first
    assert len(made) == 1
    expected = to_input(grouped([memo.resized(media, RECIPE, "pil") for media, _ in looks]), RECIPE)
    assert torch.equal(first.on(cpu, RECIPE), expected)
    for apart in (
        memo.prepared(looks[::-1], RECIPE, cpu),
        memo.prepared([(media, "uint8") for media, _ in looks], RECIPE, cpu),
        memo.prepared(looks, other, cpu),
        memo.prepared(looks, RECIPE, torch.device("meta")),
    ):
        assert apart is not first
    assert torch.equal(
        memo.prepared(looks, other, cpu).on(cpu, other),
        to_input(grouped([memo.resized(media, other, "pil") for media, _ in looks]), other),
    )
    del first, apart
    gc.collect()
    assert not memo._batches


def test_scores_with_and_without_sharing_are_equal(engine, clip_folder, open_clip_folder, monkeypatch):
    rewards = {
        f"{resize} {name}": {"reward": "clipscore", "weights": weights, "resize": resize}
        for resize in BACKENDS
        for name, weights in (("a", clip_folder), ("b", open_clip_folder))
    }
    samples = [Sample(prompt="red", image=Media(encoded(seed, (30 + seed, 50)))) for seed in range(5)]

    def values():
        engine.cache.clear()
        return {
            name: [score.value for score in column] for name, column in engine.score(samples, rewards).items()
        }

    shared = values()
    monkeypatch.setattr(memo, "_decoded", ThreadSingleFlight(0))
    monkeypatch.setattr(memo, "_resized", ThreadSingleFlight(0))
    assert values() == shared


def test_a_broken_file_costs_its_own_row_in_every_reward(engine, clip_folder, open_clip_folder):
    engine.cache.clear()
    files = [encoded(seed) for seed in range(6)]
    files[3] = files[3][: len(files[3]) // 2]  # the header is whole: only decoding finds out
    samples = [Sample(prompt="red", image=Media(file)) for file in files]
    rewards = {
        name: {"reward": "clipscore", "weights": weights}
        for name, weights in (("a", clip_folder), ("b", open_clip_folder))
    }
    for column in engine.score(samples, rewards).values():
        assert [score.status for score in column] == ["ok"] * 3 + ["error"] + ["ok"] * 2
        assert "broken" in column[3].note


@pytest.mark.parametrize("shape", [(64, 64), (40, 90), (90, 40), (16, 16), (5, 7)])
@pytest.mark.parametrize("fit", ["shortest", "longest", "squash"])
def test_the_8_bit_kernel_is_within_two_levels_of_pillow(fit, shape):
    recipe = Recipe(size=(16, 16), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), fit=fit)
    picture = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, *shape), dtype=np.uint8))
    by_torch, by_pil = resize(picture, recipe, "uint8"), resize(picture, recipe, "pil")
    assert by_torch.shape == by_pil.shape == (3, 16, 16)
    assert (by_torch.int() - by_pil.int()).abs().max() <= 2


@pytest.mark.parametrize("fit", ["shortest", "longest", "squash"])
def test_a_picture_is_the_same_whether_a_worker_or_the_network_resizes_it(fit):
    recipe = Recipe(size=(16, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), fit=fit)
    noise = np.random.default_rng(2)
    shapes = [(64, 64), (40, 90), (64, 64), (16, 16), (5, 7)]
    whole = [torch.from_numpy(noise.integers(0, 256, (3, *shape), dtype=np.uint8)) for shape in shapes]
    small = [resize(picture, recipe) for picture in whole]
    mixed = [*whole[:2], *small[2:]]
    want = to_input(grouped(whole), recipe)
    for pictures in (small, mixed):
        torch.testing.assert_close(to_input(grouped(pictures), recipe), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
@pytest.mark.parametrize("ready", [True, False])
def test_one_stack_is_what_its_pictures_are_one_by_one(kind, ready):
    """To the bit, in the order of the rows, and what came in is left as it was."""
    recipe = Recipe(size=(16, 16), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    noise = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.manual_seed(0))
    pictures = noise if kind == torch.uint8 else noise / 255
    before = pictures.clone()
    whole = to_input([Group([0, 1, 2, 3], pictures, ready)], recipe)
    alone = [to_input([Group([0], one[None], ready)], recipe)[0] for one in pictures]
    split = to_input([Group([3, 1], pictures[[3, 1]], ready), Group([0, 2], pictures[[0, 2]], ready)], recipe)
    turned = to_input([Group([3, 2, 1, 0], pictures.flip(0), ready)], recipe)
    for other in (torch.stack(alone), split, turned):
        assert torch.equal(whole, other)
    assert torch.equal(pictures, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("resize", BACKENDS)
def test_files_and_tensors_score_on_the_gpu_as_on_the_cpu(clip_folder, resize):
    files = [encoded(seed, (40 + seed, 50)) for seed in range(4)]
    reward = {"clipscore": {"weights": clip_folder, "resize": resize}}
    sources = [files, [Media(file).pixels().cuda() for file in files]]
    columns = []
    for device, pictures in (("cpu", sources[0]), ("cuda", sources[0]), ("cuda", sources[1])):
        samples = [Sample(prompt="red", image=Media(picture)) for picture in pictures]
        with Engine(device) as engine:
            engine.score(samples[:1], reward)  # from now on the network knows where it is
            engine.cache.clear()
            columns.append([score.value for score in engine.score(samples, reward)["clipscore"]])
    for column in columns[1:]:
        assert column == pytest.approx(columns[0], abs=1e-4)


def photo(height, width, form="JPEG", orientation=1):
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    smooth.save(buffer, form, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("height", "width", "scale"), [(427, 641, 1), (448, 448, 2), (1001, 903, 4), (3600, 2000, 8)]
)
def test_a_draft_is_decoded_at_the_smallest_scale_that_leaves_enough(height, width, scale):
    recipe = replace(RECIPE, size=(224, 224))
    media = Media(photo(height, width))
    with Image.open(io.BytesIO(media.source)) as picture:
        picture.draft(None, (width // scale, height // scale))
        by_pillow = np.array(picture)
    assert by_pillow.shape[:2] == (-(-height // scale), -(-width // scale))
    found = memo.resized(media, recipe, "draft")
    assert torch.equal(
        found, resize(torch.from_numpy(by_pillow).permute(2, 0, 1), recipe, "uint8", (height, width))
    )
    small = media.reduced(recipe.scaled(height, width))
    assert small is None if scale == 1 else np.array_equal(small, by_pillow)
    near = (found.int() - memo.resized(media, recipe, "uint8").int()).abs()
    assert near.max() <= 8 and near.float().mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_draft_is_upright_and_large_enough_both_ways(orientation):
    recipe = replace(RECIPE, size=(224, 224), fit="squash")
    media = Media(photo(500, 460, orientation=orientation))
    small = media.reduced((224, 224))
    assert small is not None and small.shape[:2] == ((250, 230) if orientation < 5 else (230, 250))
    whole = memo.resized(media, recipe, "uint8").int()
    assert (memo.resized(media, recipe, "draft").int() - whole).abs().max() <= 8
    tall = Media(photo(500, 2000, orientation=orientation))
    assert tall.reduced((400, 500) if orientation < 5 else (500, 400)) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: photo(500, 460, "PNG"),
        lambda: photo(500, 460, "WEBP"),
        lambda: Image.open(io.BytesIO(photo(500, 460))),
        lambda: np.zeros((500, 460, 3), np.uint8),
    ],
)
def test_what_is_no_jpeg_file_has_no_draft(make):
    recipe, media = replace(RECIPE, size=(224, 224)), Media(make())
    assert torch.equal(memo.resized(media, recipe, "draft"), memo.resized(media, recipe, "uint8"))


def test_a_draft_of_a_picture_above_the_limit_is_refused_as_the_whole_is():
    media = Media(photo(600, 600))
    with limited(pixels=600 * 600 - 1):
        for backend in ("uint8", "draft"):
            with pytest.raises(Unscorable, match="limit"):
                memo.resized(media, RECIPE, backend)


def test_an_unknown_way_to_resize_is_named():
    with pytest.raises(ValueError, match="lanczos"):
        resize(torch.zeros(3, 4, 4, dtype=torch.uint8), RECIPE, "lanczos")
    with pytest.raises(ValueError, match="lanczos"):
        models.clip("mini-clip", resize="lanczos")


def test_pictures_of_both_resizes_run_in_one_batch(engine, clip_folder):
    engine.cache.clear()
    tensor, pil = models.clip(clip_folder), models.clip(clip_folder, resize="pil")
    before = engine.stats().networks.get(clip_folder)
    batches = before.batches if before else 0
    media = [Media(encoded(seed)) for seed in range(4)]

    async def work():
        return await asyncio.gather(*(net.image(one) for one in media for net in (tensor, pil)))

    vectors = engine.run(work())
    assert engine.stats().networks[clip_folder].batches == batches + 1
    for a, b in zip(vectors[::2], vectors[1::2], strict=True):
        assert 0 < np.abs(a - b).max() < 0.05


def test_two_threads_with_the_same_pictures_share_the_decoding(tmp_path, monkeypatch):
    """Each is given all of them, and neither waits for the other at every one."""
    folder, count = tmp_path, 12
    for number in range(count):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"{number}.png")
    makers = []
    usual = memo._decode

    def slowly(media):
        makers.append(threading.current_thread().name)
        time.sleep(0.02)
        return usual(media)

    monkeypatch.setattr(memo, "_decode", slowly)
    memo.forget()
    results = {}

    def work(name):
        medias = [Media(folder / f"{number}.png") for number in range(count)]
        results[name] = memo.in_turn(medias, lambda index: memo.decoded(medias[index]))

    threads = [threading.Thread(target=work, args=(name,), name=name) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(makers) == count and min(makers.count("a"), makers.count("b")) >= count // 4
    for pictures in results.values():
        assert [int(picture[0, 0, 0]) for picture in pictures] == list(range(count))
