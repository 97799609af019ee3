"""MPS from a tiny random checkpoint in the format of its tensors, against a second writing of it."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mmreward import Engine, Media, Sample, load
from mmreward.errors import Unavailable
from mmreward.evals.published import checkpoints
from mmreward.evals.published.cases import PICTURES
from mmreward.evals.published.second import SECOND
from mmreward.rewards.learned.mps import CONDITION

PROMPTS = ("a red circle", "Two blue squares, & a FOX!", "words, things", "x", "a red circle " * 30)
SAMPLES = [
    Sample(id=str(row), prompt=prompt, image=Media(PICTURES[row])) for row, prompt in enumerate(PROMPTS)
]


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    return checkpoints.save_mps(tmp_path_factory.mktemp("mps") / "files")


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def values(engine, reward, samples=SAMPLES):
    engine.cache.clear()
    scores = engine.score(samples, reward)["mps"]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return np.array([score.value for score in scores])


def failure(engine, **args):
    with pytest.raises(Unavailable) as caught:
        engine.score(SAMPLES[:1], load("mps", **args))
    return str(caught.value)


def test_it_is_the_publishers_number(engine, args):
    with torch.no_grad():
        second = SECOND["mps"](args)
        want = [second.value(PICTURES[row], prompt) for row, prompt in enumerate(PROMPTS)]
    got = values(engine, load("mps", **args))
    np.testing.assert_allclose(got, want, atol=2e-5, rtol=0)
    assert np.ptp(got) > 0.1


def test_the_neighbours_do_not_move_a_score(engine, args):
    """The published code takes the largest likeness over the batch; these prompts' own differ widely."""
    reward = load("mps", **args)
    together = values(engine, reward)
    np.testing.assert_allclose(values(engine, reward, SAMPLES[::-1])[::-1], together, atol=1e-5, rtol=0)
    alone = [values(engine, reward, [sample])[0] for sample in SAMPLES]
    np.testing.assert_allclose(alone, together, atol=1e-5, rtol=0)
    module, tokens = reward.networks[0].module, reward.networks[0].tokenize(PROMPTS)
    with torch.no_grad():
        words = module.model.text_projection(module.model.text_model(tokens.tensors[0]).last_hidden_state)
        wanted = module.model.text_projection(
            module.model.text_model(tokens.tensors[1][:1]).last_hidden_state
        )[0]
        likeness = (words @ wanted.T).amax(-1)
    own = likeness / likeness.amax(-1, keepdim=True) > 0.3
    assert ((likeness / likeness.max() > 0.3) != own).any()  # so that the largest of all would hide others
    assert own.any(-1).all() and not own.all()


def test_the_threshold_of_the_publishers_forward_gives_other_numbers(engine, args):
    one, other = (values(engine, load("mps", **args, threshold=least)) for least in (0.3, 0.01))
    assert np.abs(one - other).max() > 1e-3


def test_by_tensor_it_has_the_gradient(engine, args):
    reward, second = load("mps", resize="tensor", **args), SECOND["mps"](args)
    for row in (0, 3):
        pixels = torch.from_numpy(np.array(PICTURES[row])).permute(2, 0, 1)[None].float() / 255
        ours, theirs = (pixels.clone().requires_grad_() for _ in range(2))
        value = reward.score_tensor(ours, [PROMPTS[row]])
        assert value.item() == pytest.approx(values(engine, reward, [SAMPLES[row]])[0], abs=1e-5)
        value.sum().backward()
        second.tensor(theirs, PROMPTS[row]).sum().backward()
        scale = float(theirs.grad.abs().max())
        torch.testing.assert_close(ours.grad / scale, theirs.grad / scale, atol=1e-4, rtol=0)
        assert scale > 0


def test_long_prompts_are_cut_and_that_is_said(engine, args):
    scores = engine.score(SAMPLES, load("mps", **args))["mps"]
    assert [score.parts["truncated"] for score in scores] == [0, 0, 0, 0, 1]


def test_the_publishers_own_names_do_as_well(engine, args, tmp_path):
    state = {name.removeprefix("mps."): one for name, one in load_file(args["weights"]).items()}
    state["model.text_model.embeddings.position_ids"] = torch.arange(77)[None]  # of older transformers
    save_file(state, tmp_path / "own.safetensors")
    other = load("mps", **args | {"weights": str(tmp_path / "own.safetensors")})
    np.testing.assert_allclose(values(engine, other), values(engine, load("mps", **args)), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("mps.model.logit_scale"), r"1 tensors missing \(model.logit_scale\)"),
        (lambda s: s.update(other=torch.ones(2)), r"1 tensors unexpected \(other\)"),
        (lambda s: s.pop("mps.cross_model.layers.0.0.fn.to_q.weight"), "no MPS: .*to_q.weight"),
        (lambda s: s.update({"mps.model.visual_projection.weight": torch.ones(3, 3)}), "another shape"),
    ],
)
def test_another_file_is_refused_by_name(engine, args, tmp_path, change, said):
    state = load_file(args["weights"])
    change(state)
    save_file(state, tmp_path / "other.safetensors")
    assert re.search(said, failure(engine, **args | {"weights": str(tmp_path / "other.safetensors")}))


@pytest.mark.parametrize("threshold", [-0.1, 1.0])
def test_a_threshold_that_hides_all_or_none_is_refused(args, threshold):
    with pytest.raises(ValueError, match=f"threshold .*not {threshold}"):
        load("mps", **args, threshold=threshold)


def test_offline_it_names_what_to_fetch_without_the_weights_of_the_clip(monkeypatch, tmp_path, args):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"`hf download RE-N-Y/mpsv1 model.safetensors`"):
        load("mps")
    with pytest.raises(ValueError, match=r"`hf download laion/CLIP-ViT-H-14-\S+ config.json preproc"):
        load("mps", weights=args["weights"])


def test_the_condition_is_the_published_one():
    assert len(CONDITION.split(", ")) == 22 and CONDITION.startswith("light,") and CONDITION.endswith("s.")
