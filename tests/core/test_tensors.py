"""Tensors as pictures: the numbers of the array route, and a name computed without leaving the device."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmreward import Media, Unscorable
from mmreward.media_tensors import CHUNK, content_hash, content_key

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")),
]
DTYPES = [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64]


def random_pixels(shape, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.uint8:
        return torch.randint(0, 256, shape, dtype=dtype, generator=generator)
    return torch.rand(shape, generator=generator).to(dtype)


# --- pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_and_channel_count_gives_the_arrays_pixels_on_its_own_device(dtype, channels, device):
    shape = (5, 7) if channels is None else (channels, 5, 7)
    tensor = random_pixels(shape, dtype).to(device)
    media = Media(tensor)
    pixels = media.pixels()
    assert pixels.device == tensor.device and pixels.dtype == torch.uint8
    assert np.array_equal(pixels.cpu().numpy(), np.moveaxis(media.array(), -1, 0))


@given(st.lists(st.floats(-9e-4, 1 + 9e-4), min_size=12, max_size=12))
def test_rounding_is_the_arrays(values):
    tensor = torch.tensor(values).reshape(3, 2, 2)
    assert np.array_equal(Media(tensor).pixels().numpy(), np.moveaxis(Media(tensor).array(), -1, 0))


@pytest.mark.parametrize("device", DEVICES)
def test_a_clip_keeps_its_frames(device):
    tensor = random_pixels((2, 4, 3, 5), torch.float32).to(device)
    media = Media(tensor, "video")
    assert np.array_equal(media.pixels().cpu().numpy(), np.moveaxis(media.array(), -1, -3))
    assert media.size == (3, 5)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.full((3, 2, 2), float("nan")), "NaN"),
        (torch.full((3, 2, 2), float("inf")), "NaN or infinity"),
        (torch.full((3, 2, 2), 1.1), "expected \\[0, 1\\]"),
        (torch.full((3, 2, 2), -0.1), "expected \\[0, 1\\]"),
        (torch.zeros((2, 4, 4)), "1, 3 or 4 channels"),
        (torch.zeros((1, 3, 4, 4)), "1, 3 or 4 channels"),
        (torch.zeros((3, 0, 4)), "empty"),
        (torch.zeros((3, 4, 4), dtype=torch.int64), "int64"),
    ],
)
def test_what_is_no_picture_is_refused_as_an_array_is(tensor, reason):
    for look in (Media.pixels, Media.array):
        with pytest.raises(Unscorable, match=reason):
            look(Media(tensor))


def test_a_tensor_of_too_few_dimensions_has_no_size():
    with pytest.raises(Unscorable, match="dimensions"):
        _ = Media(torch.zeros(5)).size


def test_a_gradient_does_not_reach_into_a_picture():
    assert not Media(torch.rand(3, 2, 2, requires_grad=True)).pixels().requires_grad


# --- names ----------------------------------------------------------------------------------------


def splitmix(word, place, constant):
    """splitmix64's finaliser in Python's own integers."""
    mask = (1 << 64) - 1
    x = (word + place * constant) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 64, 100])
def test_the_hash_is_splitmix64_over_words_and_places(length, device):
    data = random_pixels((length,), torch.uint8)
    whole = bytes(data.tolist())
    words = [int.from_bytes(whole[at : at + 8], "little") for at in range(0, length - 7, 8)]
    words.append(int.from_bytes(whole[len(words) * 8 :], "little"))
    for got, constant in zip(
        content_hash(data.to(device)), (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03), strict=True
    ):
        want = sum(splitmix(word, place, constant) for place, word in enumerate(words, start=1))
        assert got % (1 << 64) == want % (1 << 64)


def test_every_single_bit_changes_both_halves_of_the_hash():
    data = random_pixels((3, 4, 5), torch.uint8)
    hashes = [content_hash(data)]
    for position in range(data.numel()):
        for bit in range(8):
            changed = data.clone()
            changed.view(-1)[position] ^= 1 << bit
            hashes.append(content_hash(changed))
    assert len({first for first, _ in hashes}) == len({second for _, second in hashes}) == len(hashes)


@given(st.permutations(range(6)))
def test_words_in_another_order_are_another_picture(order):
    words = torch.arange(6).repeat_interleave(1)
    same = list(order) == sorted(order)
    assert (content_hash(words[torch.tensor(order)]) == content_hash(words)) == same


def test_equal_words_and_empty_pictures_of_different_lengths_differ():
    hashes = {content_hash(torch.zeros(length, dtype=torch.uint8)) for length in range(8, 80, 8)}
    assert len(hashes) == 9


def test_shape_type_and_kind_are_part_of_the_name():
    data = torch.zeros(3, 4, 6, dtype=torch.uint8)
    names = {
        content_key(data, "image"),
        content_key(data, "video"),
        content_key(data.reshape(3, 6, 4), "image"),
        content_key(data.view(torch.float16), "image"),
        content_key(data.reshape(3, 4, 6).view(torch.bfloat16), "image"),
    }
    assert len(names) == 5


def test_layout_and_place_in_memory_are_not_part_of_the_name():
    data = random_pixels((3, 5, 7), torch.uint8)
    name = content_key(data, "image")
    batch = torch.stack([data, data, data])  # the second lies at an odd address
    assert content_key(batch[1], "image") == name
    assert content_key(data.permute(1, 2, 0).contiguous().permute(2, 0, 1), "image") == name


def test_more_words_than_one_chunk(monkeypatch):
    data = random_pixels((3, 40, 40), torch.uint8)
    whole = content_hash(data)
    monkeypatch.setattr("mmreward.media_tensors.CHUNK", 7)
    assert content_hash(data) == whole and CHUNK > 7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_picture_on_the_gpu_is_named_there():
    tensor = random_pixels((3, 64, 48), torch.float16).cuda()
    assert Media(tensor).key == content_key(tensor, "image") == content_key(tensor.cpu(), "image")
    assert Media(tensor).key != Media(tensor.cpu()).key
