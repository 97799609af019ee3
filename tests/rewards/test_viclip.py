"""ViCLIP from a tiny random file in the published format, against a second writing of its graph."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from support.tiny_viclip import SIDE, save_viclip
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize

from mmreward import Engine, Media, Sample, load
from mmreward.engine.batching import Budget
from mmreward.errors import Unavailable
from mmreward.models.viclip import middles

SHAPES = [(12, 40, 64), (8, 70, 33), (3, 32, 32), (1, 50, 41), (30, 36, 36)]
PROMPTS = ["a red circle", "Two blue squares, & a fox!", "x", "a fox " * 60, "a red circle"]


def clip_of(shape, seed):
    count, height, width = shape
    draw = np.random.default_rng(seed)
    coarse = torch.tensor(draw.integers(0, 256, (1, 3, 6, 7 + count)).astype(np.float32))
    whole = F.interpolate(coarse, size=(height, width + 6 * count), mode="bilinear")[0].permute(1, 2, 0)
    moving = [whole[:, 5 * n : 5 * n + width] for n in range(count)]
    return torch.stack(moving).round().clamp(0, 255).to(torch.uint8).numpy()


CLIPS = [clip_of(shape, seed) for seed, shape in enumerate(SHAPES)]
SAMPLES = [
    Sample(id=str(n), prompt=prompt, video=Media(clip, "video", fps=8.0))
    for n, (clip, prompt) in enumerate(zip(CLIPS, PROMPTS, strict=True))
]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return save_viclip(tmp_path_factory.mktemp("viclip") / "ViClip-InternVid-10M-FLT.pth")


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


# --- a second writing ---------------------------------------------------------------------------------------


class Second:
    """The publisher's lines with plain functions; sequence first, as nn.MultiheadAttention has it there."""

    def __init__(self, file):
        self.state = torch.load(file, weights_only=True)["model"]

    def norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def blocks(self, side, x, mask=0):
        for layer in range(2):
            own = f"{side}.transformer.resblocks.{layer}"
            y = self.norm(f"{own}.ln_1", x)
            qkv = F.linear(
                y, self.state[f"{own}.attn.in_proj_weight"], self.state[f"{own}.attn.in_proj_bias"]
            )
            out = []
            for q, k, v in zip(*(part.split(64, -1) for part in qkv.chunk(3, -1)), strict=True):
                out.append((q @ k.T / math.sqrt(64) + mask).softmax(-1) @ v)
            x = x + self.linear(f"{own}.attn.out_proj", torch.cat(out, -1))
            y = self.linear(f"{own}.mlp.c_fc", self.norm(f"{own}.ln_2", x))
            x = x + self.linear(f"{own}.mlp.c_proj", y * torch.sigmoid(1.702 * y))
        return x

    def linear(self, name, x):
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def vision(self, frames):
        own = "vision_encoder"
        patches = F.conv2d(frames, self.state[f"{own}.conv1.weight"][:, :, 0], stride=8).flatten(2)
        places = self.state[f"{own}.positional_embedding"]
        times = self.state[f"{own}.temporal_positional_embedding"][0]
        tokens = [self.state[f"{own}.class_embedding"] + places[0]]
        for place in range(patches.shape[2]):
            tokens += [patches[t, :, place] + places[place + 1] + times[t] for t in range(len(frames))]
        x = self.blocks(own, self.norm(f"{own}.ln_pre", torch.stack(tokens)))
        return F.normalize(self.norm(f"{own}.ln_post", x[0]) @ self.state[f"{own}.proj"], dim=-1)

    def text(self, prompt):
        own, tokenizer = "text_encoder", SimpleTokenizer()
        ids = [tokenizer.sot_token_id, *tokenizer.encode(prompt), tokenizer.eot_token_id]
        if len(ids) > 32:
            ids = [*ids[:31], tokenizer.eot_token_id]
        x = (
            self.state[f"{own}.token_embedding.weight"][ids]
            + self.state[f"{own}.positional_embedding"][: len(ids)]
        )
        mask = torch.full((len(ids), len(ids)), -torch.inf).triu(1)
        x = self.norm(f"{own}.ln_final", self.blocks(own, x, mask))
        return F.normalize(x[-1] @ self.state[f"{own}.text_projection"], dim=-1)


