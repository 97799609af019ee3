"""SARM from a tiny checkpoint of LeRobot's format, against a second writing of its lines."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from support.tiny_sarm import GAP, HEADS, LAYERS, SHARES, STAGES, WINDOW, save_sarm

from mmreward import Media, Sample, load
from mmreward.errors import Unavailable
from mmreward.evals.published.checkpoints import save_clip

TASK, DIM, FRAMES, REWINDS = "fold the towel", 24, 9, 2


def film(seed: int, count: int = FRAMES) -> np.ndarray:
    """Frames in two colours each, which a tiny CLIP tells apart better than noise."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 1, 2, 3), dtype=np.uint8)
    return np.repeat(np.repeat(small, 48, 1), 32, 2)


def robot_states(seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed + 50).normal(size=(FRAMES, 3))
    rows[:, 2] = 2.0  # a joint that never moved: its deviation is 0
    return rows


def sample(seed: int, with_states: bool = True, **fields) -> Sample:
    steps = [
        {"observation": Media(frame), **({"state": row.tolist()} if with_states else {})}
        for frame, row in zip(film(seed), robot_states(seed), strict=True)
    ]
    return Sample(id=str(seed), prompt=TASK, steps=tuple(steps), **fields)


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sarm")
    return {"weights": save_sarm(folder / "sarm", DIM), "encoder": save_clip(folder / "clip", space=DIM)}


