"""`mmreward fit head`, and the reward that reads what it writes."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from mmreward import Engine, Media, Sample, load, models
from mmreward.assets import ASSETS
from mmreward.cli import app
from mmreward.data.pair_folder import PreferencePair, read_pairs, write_pairs
from mmreward.judges.comparison import comparisons
from mmreward.mini.world import describe, render, sample_scene
from mmreward.models.preferences import PreferenceHead
from mmreward.tune.config import PromptsConfig
from mmreward.tune.data import load_pairs
from mmreward.tune.fit_head import fit_head
from mmreward.tune.fit_loop import EmbeddedPairs, HeadSettings, examined, fitted, losses
from mmreward.tune.grading import Grading
from mmreward.tune.journal import Timeline
from mmreward.tune.losses import design_matrix

PROMPTS = 60


def dimmed(picture):
    """A picture in a style that is preferred here, and that the cosine with the prompt likes less."""
    return Media((0.55 * np.asarray(picture) + 60).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Per prompt a dim picture that is preferred to a clear one, and a tie; one pair cannot be used."""
    rng, pairs, seen = np.random.default_rng(0), [], set()
    while len(seen) < PROMPTS:
        scene = sample_scene(rng)
        prompt = str(describe(scene))
        if prompt in seen:
            continue
        seen.add(prompt)
        clear, again = (render(sample_scene(rng, [t.kind for t in scene.things]), 32) for _ in range(2))
        half = {"margin": 0.5, "tie": False}
        pairs.append(PreferencePair(prompt=prompt, chosen=dimmed(again), rejected=Media(clear), facts=half))
        both = {"margin": 0, "tie": True}
        pairs.append(PreferencePair(prompt=prompt, chosen=Media(clear), rejected=Media(again), facts=both))
    folder = tmp_path_factory.mktemp("compared") / "pairs"
    clips = [Media(np.zeros((4, 8, 8, 3), np.uint8) + i, "video", fps=4.0) for i in (0, 9)]
    unusable = PreferencePair(prompt="a clip", chosen=clips[0], rejected=clips[1], facts={"margin": 1})
    write_pairs(folder, pairs)
    lines = (folder / "metadata.jsonl").read_text()
    write_pairs(folder.with_name("clips"), [unusable])
    for file in (folder.with_name("clips") / "media").iterdir():
        shutil.copy(file, folder / "media")
    (folder / "metadata.jsonl").write_text(lines + (folder.with_name("clips") / "metadata.jsonl").read_text())
    return folder


def command(folder, out, *more):
    arguments = ["fit", "head", folder, "--backbone", "mini-clip", "--out", out, "--device", "cpu", *more]
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def heads(folder, tmp_path_factory):
    """A head by every loss, fitted with the command, and what it printed."""
    out, done = tmp_path_factory.mktemp("heads"), {}
    for loss in ("bt", "btt", "margin", "uncertainty", "integrated"):
        result = command(folder, out / loss, "--loss", loss, "--steps", 75)
        assert result.exit_code == 0
        done[loss] = str(out / loss), result.output
    return done


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(5)
    drawn = [sample_scene(rng) for _ in range(5)]
    scenes = [(str(describe(scene)), Media(render(scene, 64))) for scene in drawn]
    return [Sample(id=str(n), prompt=prompt, image=image) for n, (prompt, image) in enumerate(scenes)]


def slow(folder, sample):
    """The head's lines for one picture, in float64 by numpy: scale cos + MLP, and its uncertainty."""
    facts, state = (
        json.loads((Path(folder) / "head.json").read_text()),
        load_file(Path(folder) / "head.safetensors"),
    )
    state = {name: tensor.double().numpy() for name, tensor in state.items()}
    encoder = models.clip("mini-clip")
    with torch.no_grad():
        image = encoder.embed_pixels(sample.image.pixels()[None].float() / 255)[0].double().numpy()
        text = encoder.embed_texts([sample.prompt])[0].double().numpy()
    width = len(image)
    hidden = np.concatenate([np.sqrt(width) * image, np.sqrt(width) * text, width * image * text])
    for layer in ("body.0", "body.2"):
        hidden = state[f"{layer}.weight"] @ hidden + state[f"{layer}.bias"]
        hidden = hidden / (1 + np.exp(-hidden))
    last = state["last.weight"] @ hidden + state["last.bias"]
    value = state["scale"] * (image @ text) + last[0]
    normal = facts["loss"] in ("uncertainty", "integrated")
    return value, np.exp(min(last[1], 3)) if normal else np.linalg.norm(state["precision"] @ hidden)


