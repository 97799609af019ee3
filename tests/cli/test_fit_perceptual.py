"""`mmreward fit perceptual`: steps of a task from a few demonstrations, and the reward that reads them."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mmreward import Media, Sample, load
from mmreward.cli import app
from mmreward.models.step_facts import read_steps
from mmreward.tune.fit_perceptual import Finding, cuts_of, fit_perceptual, labels_of, steps_of

gymnasium = pytest.importorskip("gymnasium")
from mmreward.mini.push import MOVES, Push  # noqa: E402 - needs gymnasium

DEMONSTRATIONS = 4


def solved(env: Push) -> list[np.ndarray]:
    """Pictures of a shortest episode of success from where an environment stands, the goal twice at its
    end."""
    frames, left = [env.render()], env.shortest()
    while left:
        before = env.agent, env.moved
        for move in MOVES:
            env.agent, env.moved = env.after(*before, move)
            if (env.agent, env.moved) != before and env.shortest() == left - 1:
                break
        left -= 1
        frames.append(env.render())
    return [*frames, frames[-1], frames[-1]]


def episodes() -> list[list[np.ndarray]]:
    """Of one layout, from starts five to eight steps away."""
    env, seeds = Push(layout=3, goal="picture"), itertools.count()
    starts = (seed for seed in seeds if 5 <= env.reset(seed=seed)[1]["shortest"] <= 8)
    return [solved(env) for _ in itertools.islice(starts, DEMONSTRATIONS + 2)]


@pytest.fixture(scope="module")
def clips():
    return episodes()


@pytest.fixture(scope="module")
def data(clips, tmp_path_factory):
    """Demonstrations as rows of steps, and a row that shows too little."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("demonstrations")
    rows = []
    for number, frames in enumerate([*clips[:DEMONSTRATIONS], clips[0][:2]]):
        names = [f"{number}-{place}.png" for place in range(len(frames))]
        for name, frame in zip(names, frames, strict=True):
            Image.fromarray(frame).save(folder / name)
        rows.append(
            {"id": f"demo{number}", "prompt": "push", "steps": [{"observation": one} for one in names]}
        )
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("fitted") / "push.json"
    arguments = ["fit", "perceptual", data, "--weights", "mini-clip", "--out", out, "--steps", 3]
    result = CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return str(out), result.output


def test_the_command_says_what_it_found_and_what_it_is_worth(fitted):
    file, said = fitted
    steps = read_steps(file)
    assert len(steps.steps) == 3 and len(steps.steps[0].features) == 32 and steps.width == 128
    assert f"{DEMONSTRATIONS} demonstrations, 1 unusable, such as: demo4: 2 frames" in said
    assert "left out one by one" in said and "VOC" in said
    assert steps.figures["left out"]["voc"] > 0.3, said


def test_the_reward_tells_success_from_failure_where_nothing_said_what_to_look_at(engine, fitted, clips):
    reward = load("perceptual", fitted=fitted[0], frames="all")
    unseen = clips[DEMONSTRATIONS:]

    def scored(frames):
        steps = tuple({"observation": Media(frame)} for frame in frames)
        (score,) = engine.score([Sample(steps=steps)], reward)["perceptual"]
        return score

    for frames in unseen:
        done, undone = scored(frames), scored(frames[:2])
        assert done.value > undone.value and done.parts["gain"] > 0
        assert done.parts["step"] == 2 and done.parts["steps"] == 3
        assert done.value == pytest.approx(done.parts[f"frame_{len(frames) - 1}"])
        turned = scored(frames[::-1])
        assert turned.parts["gain"] == pytest.approx(-done.parts["gain"], abs=1e-5)


def test_the_values_are_those_of_the_formula(engine, fitted, clips):
    from mmreward import models

    steps = json.loads(Path(fitted[0]).read_text())["steps"]
    net = models.clip("mini-clip", resize="pil")
    vector = np.asarray(engine.run(net.image(Media(clips[0][-1]))), float)
    scores = [
        -np.mean([(vector[f] - m) ** 2 / (2 * d**2) for f, m, d in zip(*step.values(), strict=True)])
        for step in steps
    ]
    (score,) = engine.score([Sample(image=Media(clips[0][-1]))], load("perceptual", fitted=fitted[0]))[
        "perceptual"
    ]
    assert [score.parts[f"step_{n}"] for n in range(3)] == pytest.approx(scores, abs=1e-4)
    assert score.value == pytest.approx((2 * scores[1] + 4 * scores[2]) / 6, abs=1e-4)


