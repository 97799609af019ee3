"""NORA-1.5's reward on a tiny V-JEPA 2-AC in its publisher's file format, against a second writing of both
publishers' lines."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmreward import Engine, Sample, load
from mmreward.engine.batching import Budget
from mmreward.errors import Unavailable
from mmreward.evals.published import vjepa
from mmreward.evals.published.readers import pictures_of
from mmreward.models.conversion import tensors_in
from mmreward.models.wants import collecting
from mmreward.rewards.robot.nora import URL, poses

CANDIDATES = vjepa.candidates()
FIVE = next(sample for sample in CANDIDATES if len(sample.steps) == 5)
AUTHORS = {"states": "zeros", "horizon": 4}


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    return vjepa.save_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def world(args):
    return vjepa.NaiveWorld(args["weights"])


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


def scored(engine, samples, args, **more):
    return engine.score(samples, load("nora", **args, **more))["nora"]


def one(engine, sample, args, **more):
    (score,) = scored(engine, [sample], args, **more)
    return score


def with_actions(sample, actions):
    first = {key: value for key, value in sample.steps[0].items() if key != "action"}
    steps = [{"action": list(map(float, action))} for action in actions]
    return replace(sample, steps=({**first, **steps[0]}, *steps[1:]))


def test_values_are_those_of_the_second_writing(engine, args):
    naive = vjepa.combined(args)
    theirs = [naive.value(sample) for sample in CANDIDATES]
    scores = scored(engine, CANDIDATES, args)
    assert [score.value for score in scores] == pytest.approx(theirs, abs=1e-5)
    assert np.std(theirs) > 0.01, "equal values would prove nothing"
    assert [score.parts["rolled"] for score in scores] == [1, 3, 5, 2, 2]
    for score in scores:
        assert score.value == pytest.approx(score.parts["energy"] + 0.1 * score.parts["deviation"])


def test_the_authors_labels_are_their_numbers_and_do_not_see_the_fifth_action(engine, args, world):
    draw = np.random.default_rng(2)
    chunks = draw.uniform(-1, 1, (4, 5, 7))
    chunks[3, :4] = chunks[0, :4]
    rows = [with_actions(FIVE, chunk) for chunk in chunks]
    now, goal = map(vjepa.square, pictures_of(FIVE))
    energies = [world.energy(now, goal, chunk[:4], np.zeros((4, 7))) for chunk in chunks]
    apart = np.abs(chunks - np.array(FIVE.target)[:5]).mean((1, 2))
    scores = scored(engine, rows, args, **AUTHORS)
    assert [-score.value for score in scores] == pytest.approx(np.add(energies, 0.1 * apart), abs=1e-5)
    assert scores[0].parts["energy"] == pytest.approx(scores[3].parts["energy"], abs=1e-6)
    whole = scored(engine, rows, args, states="zeros")
    assert abs(whole[0].parts["energy"] - whole[3].parts["energy"]) > 1e-5


def test_frames_are_embedded_as_transformers_does_it(engine, args):
    from transformers import VJEPA2Config, VJEPA2Model

    config = VJEPA2Config(
        patch_size=vjepa.PATCH, crop_size=vjepa.SIDE, frames_per_clip=2, tubelet_size=2, in_chans=3,
        hidden_size=vjepa.WIDTH, num_attention_heads=2, num_hidden_layers=vjepa.DEPTH,
        mlp_ratio=vjepa.INNER / vjepa.WIDTH, pred_num_hidden_layers=1, pred_hidden_size=64,
        pred_num_attention_heads=1,
    )  # fmt: skip
    state = torch.load(args["weights"], weights_only=True)["encoder"]
    named = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.").replace("patch_embed", "embeddings.patch_embeddings")
        name = name.replace("blocks.", "layer.").replace("norm.", "layernorm.").replace("attn.", "attention.")
        if "qkv" in name:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                named[name.replace("qkv", part)] = piece
        else:
            named[name] = tensor
    model = VJEPA2Model(config).eval()
    model.encoder.load_state_dict(named)
    (net,) = load("nora", **args).networks
    for sample in (CANDIDATES[0], CANDIDATES[3]):
        clip = vjepa.square(pictures_of(sample)[0])[None, None].repeat(1, 2, 1, 1, 1)
        with torch.no_grad():
            found = model.encoder(clip).last_hidden_state[0]
        wanted = torch.nn.functional.layer_norm(found, (vjepa.WIDTH,))
        assert np.abs(engine.run(net.frame(sample.image)) - wanted.numpy()).max() < 1e-4


def test_values_do_not_depend_on_the_batch(engine, args):
    together = [score.value for score in scored(engine, CANDIDATES, args)]
    alone = [one(engine, sample, args).value for sample in CANDIDATES]
    with Engine("cpu", budget=Budget(items=2), cache_bytes=0) as other:
        backward = [score.value for score in scored(other, CANDIDATES[::-1], args)]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backward[::-1] == pytest.approx(together, abs=1e-5)


def test_candidates_of_one_moment_share_their_frames(engine, args):
    reward, rows = load("nora", **args), []
    encoder = reward.networks[0].module.encoder
    hook = encoder.register_forward_hook(lambda module, given, _: rows.append(len(given[0])))
    draw = np.random.default_rng(0)
    engine.score([with_actions(FIVE, draw.normal(0, 1, (3, 7))) for _ in range(6)], reward)
    hook.remove()
    assert sum(rows) == 2


def test_deviation_alone_needs_neither_weights_nor_pictures(engine):
    with collecting() as wants:
        load("nora", how="deviation")
    assert wants == [] and load("nora", how="deviation").info.needs == ("steps", "target")
    score = one(engine, Sample(steps=({"action": [0, 1]},), target=[[0.5, 1], [9, 9]]), {"how": "deviation"})
    assert (score.value, dict(score.parts)) == (-0.25, {"deviation": -0.25})


def test_energy_alone_reads_no_reference(engine, args):
    reward = load("nora", **args, how="energy")
    assert reward.info.range == (-2.0, 0.0) and reward.info.needs == ("steps", "inputs")
    score = one(engine, replace(FIVE, target=None), args, how="energy")
    assert score.value == score.parts["energy"] == one(engine, FIVE, args).parts["energy"]
    assert "deviation" not in score.parts


def test_of_a_recorded_episode_the_last_frame_is_the_goal(engine, args):
    frames = [FIVE.image, FIVE.image, FIVE.inputs[0]]
    shown = [{**step, "observation": frame} for step, frame in zip(FIVE.steps, frames, strict=False)]
    del shown[2]["action"]
    episode = Sample(steps=tuple(shown))
    recorded = one(engine, episode, args, how="energy", goal="last")
    assert (
        recorded.value
        == one(engine, with_actions(FIVE, [s["action"] for s in shown[:2]]), args).parts["energy"]
    )
    for steps in (shown[:1], [shown[0], {"action": [0.0] * 7}]):
        score = one(engine, Sample(steps=tuple(steps)), args, how="energy", goal="last")
        assert score.status == "missing" and ("one frame" in score.note or "before the last" in score.note)


# --- typed failures -----------------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"steps": ({"state": [0.0] * 7},)}, "missing", "step 0 has no action"),
        ({"steps": (*FIVE.steps, {})}, "missing", "step 5 has no action"),
        ({"steps": (*FIVE.steps, {"action": [NAN] * 7})}, "unparsable", "step 5: its action is no list"),
        ({"steps": (*FIVE.steps, {"action": "up"})}, "unparsable", "step 5: its action is no list"),
        ({"steps": (*FIVE.steps, {"action": [[0.0] * 7]})}, "unparsable", "step 5: its action is no list"),
        ({"steps": (*FIVE.steps, {"action": [0.0] * 6})}, "unparsable", "actions have different lengths"),
        ({"steps": ({"action": [0.0] * 7},)}, "missing", "step 0 has no state; say states=zeros"),
        ({"steps": ({"action": [0.0] * 7, "state": [0.0] * 3},)}, "unparsable", "the state has 3 numbers"),
        (
            {"steps": ({"action": [1e300] * 7, "state": [0.0] * 7},)},
            "out_of_range",
            "the energy is no number",
        ),
        ({"steps": tuple(FIVE.steps[:1]) * 33, "target": [[0.0] * 7] * 33}, "error", "say horizon=N"),
        ({"target": [[0.0] * 7] * 4}, "unparsable", "the target has 4 actions, and the chunk 5"),
        ({"target": [[0.0] * 6] * 5}, "unparsable", "actions of the target have 6 numbers"),
        ({"target": [[NAN] * 7] * 5}, "unparsable", "the target: step 0"),
        ({"target": "as shown"}, "unparsable", "the target has 0 actions"),
        ({"target": None}, "missing", "no target"),
        ({"inputs": ()}, "missing", "no inputs"),
        ({"image": None}, "missing", "no steps with an observation"),
    ],
)
def test_a_row_fails_with_its_reason_and_alone(engine, args, change, status, words):
    failed, fine = scored(engine, [replace(FIVE, **change), CANDIDATES[3]], args)
    assert failed.status == status and words in failed.note, failed
    assert fine.ok


def test_actions_of_another_robot_are_refused_by_their_length(engine, args):
    short = with_actions(replace(FIVE, target=[[0.0] * 6] * 5), np.zeros((5, 6)))
    failed, fine = scored(engine, [short, FIVE], args, states="zeros")
    assert failed.status == "unparsable" and "6 numbers, and the world model was trained on 7" in failed.note
    assert fine.ok


@pytest.mark.parametrize(
    ("given", "words"),
    [({"how": "x"}, "'both'"), ({"goal": "x"}, "'picture'"), ({"states": "x"}, "'steps'"),
     ({"horizon": 33}, "horizon is 33"), ({"scale": -1.0}, "scale is -1")],
)  # fmt: skip
def test_arguments_are_checked(args, given, words):
    with pytest.raises(ValueError, match=words):
        load("nora", **args, **given)


# --- files --------------------------------------------------------------------------------------------------


def test_a_predictor_of_ones_own_stands_in_its_place(engine, args, tmp_path):
    other = torch.load(vjepa.save_world(tmp_path / "other", seed=5)["weights"], weights_only=True)[
        "predictor"
    ]
    own = {name.removeprefix("module."): tensor for name, tensor in other.items()}
    torch.save(own, tmp_path / "own.pt")
    save_file(own, tmp_path / "own.safetensors")
    world = vjepa.NaiveWorld(args["weights"], str(tmp_path / "own.pt"))
    now, goal = map(vjepa.square, pictures_of(FIVE))
    wanted = world.energy(now, goal, [step["action"] for step in FIVE.steps][:4], np.zeros((4, 7)))
    for file in ("own.pt", "own.safetensors"):
        score = one(engine, FIVE, args, predictor=str(tmp_path / file), **AUTHORS)
        assert -score.parts["energy"] == pytest.approx(wanted, abs=1e-5)
    fingerprints = {
        load("nora", **args, predictor=str(tmp_path / f"own.{kind}")).fingerprint
        for kind in ("pt", "safetensors")
    }
    assert len(fingerprints | {load("nora", **args).fingerprint}) == 3
    del own["action_encoder.weight"]  # upstream loads what is there, and leaves the rest to chance
    save_file(own, tmp_path / "part.safetensors")
    with pytest.raises(Unavailable, match="action_encoder"):
        one(engine, FIVE, args, predictor=str(tmp_path / "part.safetensors"))


def test_another_file_is_refused(engine, args, tmp_path):
    whole = torch.load(args["weights"], weights_only=True)
    for change, said in (
        ({"predictor": None}, "has no predictor"),
        ({"predictor": {"module.x": torch.ones(1)}}, "no 'predictor.predictor_embed.weight'"),
        ({"encoder": {**whole["encoder"], "module.more": torch.ones(1)}}, "unexpected .encoder.more"),
    ):
        torch.save(whole | change, tmp_path / "other.pt")
        with pytest.raises(Unavailable, match=said):
            one(engine, FIVE, {"weights": str(tmp_path / "other.pt")})
        (tmp_path / "other.pt").unlink()


def test_a_file_that_runs_code_is_read_without_it(engine, args, tmp_path):
    whole = torch.load(args["weights"], weights_only=True)
    file = tmp_path / "training.pt"
    torch.save(whole | {"config": pytest.approx(1.0)}, file)
    with pytest.raises(Unavailable, match=rf"python -m mmreward.models.conversion {file} "):
        one(engine, FIVE, {"weights": str(file)})
    save_file(tensors_in(file), tmp_path / "training.safetensors")
    value = one(engine, FIVE, {"weights": str(tmp_path / "training.safetensors")}).value
    assert value == pytest.approx(one(engine, FIVE, args).value, abs=1e-6)


def test_the_published_file_is_what_is_fetched():
    with collecting() as wants:
        load("nora", predictor="declare-lab/own/predictor.safetensors")
    assert [(want.kind, want.name) for want in wants] == [
        ("url", URL),
        ("local", str(wants[0].to)),
        ("hub file", "declare-lab/own/predictor.safetensors"),
    ]
    json.dumps(load("nora", how="deviation").info.example)


def test_poses_follow_one_another():
    start, turn = np.array([1.0, 2, 3, 0, 0, 0, 0.9]), np.array([0.1, 0, -0.1, 0, 0, np.pi / 2, 0.4])
    found = poses(start, np.stack([turn, turn, turn]))
    assert found[0] == pytest.approx(start)
    assert found[1] == pytest.approx([1.1, 2, 2.9, 0, 0, np.pi / 2, 1.0])
    assert np.abs(found[2, 5]) == pytest.approx(np.pi) and found[2, 6] == 1.0
    draw = np.random.default_rng(1).normal(0, 1, (2, 7))
    assert poses(draw[0], draw[[1, 1]])[1] == pytest.approx(vjepa.summed(list(draw[0]), list(draw[1])))