@pytest.mark.parametrize("loss", ["bt", "uncertainty"])
def test_the_reward_is_the_function_of_the_folder_both_ways_and_has_a_gradient(heads, engine, samples, loss):
    reward = load("head", fitted=heads[loss][0])
    scores = engine.score(samples, reward)["head"]
    expected = [slow(heads[loss][0], sample) for sample in samples]
    assert [score.value for score in scores] == pytest.approx([value for value, _ in expected], abs=1e-4)
    doubts = [score.parts["uncertainty"] for score in scores]
    assert doubts == pytest.approx([doubt for _, doubt in expected], rel=1e-3)
    pixels = torch.stack([sample.image.pixels() for sample in samples]).float() / 255
    leaf = pixels.requires_grad_()
    values = reward.score_tensor(leaf, [sample.prompt for sample in samples])
    torch.testing.assert_close(values.tolist(), [score.value for score in scores], atol=1e-4, rtol=0)
    values.sum().backward()
    assert (leaf.grad.abs().amax((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("loss", ["bt", "uncertainty"])
def test_a_picture_scores_the_same_alone_and_in_any_batch(heads, engine, samples, loss):
    reward = load("head", fitted=heads[loss][0])
    engine.cache.clear()
    together = engine.score(samples, reward)["head"]
    for sample, score in zip(samples, together, strict=True):
        engine.cache.clear()
        (alone,) = engine.score([sample], reward)["head"]
        assert alone.value == pytest.approx(score.value, rel=1e-6, abs=1e-5)
        assert alone.parts["uncertainty"] == pytest.approx(score.parts["uncertainty"], abs=1e-5)


def accuracies(output):
    """Cosine and head, of the two lines that the command prints."""
    lines = [line.split() for line in output.splitlines() if line.startswith("  ")]
    return float(lines[0][-4]), float(lines[1][-4])


def test_a_fit_learns_what_the_pairs_say_and_holds_prompts_out(heads):
    for loss, (_, output) in heads.items():
        before, after = accuracies(output)
        assert before < 0.5 and after > 0.9, loss
        counts = output.splitlines()[1]
        fitted_on, stopping, held = (
            int(n) for n in (counts.split()[0], counts.split()[4], counts.split()[10])
        )
        rows = PROMPTS * (2 if loss == "btt" else 1)
        assert (fitted_on + stopping + held, held) == (rows, rows // 5)
        assert "1 unusable, such as: the pair is of clips, and a head looks at pictures" in counts
        assert (f"{PROMPTS} ties left out" in counts) == (loss != "btt")


def random_pairs(number=48, width=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    three = torch.nn.functional.normalize(torch.randn(3, number, width, generator=draw), dim=-1)
    ties = torch.arange(number) % 3 == 0
    return EmbeddedPairs(
        *three, torch.rand(number, generator=draw), ties, [f"prompt {i}" for i in range(number)]
    )


@pytest.mark.parametrize(
    "settings",
    [
        HeadSettings(loss="bt"),
        HeadSettings(loss="btt", ties=3.0),
        HeadSettings(loss="margin"),
        HeadSettings(loss="margin", margin="pairs"),
        HeadSettings(loss="uncertainty"),
        HeadSettings(loss="integrated"),
    ],
    ids=str,
)
def test_the_loss_of_a_fit_is_the_one_that_was_named(settings):
    pairs = random_pairs()
    torch.manual_seed(0)
    head = PreferenceHead(6, 8, normal=settings.loss in ("uncertainty", "integrated"), scale=2.0)
    torch.nn.init.normal_(head.last.weight)
    head.requires_grad_(False)
    found = losses(head, pairs, settings)
    for row, loss in enumerate(found.tolist()):
        chosen = head(pairs.chosen[row, None], pairs.texts[row, None])
        rejected = head(pairs.rejected[row, None], pairs.texts[row, None])
        d = float(chosen.mean - rejected.mean)
        if settings.loss == "btt":
            win, lose = 1 / (1 + 3 * np.exp(-d)), 1 / (1 + 3 * np.exp(d))
            expected = -np.log(1 - win - lose if pairs.ties[row] else win)
        elif settings.loss == "bt":
            expected = np.logaddexp(0, -d)
        elif settings.loss == "margin":
            lead = float(pairs.margins[row]) if settings.margin == "pairs" else 0.57
            expected = np.logaddexp(0, lead - d)
        else:
            sigma = float(torch.hypot(chosen.log_sigma.exp(), rejected.log_sigma.exp()))
            z = d + sigma * np.random.default_rng(0).standard_normal(100_000)
            drawn = (
                np.logaddexp(0, -z).mean()
                if settings.loss == "uncertainty"
                else -np.log((1 / (1 + np.exp(-z))).mean())
            )
            assert loss == pytest.approx(drawn, abs=0.05)
            continue
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-5)


def cosines(pairs):
    return (pairs.chosen * pairs.texts).sum(-1)


def test_an_unfitted_head_is_the_scaled_cosine_and_so_is_one_whose_fit_never_gains():
    pairs = random_pairs()
    torch.testing.assert_close(
        PreferenceHead(6, 8, scale=3.0)(pairs.chosen, pairs.texts).mean, 3 * cosines(pairs)
    )
    contrary = pairs._replace(chosen=pairs.rejected, rejected=pairs.chosen)
    head, step = fitted(pairs, contrary, HeadSettings(steps=400), 1.0)
    assert step == 0
    values = [head(half, pairs.texts).mean for half in (pairs.chosen, pairs.rejected)]
    expected = head.scale * (cosines(pairs) - cosines(contrary))
    torch.testing.assert_close(values[0] - values[1], expected, atol=1e-6, rtol=1e-4)
    assert float(torch.cat(values).mean()) == pytest.approx(0, abs=1e-6)


def test_equal_values_are_wrong_and_the_surer_half_is_that_of_the_lower_uncertainty():
    pairs = random_pairs()
    same = pairs._replace(rejected=pairs.chosen)
    head = PreferenceHead(6, 8, scale=1.0)
    assert examined(head, same).after.mean == 0
    found = examined(head, pairs)
    assert found.before.mean == found.after.mean and found.after.n == int((~pairs.ties).sum())


def test_the_uncertainty_of_a_plain_head_is_prefpaints():
    pairs = random_pairs()
    head, _ = fitted(pairs, pairs, HeadSettings(hidden=8, steps=30), 1.0)
    values = [head(half, pairs.texts) for half in (pairs.chosen, pairs.rejected)]
    design = design_matrix(torch.cat([each.features for each in values]))
    bound = torch.linalg.solve(design, values[0].features.double().T).norm(dim=0).float()
    torch.testing.assert_close(head.uncertainty(values[0]), bound)


def test_tune_reads_the_uncertainty(heads, engine, samples):
    reward = load("head", fitted=heads["btt"][0])
    grading = Grading(engine, {"mine": reward}, None, Timeline(), ("mine", "uncertainty"))
    grading.begin(range(len(samples)), samples)
    expected = [score.parts["uncertainty"] for score in engine.score(samples, reward)["head"]]
    assert grading.collect().uncertainty.tolist() == pytest.approx(expected)
    assert np.std(expected) > 0


def test_the_same_seed_gives_the_same_head(heads, folder, tmp_path):
    assert command(folder, tmp_path / "again", "--loss", "bt", "--steps", 75).exit_code == 0
    places = (Path(heads["bt"][0]), tmp_path / "again")
    first, second = (load_file(place / "head.safetensors") for place in places)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_backbone_is_refused_in_one_line_and_the_same_weights_elsewhere_are_not(heads, tmp_path):
    copy, changed = tmp_path / "copy", tmp_path / "changed"
    shutil.copytree(ASSETS / "mini-clip", copy)
    shutil.copytree(copy, changed)
    (changed / "tokenizer.json").write_text("{}")
    folder = heads["bt"][0]
    assert load("head", fitted=folder, weights=str(copy))
    with pytest.raises(
        ValueError, match=r"bt was fitted on mini-clip, and .*changed has other weights"
    ) as refused:
        load("head", fitted=folder, weights=str(changed))
    assert "\n" not in str(refused.value) and "--backbone" in str(refused.value)


def test_a_folder_that_is_no_head_is_refused_in_one_line(heads, tmp_path):
    broken = tmp_path / "broken"

    def refused(message):
        with pytest.raises(ValueError, match=message) as found:
            load("head", fitted=str(broken))
        assert "\n" not in str(found.value)

    refused(r"broken is no fitted head: it has no head\.json; `mmreward fit head` makes one")
    shutil.copytree(heads["bt"][0], broken)
    facts = json.loads((broken / "head.json").read_text())
    (broken / "head.json").write_text(json.dumps(facts | {"loss": "mse"}))
    refused(r"head\.json is no fitted head's: loss: ")
    (broken / "head.json").write_text("[" * 5000)
    refused(r"head\.json is no fitted head's: ")
    (broken / "head.json").write_text(json.dumps(facts | {"width": 64}))
    refused(r"does not fit the architecture")
    (broken / "head.json").write_text(json.dumps(facts))
    (broken / "head.safetensors").write_bytes(b"no tensors")
    refused(r"holds no tensors")
    (broken / "head.safetensors").unlink()
    refused(r"it has no head\.safetensors")


def test_a_head_travels_as_long_as_its_folder_is_the_same(heads, samples, tmp_path):
    shutil.copytree(heads["bt"][0], tmp_path / "head")
    network = models.preference_head(str(tmp_path / "head"))
    luggage = pickle.dumps(network)
    pixels, prompts = samples[0].image.pixels()[None].float() / 255, [samples[0].prompt]
    torch.testing.assert_close(
        pickle.loads(luggage).values_of(pixels, prompts), network.values_of(pixels, prompts)
    )
    shutil.rmtree(tmp_path / "head")
    shutil.copytree(heads["margin"][0], tmp_path / "head")
    with pytest.raises(ValueError, match="not those it was sent from"):
        pickle.loads(luggage)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"loss": "mse"}, "loss is one of bt, btt, margin, uncertainty, integrated, not 'mse'"),
        ({"margin": 0.5}, "margin 0.5 belongs to the loss margin, not bt"),
        ({"loss": "margin", "margin": -1.0}, "margin is -1.0"),
        ({"loss": "margin", "margin": "own"}, "margin is a number or 'pairs', not 'own'"),
        ({"ties": 3.0}, "ties 3.0 belongs to the loss btt, not bt"),
        ({"loss": "btt", "ties": 1.0}, "ties is 1.0; it is above 1"),
        ({"steps": 0}, "steps 0 are at least 1"),
    ],
)
def test_wrong_settings_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        HeadSettings(**changed)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--push", "2"), "push 2.0 belongs to d2-align"),
        (("--loss", "margin", "--margin", "wide"), "margin is a number or pairs, not 'wide'"),
    ],
)
def test_wrong_options_are_named(folder, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        command(folder, tmp_path / "head", *more)


def test_unfit_pairs_are_refused(folder, tmp_path, engine):
    def refused(message, settings=None, out="head"):
        with pytest.raises(ValueError, match=message):
            fit_head(tmp_path / "pairs", "mini-clip", tmp_path / out, engine, settings)

    shutil.copytree(folder, tmp_path / "pairs")
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]

    def rewritten(rows):
        (tmp_path / "pairs" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    rewritten(lines[:20])
    refused("10 pairs are usable, and a fit takes 32 at least")
    rewritten([row | {"prompt": f"prompt {i % 7}"} for i, row in enumerate(lines)])
    refused("7 different prompts; a fit takes 20 at least")
    rewritten([row | {"tie": False} for row in lines])
    refused(
        "has no ties, and btt learns from them: `mmreward pairs --ties` keeps them", HeadSettings(loss="btt")
    )
    rewritten([{key: value for key, value in row.items() if key != "margin"} for row in lines])
    refused("pairs without the column margin", HeadSettings(loss="margin", margin="pairs"))
    rewritten([lines[0] | {"tie": "yes"}])
    refused("line 1: tie is 'yes', not true or false")
    (tmp_path / "there").mkdir()
    refused("is there already", out="there")


def test_ties_are_refused_where_a_preference_is_learned(folder):
    with pytest.raises(ValueError, match="pair 1 is a tie, from which DPO would learn a preference"):
        load_pairs(PromptsConfig(data=str(folder), count=10))
    with pytest.raises(ValueError, match="pair 1 is a tie, from which a judge would learn"):
        comparisons(read_pairs(folder)[:10])