def middle_frames(clip):
    """VBench's `get_frame_indices` with sample="middle"."""
    total = len(clip)
    stretches = np.linspace(start=0, stop=total, num=min(8, total) + 1).astype(int)
    ranges = [(start, stretches[n + 1] - 1) for n, start in enumerate(stretches[:-1])]
    found = [(start + end) // 2 for start, end in ranges]
    return clip[found + found[-1:] * (8 - len(found))]


def test_cosines_are_the_publishers(file, engine):
    second = Second(file)
    prepare = Compose(
        [
            Resize(SIDE, interpolation=InterpolationMode.BICUBIC, antialias=True),
            CenterCrop(SIDE),
            lambda x: x.float().div(255.0),
            Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    scores = engine.score(SAMPLES, load("viclip", file=file))["viclip"]
    theirs = []
    for clip, prompt in zip(CLIPS, PROMPTS, strict=True):
        frames = prepare(torch.from_numpy(middle_frames(clip)).permute(0, 3, 1, 2))
        theirs.append(float(second.vision(frames) @ second.text(prompt)))
    assert [score.value for score in scores] == pytest.approx(theirs, abs=1e-4)
    assert np.std(theirs) > 0.02, "equal values would prove nothing"
    assert [score.parts["truncated"] for score in scores] == [0, 0, 0, 1, 0]


def test_values_do_not_depend_on_the_batch(file, engine):
    reward = load("viclip", file=file)
    together = [score.value for score in engine.score(SAMPLES, reward)["viclip"]]
    alone = [engine.score([sample], reward)["viclip"][0].value for sample in SAMPLES]
    with Engine("cpu", budget=Budget(items=2), cache_bytes=0) as other:
        backward = [score.value for score in other.score(SAMPLES[::-1], reward)["viclip"]]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backward[::-1] == pytest.approx(together, abs=1e-5)


# --- traps --------------------------------------------------------------------------------------------------


def test_a_random_crop_can_be_had_again(file, engine):
    """Upstream's cannot."""
    values = {}
    for seed in (0, 0, 1, 2, 3):
        reward = load("viclip", file=file, protocol="t2v_turbo", seed=seed)
        (score,) = engine.score(SAMPLES[:1], reward)["viclip"]
        assert values.setdefault(seed, score.value) == pytest.approx(score.value, abs=1e-5)
    assert len(set(values.values())) > 1
    (middle,) = engine.score(SAMPLES[:1], load("viclip", file=file))["viclip"]
    assert middle.value not in values.values()


@pytest.mark.parametrize("total", [1, 2, 7, 8, 9, 16, 31, 300])
def test_frames_in_the_middle_of_equal_stretches(total):
    assert middles(total, 8) == middle_frames(np.arange(total)).tolist()


def test_two_long_prompts_have_different_scores(file, engine):
    """Their end token is kept; a cut without it reads the first token, which has seen nothing."""
    samples = [Sample(prompt=f"a {word} " * 60, video=SAMPLES[0].video) for word in ("fox", "house")]
    one, other = engine.score(samples, load("viclip", file=file))["viclip"]
    assert abs(one.value - other.value) > 1e-4


def test_another_file_is_refused(file, engine, tmp_path):
    state = torch.load(file, weights_only=True)["model"]
    for name, said in (
        ("vision_encoder.proj", "no 'vision_encoder.proj'"),
        ("text_encoder.ln_final.bias", "missing"),
    ):
        rest = {key: tensor for key, tensor in state.items() if key != name}
        torch.save({"model": rest}, tmp_path / f"{name}.pth")
        with pytest.raises(Unavailable, match=said):
            engine.score(SAMPLES[:1], load("viclip", file=str(tmp_path / f"{name}.pth")))