def test_batches_do_not_change_scores(engine, fitted, clips):
    reward = load("perceptual", fitted=fitted[0])
    samples = [
        Sample(id=str(n), video=Media(np.stack(clip), "video", fps=4.0)) for n, clip in enumerate(clips)
    ]
    together = [score.value for score in engine.score(samples, reward)["perceptual"]]
    engine.cache.clear()
    alone = [engine.score([one], reward)["perceptual"][0].value for one in samples]
    assert together == pytest.approx(alone, abs=1e-5)


def test_the_cuts_are_the_best_of_all():
    frames = np.random.default_rng(0).normal(size=(9, 3)).cumsum(0)

    def spread(cuts):
        return sum(((part - part.mean(0)) ** 2).sum() for part in np.split(frames, cuts))

    for steps, least in ((2, 1), (3, 1), (3, 2), (4, 2)):
        found = cuts_of(frames, steps, least)
        sizes = np.diff([0, *found, 9])
        every = itertools.combinations(range(1, 9), steps - 1)
        allowed = [cuts for cuts in every if np.diff([0, *cuts, 9]).min() >= least]
        assert sizes.min() >= least
        assert spread(found) == pytest.approx(min(map(spread, allowed)))


def test_features_that_tell_a_step_from_the_others_come_first():
    rng = np.random.default_rng(1)
    clip = rng.normal(scale=0.1, size=(12, 4))
    clip[4:8, 2] += 5  # only the second step
    clip[:, 3] = 1.0  # says nothing
    steps = steps_of([clip], [[4, 8]], 2)
    assert steps[1].features[0] == 2 and steps[1].means[0] == pytest.approx(5, abs=0.2)
    assert all(3 not in step.features for step in steps)
    assert labels_of(12, [4, 8]).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    with pytest.raises(ValueError, match="all alike"):
        steps_of([np.ones((6, 4))], [[2, 4]], 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told.update(content="other"), "has other weights: run `mmreward fit perceptual`"),
        (lambda told: told.update(kind="preference head"), "kind"),
        (lambda told: told["steps"][0]["features"].append(500), "not as many means"),
        (lambda told: told.update(width=1), "beyond the 1 of an embedding"),
        (lambda told: told["steps"][1]["deviations"].__setitem__(0, 0.0), "greater than 0"),
        (lambda told: told.update(steps=told["steps"][:1]), "at least 2"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(fitted, tmp_path, change, words):
    told = json.loads(Path(fitted[0]).read_text())
    change(told)
    (tmp_path / "steps.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=words):
        load("perceptual", fitted=str(tmp_path / "steps.json"))


def test_a_file_that_was_fitted_again_is_another_reward(fitted, tmp_path):
    file = tmp_path / "steps.json"
    told = json.loads(Path(fitted[0]).read_text())
    file.write_text(json.dumps(told))
    first = load("perceptual", fitted=str(file)).fingerprint
    told["steps"][0]["means"][0] += 0.1
    file.write_text(json.dumps(told))
    assert load("perceptual", fitted=str(file)).fingerprint != first


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["perceptual", "--push", "2"], "push 2.0 belongs to d2-align"),
        (["perceptual", "--loss", "bt"], "loss bt belongs to head"),
        (["head", "--features", "3"], "features 3 belongs to perceptual"),
        (["perceptual", "--steps", "1"], "steps is 1"),
        (["perceptual", "--frames", "none"], "picks no frames"),
        (["perceptual", "--steps", "40"], "no demonstration that can be used"),
    ],
)
def test_options_are_checked(data, tmp_path, options, words):
    arguments = [
        "fit",
        options[0],
        data,
        "--weights",
        "mini-clip",
        "--out",
        tmp_path / "x.json",
        *options[1:],
    ]
    result = CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"])
    assert result.exit_code != 0 and words in (result.output + str(result.exception))
    assert not (tmp_path / "x.json").exists()


def test_steps_are_not_written_over(engine, data, fitted):
    with pytest.raises(ValueError, match="is there already"):
        fit_perceptual(data, "mini-clip", Path(fitted[0]), engine, Finding())
    with pytest.raises(ValueError, match="does not end in"):
        fit_perceptual(data, "mini-clip", Path(fitted[0]).with_suffix(".pt"), engine)