class Published:
    """LeRobot's encoding step, its networks and the middle frame that its progress files hold, written again
    with a window as it comes out of the data set: frames to be rewound are black, and masked by length."""

    def __init__(self, args) -> None:
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

        self.state = load_file(Path(args["weights"]) / "model.safetensors")
        self.clip = CLIPModel.from_pretrained(args["encoder"]).eval()
        self.images = CLIPImageProcessor.from_pretrained(args["encoder"])
        self.words = CLIPTokenizerFast.from_pretrained(args["encoder"])

    def linear(self, name, x):
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def encoded(self, tower, x, hidden):
        for layer in range(LAYERS):
            own = f"{tower}.transformer.layers.{layer}"
            q, k, v = F.linear(
                x, self.state[f"{own}.self_attn.in_proj_weight"], self.state[f"{own}.self_attn.in_proj_bias"]
            ).chunk(3, -1)
            q, k, v = (one.unflatten(-1, (HEADS, -1)).transpose(0, 1) for one in (q, k, v))
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            mixed = (scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v).transpose(0, 1).flatten(1)
            x = self.norm(f"{own}.norm1", x + self.linear(f"{own}.self_attn.out_proj", mixed))
            wide = self.linear(f"{own}.linear1", x).relu()
            x = self.norm(f"{own}.norm2", x + self.linear(f"{own}.linear2", wide))
        return x

    def tower(self, name, head, frames, text, states, length, stage=None):
        count = len(frames)
        seen = self.linear(f"{name}.visual_proj", frames)
        seen[0] += self.state[f"{name}.first_pos"][0]
        streams = [seen, self.linear(f"{name}.lang_proj", text).expand(count, -1)]
        streams.append(self.linear(f"{name}.state_proj", states))
        if stage is not None:
            streams.append(torch.cat((stage, torch.zeros(count, seen.shape[1] - stage.shape[1])), 1))
        tokens = torch.cat(streams)
        ahead = torch.ones(len(tokens), len(tokens), dtype=torch.bool).triu(1)
        padding = (torch.arange(count) >= length).repeat(len(streams))
        x = self.encoded(name, tokens, ahead | padding[None])
        fused = torch.cat(x.chunk(len(streams)), 1)
        fused = self.linear(f"{name}.fusion_backbone.1", self.norm(f"{name}.fusion_backbone.0", fused)).relu()
        return self.linear(f"{name}.heads.{head}", fused)

    @torch.no_grad()
    def progress(self, clip, states, at, head):
        last = len(clip) - 1
        places = [min(max(at + GAP * n, 0), last) for n in range(-WINDOW // 2, WINDOW // 2 + 1)]
        black = [np.zeros_like(clip[0])] * REWINDS
        pictures = [Image.fromarray(frame) for frame in (*clip[places], *black)]
        pixels = self.images(images=pictures, return_tensors="pt")["pixel_values"]
        frames = self.clip.get_image_features(pixel_values=pixels)
        text = self.clip.get_text_features(**self.words([TASK], return_tensors="pt"))
        frames, text = (one if isinstance(one, torch.Tensor) else one.pooler_output for one in (frames, text))
        known = torch.zeros(len(places) + REWINDS, 6)
        if states is not None:
            row = (torch.tensor(states[places]) - torch.tensor([0.5, -1.0, 2.0])) / (
                torch.tensor([0.5, 2.0, 0.0]) + 1e-8
            )
            known[: len(places), :3] = row.float()
        logits = self.tower("stage_model", head, frames, text, known, len(places))
        stage = logits.argmax(-1)
        one_hot = F.one_hot(stage, STAGES[head]).float()
        tau = self.tower("subtask_model", head, frames, text, known, len(places), one_hot).sigmoid()[:, 0]
        middle = WINDOW // 2
        edges = np.concatenate([[0], np.cumsum(SHARES[head]) / np.sum(SHARES[head])])
        number, share = int(stage[middle]), float(tau[middle])
        return number, float(edges[number] + share * (edges[number + 1] - edges[number]))


@pytest.fixture(scope="module")
def published(args):
    return Published(args)


@pytest.mark.parametrize(("head", "states"), [("sparse", "steps"), ("dense", "steps"), ("sparse", "zeros")])
def test_progress_is_the_published_one_at_every_frame(engine, published, args, head, states):
    reward = load("sarm", **args, head=head, states=states, frames="all")
    (score,) = engine.score([sample(0)], reward)["sarm"]
    given = robot_states(0) if states == "steps" else None
    wanted = [published.progress(film(0), given, at, head) for at in range(FRAMES)]
    curve = [score.parts[f"frame_{n}"] for n in range(FRAMES)]
    assert curve == pytest.approx([progress for _, progress in wanted], abs=1e-5)
    assert [score.parts[f"stage_frame_{n}"] for n in range(FRAMES)] == [stage for stage, _ in wanted]
    assert score.value == pytest.approx(wanted[-1][1], abs=1e-5) and score.parts["stages"] == STAGES[head]
    assert len({round(p, 4) for _, p in wanted}) > 3, "the frames differ"


def test_a_clip_is_judged_as_its_frames_and_in_any_company(engine, args):
    reward = load("sarm", **args, states="zeros", frames="3")
    clips = [Sample(id=str(n), prompt=TASK, video=Media(film(n), "video", fps=1.0)) for n in range(3)]
    together = [score.value for score in engine.score(clips, reward)["sarm"]]
    engine.cache.clear()
    alone = [engine.score([one], reward)["sarm"][0].value for one in clips]
    assert together == pytest.approx(alone, abs=1e-5)
    (steps,) = engine.score([sample(0, with_states=False)], reward)["sarm"]
    assert steps.value == pytest.approx(together[0], abs=1e-5)


def test_of_several_cameras_it_looks_through_the_one_that_it_was_trained_on(engine, args):
    reward = load("sarm", **args, states="zeros", frames="3")

    def seen(*views):
        steps = [dict(zip(views, map(Media, shots), strict=True)) for shots in zip(*films, strict=True)]
        return Sample(prompt=TASK, steps=tuple({"observation": step} for step in steps))

    films = film(1), film(0)
    (alone,) = engine.score([sample(0, with_states=False)], reward)["sarm"]
    (both,) = engine.score([seen("wrist", "top")], reward)["sarm"]
    assert both.value == pytest.approx(alone.value, abs=1e-5)
    (neither,) = engine.score([seen("wrist", "side")], reward)["sarm"]
    assert neither.status == "missing" and "name one view" in neither.note


def test_states_that_are_missing_or_no_numbers_are_said_by_their_step(engine, args):
    reward = load("sarm", **args)

    def noted(*steps):
        (score,) = engine.score([Sample(prompt=TASK, steps=steps)], reward)["sarm"]
        return score.status, score.note

    seen = {"observation": Media(film(0)[0])}
    assert noted(seen) == ("missing", "step 0 has no state; say states=zeros to go without")
    status, note = noted({**seen, "state": [1.0, 2.0, float("nan")]})
    assert status == "unparsable" and "step 0" in note
    status, note = noted({**seen, "state": [1.0, 2.0, 3.0]}, {**seen, "state": [1.0, 2.0]})
    assert status == "unparsable" and "different lengths" in note
    with pytest.raises(Unavailable, match="states of 3 numbers, and these have 2"):
        noted({**seen, "state": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("changed", "given", "words"),
    [
        ({"type": "robometer"}, {}, "'robometer', not sarm"),
        ({"num_dense_stages": None}, {"head": "dense"}, "without a dense head"),
        ({"sparse_temporal_proportions": [0.5, 0.5]}, {}, "shares of 3 stages"),
        ({"image_dim": 32}, {}, "takes 32 numbers of pictures"),
        ({"num_sparse_stages": 4, "sparse_temporal_proportions": None}, {}, "heads.sparse"),
        ({"n_obs_steps": 0}, {}, "n_obs_steps: 0"),
    ],
)
def test_another_format_is_refused_by_name(engine, args, tmp_path, changed, given, words):
    weights = save_sarm(tmp_path / "weights", DIM, **changed)
    with pytest.raises(Unavailable, match=words):
        engine.score([sample(0)], load("sarm", **(args | {"weights": weights}), **given))


def test_states_are_taken_as_they_are_where_nothing_says_how_they_were_normalised(engine, args, tmp_path):
    weights = Path(save_sarm(tmp_path / "weights", DIM))
    (weights / "policy_preprocessor.json").unlink()
    (plain,) = engine.score([sample(0)], load("sarm", **(args | {"weights": str(weights)})))["sarm"]
    (scaled,) = engine.score([sample(0)], load("sarm", **args))["sarm"]
    assert plain.ok and abs(plain.value - scaled.value) > 1e-6


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"head": "x"}, "'sparse' or 'dense'"),
        ({"states": "x"}, "'steps' or 'zeros'"),
        ({"gap": -1}, "gap is"),
    ],
)
def test_arguments_are_checked(args, given, words):
    with pytest.raises(ValueError, match=words):
        load("sarm", **args, **given)


def test_weights_that_lack_a_network_are_refused(engine, args, tmp_path):
    weights = Path(save_sarm(tmp_path / "weights", DIM))
    state = load_file(weights / "model.safetensors")
    save_file({k: v for k, v in state.items() if not k.startswith("subtask")}, weights / "model.safetensors")
    with pytest.raises(Unavailable, match="subtask_model"):
        engine.score([sample(0)], load("sarm", **(args | {"weights": str(weights)})))
