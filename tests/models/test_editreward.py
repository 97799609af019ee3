"""EditReward from a tiny random checkpoint in its published format, against a second writing of the
publisher's lines.
"""

import math
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from support.prompt_files import prompt_file

from mmreward import Media, Sample, load
from mmreward.cli.fetching import wants_of
from mmreward.errors import Unavailable
from mmreward.evals.published import readers, scalars
from mmreward.registry import find
from mmreward.rewards.learned.editreward import pooled

TOKEN = "<|Reward|>"
PIXELS = 200_704
SAMPLES = readers.edits()
ROWS = [(*readers.pictures_of(sample)[::-1], sample.prompt) for sample in SAMPLES]
SOURCES = [ROWS[0][0], ROWS[2][0]]


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    return scalars.save_editreward(tmp_path_factory.mktemp("editreward"))


@pytest.fixture(scope="module")
def naive(args):
    return readers.qwen(args)


def scored(engine, reward, samples=SAMPLES):
    scores = engine.score(samples, reward)[reward.info.name]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return scores


@pytest.mark.parametrize("pooling", ["mean", "min", "sum"])
def test_values_are_those_of_the_publishers_lines(engine, args, naive, pooling):
    for row, score in zip(ROWS, scored(engine, load("editreward", **args, pooling=pooling)), strict=True):
        (mu, log_sigma), each = readers.editreward_logits(naive, *row, pooling)
        assert score.value == pytest.approx(mu, abs=1e-4)
        assert score.parts["uncertainty"] == pytest.approx(math.exp(log_sigma), rel=1e-4)
        assert [score.parts["following"], score.parts["quality"]] == pytest.approx(each, abs=1e-4)


def test_source_and_edit_are_not_the_same(engine, args):
    turned = [
        Sample(prompt=prompt, image=Media(source), inputs=(Media(edited),)) for source, edited, prompt in ROWS
    ]
    ours, swapped = (scored(engine, load("editreward", **args), rows) for rows in (SAMPLES, turned))
    assert all(abs(one.value - other.value) > 1e-3 for one, other in zip(ours, swapped, strict=True))


def test_any_batch_gives_the_same_numbers(engine, args):
    reward, found = load("editreward", **args), []
    for order in (SAMPLES, SAMPLES[::-1], *([sample] for sample in SAMPLES)):
        engine.cache.clear()
        scores = scored(engine, reward, order)
        found += [(row.id, score.value) for row, score in zip(order, scores, strict=True)]
    for row in SAMPLES:
        values = [value for number, value in found if number == row.id]
        assert len(values) == 3 and max(values) - min(values) < 1e-5


def test_a_source_of_several_edits_and_both_prompts_is_looked_at_once(engine, args):
    reward = load("editreward", **args)
    *_, network = reward.networks  # the words come first
    engine.cache.clear()
    network.vision.forget()
    seen = []
    hook = network.module.model.visual.register_forward_pre_hook(
        lambda module, given, named: seen.append(len(named.get("grid_thw", given[-1]))), with_kwargs=True
    )
    scored(engine, reward)
    hook.remove()
    assert sum(seen) == 5  # two sources, three edits


def test_a_row_needs_one_source(engine, args):
    edited = SAMPLES[0].image
    rows = [
        Sample(prompt="x", image=edited, inputs=SAMPLES[0].inputs * 2),
        Sample(prompt="x", image=edited),
        Sample(prompt=f"x {TOKEN}", image=edited, inputs=SAMPLES[0].inputs),
    ]
    two, none, marked = engine.score(rows, load("editreward", **args))["editreward"]
    assert "the row has 2 inputs, and an edit has one source picture" in two.note
    assert not none.ok and "inputs" in none.note and f"contains {TOKEN}" in marked.note
    assert all(math.isnan(score.value) for score in (two, none, marked))


def test_pooling():
    assert pooled([1.0, 4.0], [0.0, -2.0], "mean") == (2.5, -1.0)
    assert pooled([1.0, 4.0], [0.0, -2.0], "min") == (1.0, -2.0)
    mu, log_sigma = pooled([1.0, 4.0], [math.log(3), math.log(4)], "sum")
    assert mu == 5.0 and log_sigma == pytest.approx(math.log(5))


def test_what_does_not_fit_is_said(engine, args, tmp_path):
    state = load_file(args["weights"])
    single = {name: tensor for name, tensor in state.items() if not name.startswith("rm_heads.head_1")}
    save_file(single, tmp_path / "one.safetensors")
    with pytest.raises(Unavailable, match="has 1 heads, and 2 are read"):
        scored(engine, load("editreward", **{**args, "weights": str(tmp_path / "one.safetensors")}))
    folder = str(Path(args["weights"]).parent)  # its model.safetensors has the heads, too
    given = [{**args, "weights": name} for name in (folder, args["weights"])]
    whole, file = (scored(engine, load("editreward", **one)) for one in given)
    assert [score.value for score in whole] == pytest.approx([score.value for score in file], abs=1e-5)
    with pytest.raises(ValueError, match="variant 'qwen'"):
        load("editreward", **args, variant="qwen")
    with pytest.raises(ValueError, match="pooling 'max'"):
        load("editreward", **args, pooling="max")


def test_published_prompts_lie_in_two_files(engine, args, tmp_path):
    rest = {key: value for key, value in args.items() if key != "words"}
    with scalars.stand_ins():
        prompt_file(tmp_path, "editreward following", "editreward quality")
        with pytest.raises(ValueError, match=r"no file at .*data_collator_qwen_edit\.py"):
            load("editreward", **rest, words=str(tmp_path))
        prompt_file(tmp_path, "editreward end")
        found = scored(engine, load("editreward", **rest, words=str(tmp_path)))
    want = scored(engine, load("editreward", **args))
    assert [score.value for score in found] == pytest.approx([score.value for score in want], abs=1e-5)


@pytest.mark.parametrize(("variant", "body"), [("mimo", "XiaomiMiMo/MiMo"), ("qwen2.5", "Qwen/Qwen2.5")])
def test_what_is_fetched(variant, body):
    wants = {want.name: want for want in wants_of("editreward", {"variant": variant})}
    (weights,) = (name for name, want in wants.items() if want.kind == "hub file")
    assert weights.startswith(f"TIGER-Lab/EditReward-{body.partition('/')[2]}")
    assert any(want.kind == "hub" and name.startswith(body) for name, want in wants.items())
    assert sum(want.kind == "url" for want in wants.values()) == 2
    with pytest.raises(ValueError, match="did you mean 'editreward'"):
        find("Edit-Reward")
