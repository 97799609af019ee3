"""VBench's dynamic_degree and aesthetic_quality against a second writing of its lines, on tiny
checkpoints in the published formats; `imaging_quality` is in test_iqa.py.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from support.tiny_raft import HIDDEN, LEVELS, RADIUS, STAGES, save_raft
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Lambda, Normalize, Resize

from mmreward import Engine, Media, Sample, load, models
from mmreward.engine.batching import Budget
from mmreward.errors import Unavailable
from mmreward.evals.published.checkpoints import SIDE, save_clip
from mmreward.models.flow import Raft

SHAPES = [(5, 128, 144), (3, 150, 133), (4, 121, 128)]


def frames(shape, seed, step=5):
    count, height, width = shape
    draw = np.random.default_rng(seed)
    coarse = torch.tensor(draw.integers(0, 256, (1, 3, 9, 12)).astype(np.float32))
    whole = F.interpolate(coarse, size=(height, width + 60), mode="bilinear")[0].permute(1, 2, 0)
    moving = [whole[:, step * n : step * n + width] for n in range(count)]
    return torch.stack(moving).round().clamp(0, 255).to(torch.uint8).numpy()


CLIPS = [frames(shape, seed) for seed, shape in enumerate(SHAPES)]
SAMPLES = [Sample(id=str(n), video=Media(clip, "video", fps=8.0)) for n, clip in enumerate(CLIPS)]


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


@pytest.fixture(scope="module")
def raft(tmp_path_factory):
    return save_raft(tmp_path_factory.mktemp("raft") / "raft-things.pth")


# --- a second writing of RAFT, by the publisher's names -----------------------------------------------------


class Second:
    def __init__(self, file):
        state = torch.load(file, weights_only=True)
        self.state = {name.replace("module.", ""): tensor for name, tensor in state.items()}

    def conv(self, name, x, stride=1):
        weight = self.state[f"{name}.weight"]
        padding = tuple(side // 2 for side in weight.shape[2:])
        return F.conv2d(x, weight, self.state[f"{name}.bias"], stride, padding)

    def norm(self, name, x):
        if name.startswith("fnet"):
            return F.instance_norm(x)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.state[f"{name}.{part}"] for part in names))

    def encoded(self, net, x):
        x = F.relu(self.norm(f"{net}.norm1", self.conv(f"{net}.conv1", x, 2)))
        for number in range(1, len(STAGES) + 1):
            for block in (0, 1):
                own = f"{net}.layer{number}.{block}"
                stride = 2 if number > 1 and block == 0 else 1
                y = F.relu(self.norm(f"{own}.norm1", self.conv(f"{own}.conv1", x, stride)))
                y = F.relu(self.norm(f"{own}.norm2", self.conv(f"{own}.conv2", y)))
                if stride == 2:
                    x = self.norm(f"{own}.norm3", self.conv(f"{own}.downsample.0", x, 2))
                x = F.relu(x + y)
        return self.conv(f"{net}.conv2", x)

    def looked_up(self, volume, where):
        """Correlations around each place's partner, level by level; the first axis of the neighbourhood is
        that of x."""
        around = torch.linspace(-RADIUS, RADIUS, 2 * RADIUS + 1)
        delta = torch.stack(torch.meshgrid(around, around, indexing="ij"), dim=-1)
        found = []
        for level in range(LEVELS):
            places = where.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2) / 2**level + delta[None]
            sides = torch.tensor([volume.shape[3], volume.shape[2]])
            grid = 2 * places / (sides - 1) - 1
            taken = F.grid_sample(volume, grid, align_corners=True)
            found.append(taken.reshape(1, *where.shape[2:], -1))
            volume = F.avg_pool2d(volume, 2, stride=2)
        return torch.cat(found, -1).permute(0, 3, 1, 2)

    @torch.no_grad()
    def flow(self, before, after):
        before, after = (2 * (x / 255.0) - 1.0 for x in (before, after))
        one, other = self.encoded("fnet", before), self.encoded("fnet", after)
        _, wide, high, across = one.shape
        volume = torch.einsum("ci,cj->ij", one[0].flatten(1), other[0].flatten(1)) / wide**0.5
        volume = volume.reshape(high * across, 1, high, across)
        context = self.encoded("cnet", before)
        hidden, context = torch.tanh(context[:, :HIDDEN]), F.relu(context[:, HIDDEN:])
        rows, columns = torch.meshgrid(torch.arange(high), torch.arange(across), indexing="ij")
        start = torch.stack([columns, rows])[None].float()
        where = start.clone()
        own = "update_block"
        for _ in range(20):
            correlation = F.relu(self.conv(f"{own}.encoder.convc1", self.looked_up(volume, where)))
            correlation = F.relu(self.conv(f"{own}.encoder.convc2", correlation))
            moved = F.relu(self.conv(f"{own}.encoder.convf1", where - start))
            moved = F.relu(self.conv(f"{own}.encoder.convf2", moved))
            both = F.relu(self.conv(f"{own}.encoder.conv", torch.cat([correlation, moved], 1)))
            given = torch.cat([context, both, where - start], 1)
            for axis in (1, 2):
                both = torch.cat([hidden, given], 1)
                update = torch.sigmoid(self.conv(f"{own}.gru.convz{axis}", both))
                reset = torch.sigmoid(self.conv(f"{own}.gru.convr{axis}", both))
                new = torch.tanh(self.conv(f"{own}.gru.convq{axis}", torch.cat([reset * hidden, given], 1)))
                hidden = (1 - update) * hidden + update * new
            step = F.relu(self.conv(f"{own}.flow_head.conv1", hidden))
            where = where + self.conv(f"{own}.flow_head.conv2", step)
        mask = 0.25 * self.conv(f"{own}.mask.2", F.relu(self.conv(f"{own}.mask.0", hidden)))
        mask = mask.view(1, 1, 9, 8, 8, high, across).softmax(2)
        fine = F.unfold(8 * (where - start), 3, padding=1).view(1, 2, 9, 1, 1, high, across)
        return (mask * fine).sum(2).permute(0, 1, 4, 2, 5, 3).reshape(2, 8 * high, 8 * across)


def degree(second, clip):
    """VBench's `infer` on frames that are eight a second apart."""
    shots = [torch.from_numpy(frame).permute(2, 0, 1)[None].float() for frame in clip]
    threshold = 6.0 * (min(clip.shape[1:3]) / 256.0)
    down, across = ((8 - side % 8) % 8 for side in clip.shape[1:3])
    speeds = []
    for pair in pairwise(shots):
        pads = (across // 2, across - across // 2, down // 2, down - down // 2)
        u, v = second.flow(*(F.pad(shot, pads, mode="replicate") for shot in pair)).numpy()
        lengths = np.sqrt(np.square(u) + np.square(v)).flatten()
        speeds.append(np.mean(abs(np.sort(-lengths))[: int(len(lengths) * 0.05)]) / threshold)
    return speeds, sum(speed > 1 for speed in speeds) >= round(4 * (len(clip) / 16.0))


def test_dynamic_degree_is_the_publishers(engine, raft):
    second = Second(raft)
    scores = engine.score(SAMPLES, load("dynamic_degree", file=raft))["dynamic_degree"]
    for clip, score in zip(CLIPS, scores, strict=True):
        speeds, moves = degree(second, clip)
        assert score.parts["flow"] == pytest.approx(np.mean(speeds), rel=1e-4)
        assert score.parts["moving"] == sum(speed > 1 for speed in speeds)
        assert score.value == moves
    assert np.std([score.parts["flow"] for score in scores]) > 0.01, "equal values would prove nothing"
    assert {score.value for score in scores} == {0, 1}


@pytest.mark.parametrize(
    ("speeds", "value", "graded"),
    [((0.9,) * 15, 0, 0), ((9, 2, 1.1, *(0.5,) * 12), 0, 0.75), ((2,) * 15, 1, 1)],
)
def test_a_quarter_of_the_frames_is_to_move(engine, raft, monkeypatch, speeds, value, graded):
    found = iter(speeds * 2)

    async def fastest(self, before, after):
        return next(found) * 6.0 * (128 / 256.0)

    monkeypatch.setattr(Raft, "fastest", fastest)
    sample = Sample(video=Media(frames((16, 128, 128), 0, 1), "video", fps=8.0))
    for arg, wanted in ((False, value), (True, graded)):
        (score,) = engine.score([sample], load("dynamic_degree", file=raft, graded=arg))["dynamic_degree"]
        assert (score.value, score.parts["wanted"], score.parts["pairs"]) == (wanted, 4, 15)


def test_frames_are_eight_a_second(engine, raft):
    twice = Sample(video=Media(CLIPS[0].repeat(3, 0), "video", fps=24.0))
    one, other = engine.score([SAMPLES[0], twice], load("dynamic_degree", file=raft))["dynamic_degree"]
    assert other.parts == pytest.approx(one.parts, rel=1e-5)


def test_torchvisions_names_are_the_same_network(raft, tmp_path):
    """The publisher's file has `norm3` twice and names of its own."""
    torch.save(models.optical_flow(raft).module.state_dict(), tmp_path / "raft_large.pth")
    copy = models.optical_flow(str(tmp_path / "raft_large.pth")).module.state_dict()
    assert copy.keys() == models.optical_flow(raft).module.state_dict().keys()


def test_the_publishers_size_is_torchvisions():
    """Of the real widths, as raft-things.pth has them: the names of torchvision's raft_large."""
    from torchvision.models.optical_flow import raft_large

    from mmreward.models.flow import _module

    with torch.device("meta"):
        known = raft_large(weights=None, progress=False).state_dict()
        built = _module(known).state_dict()
    assert {k: v.shape for k, v in built.items()} == {k: v.shape for k, v in known.items()}


@pytest.mark.parametrize(
    ("clip", "said"),
    [
        (Media(CLIPS[0][:2], "video", fps=8.0), "too few"),
        (Media(CLIPS[0], "video"), "no frame rate"),
        (Media(frames((4, 120, 200), 1), "video", fps=8.0), "too small for RAFT"),
    ],
)
def test_clips_whose_degree_means_nothing(engine, raft, clip, said):
    """Upstream: moving whatever they show, every frame taken, NaN."""
    (score,) = engine.score([Sample(video=clip)], load("dynamic_degree", file=raft))["dynamic_degree"]
    assert not score.ok and said in score.note


def test_another_file_is_refused(engine, raft, tmp_path):
    state = torch.load(raft, weights_only=True)
    rest = {name: tensor for name, tensor in state.items() if "mask.0" not in name}
    torch.save(rest, tmp_path / "small.pth")
    with pytest.raises(Unavailable, match="no RAFT of the large kind"):
        engine.score(SAMPLES[:1], load("dynamic_degree", file=str(tmp_path / "small.pth")))


# --- aesthetic quality --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rated")
    draw = torch.Generator().manual_seed(4)
    head = {"weight": torch.randn(1, 24, generator=draw), "bias": torch.tensor([5.0])}
    torch.save(head, folder / "sa_0_4_vit_l_14_linear.pth")
    return {"head": str(folder / "sa_0_4_vit_l_14_linear.pth"), "encoder": save_clip(folder / "clip")}


def test_aesthetic_quality_is_the_publishers(engine, rated):
    from transformers import CLIPModel

    sized = Compose(
        [
            Resize(SIDE, interpolation=InterpolationMode.BICUBIC, antialias=False),
            CenterCrop(SIDE),
            Lambda(lambda x: x.float().div(255.0)),
            Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    clip, head = CLIPModel.from_pretrained(rated["encoder"]).eval(), torch.nn.Linear(24, 1)
    head.load_state_dict(torch.load(rated["head"], weights_only=True))
    theirs = []
    with torch.no_grad():
        for shown in CLIPS:
            found = clip.get_image_features(pixel_values=sized(torch.Tensor(shown).permute(0, 3, 1, 2)))
            unit = F.normalize(getattr(found, "pooler_output", found), dim=-1, p=2)
            theirs.append((head(unit).squeeze(-1) / 10).mean().item())
    scores = engine.score(SAMPLES, load("aesthetic_quality", **rated))["aesthetic_quality"]
    assert [score.value for score in scores] == pytest.approx(theirs, abs=1e-4)
    assert np.std(theirs) > 1e-3, "equal values would prove nothing"


def test_values_do_not_depend_on_the_batch(engine, raft, rated):
    rewards = {"aesthetic_quality": rated, "dynamic_degree": {"file": raft}}
    for name, args in rewards.items():
        reward = load(name, **args)
        together = [score.parts for score in engine.score(SAMPLES, reward)[name]]
        with Engine("cpu", budget=Budget(items=2), cache_bytes=0) as other:
            backward = [score.parts for score in other.score(SAMPLES[::-1], reward)[name]]
        for one, two in zip(together, backward[::-1], strict=True):
            assert two == pytest.approx(one, abs=1e-5, rel=1e-5)


def test_a_head_of_another_encoder_is_refused(engine, rated, tmp_path):
    save_file({"weight": torch.ones(1, 9), "bias": torch.ones(1)}, tmp_path / "head.safetensors")
    reward = load("aesthetic_quality", **(rated | {"head": str(tmp_path / "head.safetensors")}))
    with pytest.raises(Unavailable, match="takes 9 numbers"):
        engine.score(SAMPLES[:1], reward)
