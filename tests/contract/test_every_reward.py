"""Contract of every registered reward: range, batching, order, bad rows, documentation, fingerprint.
Registering one is all it takes to be tested here, with the miniature.
"""

import asyncio
import dataclasses
import inspect
import json
import math
import pickle
import subprocess
import sys

import pytest
from PIL import Image
from support.miniature import CASES, NAMES, SINGLE, samples_for, variants
from typer.testing import CliRunner

from mmreward import Media, Sample, load, models
from mmreward.cli import app
from mmreward.errors import STATUSES
from mmreward.limits import Limits
from mmreward.registry import find

NEAR = {"abs": 1e-5, "rel": 1e-6}
"""How far a value may move with its batch; of scores up to a hundred, a part of the value."""


@pytest.mark.parametrize(("name", "args"), SINGLE)
def test_values_are_in_range_and_batched_equals_looped(engine, scenes, name, args):
    reward = load(name, **args)
    samples = samples_for(name, scenes)
    engine.cache.clear()
    batched = engine.score(samples, reward)[name]
    assert any(score.ok for score in batched), [score.note for score in batched]
    low, high = reward.info.range
    for sample, score in zip(samples, batched, strict=True):
        assert score.status in STATUSES
        assert (low <= score.value <= high) if score.ok else (math.isnan(score.value) and score.note)
        engine.cache.clear()
        alone = engine.score([sample], reward)[name][0]
        assert alone.status == score.status
        assert alone.value == pytest.approx(score.value, **NEAR, nan_ok=True)


FRESH = """
import importlib, os, pkgutil
import torch, transformers, open_clip
import mmreward.models, mmreward.rewards
from mmreward import load
for room in (mmreward.models, mmreward.rewards):
    for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        importlib.import_module(module.name)
for name, args in {cases}:
    if (child := os.fork()) == 0:
        print(load(name, **args).fingerprint, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""
"""Each reward in a fork that has loaded no other; modules are imported once for all."""


@pytest.fixture(scope="module")
def fresh():
    code = FRESH.format(cases=[case.values for case in CASES])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240
    )
    return dict(zip((case.id for case in CASES), done.stdout.split(), strict=True))


@pytest.mark.parametrize(("name", "args"), CASES)
def test_the_fingerprint_is_that_of_a_fresh_process(request, fresh, name, args):
    """The networks are there already when a reward is loaded again, and must be noted all the same."""
    load(name, **args)
    assert load(name, **args).fingerprint == fresh[request.node.callspec.id]


@pytest.mark.parametrize(("name", "args"), SINGLE)
def test_order_and_neighbours_do_not_matter(engine, scenes, name, args):
    reward = load(name, **args)
    samples = samples_for(name, scenes)
    engine.cache.clear()
    forward = [score.value for score in engine.score(samples, reward)[name]]
    engine.cache.clear()
    backward = [score.value for score in engine.score(samples[::-1], reward)[name]]
    assert backward[::-1] == pytest.approx(forward, **NEAR, nan_ok=True)


@pytest.mark.parametrize(("name", "args"), SINGLE)
def test_a_bad_row_fails_alone_and_says_why(engine, scenes, tmp_path, name, args):
    """A response that says nothing may also be worth the least there is, see
    `verifiers.response.verified`."""
    reward = load(name, **args)
    good = samples_for(name, scenes)[0]
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    bad = []
    if {"image", "shown"} & set(reward.info.needs):
        bad += [
            {"image": Media(tmp_path / "torn.png")},
            {"image": Media(tmp_path / "absent.png")},
            {"image": None},
        ]
    if "episode" in reward.info.needs:
        absent = {"observation": Media(tmp_path / "absent.png")}
        bad += [
            {"video": Media(tmp_path / "torn.png", "video")},
            {"video": None},
            {"steps": (absent, absent)},
        ]
    if "inputs" in reward.info.needs:
        bad += [{"inputs": ()}, {"inputs": (Media(tmp_path / "absent.png"),)}]
    if "prompt" in reward.info.needs:
        bad += [{"prompt": ""}, {"prompt": "  \n"}, {"prompt": "x" * 1_000_000}, {"prompt": 3}]
    if "response" in reward.info.needs:
        bad += [
            {"response": ""},
            {"response": None},
            {"response": "<think>never closed"},
        ]
    samples = [good, *(dataclasses.replace(good, **change) for change in bad), good]
    first, *rest, last = engine.score(samples, reward)[name]
    assert first.value == pytest.approx(last.value, abs=1e-4, nan_ok=True) and first.status == last.status
    for change, score in zip(bad, rest, strict=True):
        wrong = isinstance(change.get("response"), str) and score.value == reward.info.range[0]
        assert (wrong or not score.ok) and score.note, f"{str(change)[:80]} -> {score}"


@pytest.mark.parametrize(("name", "args"), SINGLE)
def test_of_a_response_that_is_too_long_the_end_counts(engine, scenes, name, args):
    """As in `types.shortened`; what not even that fits into a judge's context is a failure that says so."""
    reward = load(name, **args)
    if "response" not in reward.info.needs:
        pytest.skip("it reads no response")
    good = samples_for(name, scenes)[0]
    long = dataclasses.replace(good, response="[" * 500_000)
    tail = dataclasses.replace(good, response="[" * Limits().text_characters)
    whole, end = engine.score([long, tail], reward)[name]
    assert (whole.status, whole.note) == (end.status, end.note)
    assert whole.value == pytest.approx(end.value, nan_ok=True)
    assert whole.ok or whole.note


@pytest.mark.parametrize("name", NAMES)
def test_the_documentation_states_what_a_user_must_know(name):
    entry = find(name)
    doc = inspect.getdoc(entry.factory)
    assert entry.info.summary and entry.info.range[0] < entry.info.range[1]
    for argument in inspect.signature(entry.factory).parameters:
        assert f"{argument}:" in doc or f"{argument}," in doc, f"{name} does not document {argument}"
    json.dumps(entry.info.example)
    shown = CliRunner().invoke(app, ["show", name])
    assert shown.exit_code == 0 and entry.info.summary in shown.output


@pytest.mark.parametrize(("name", "args"), CASES)
def test_the_fingerprint_is_stable_and_follows_the_arguments(name, args):
    assert load(name, **args).fingerprint == load(name, **args).fingerprint
    other = next((v for v in variants(name) if v != args), None)
    if other is not None:
        assert load(name, **args).fingerprint != load(name, **other).fingerprint


def framed(sample, folder):
    """The sample with a file for each frame of its clip."""
    if sample.video is None:
        return sample
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(sample.video.frames)]
    for path, frame in zip(paths, sample.video.array(), strict=True):
        Image.fromarray(frame).save(path)
    return dataclasses.replace(sample, video=Media(paths, "video", fps=sample.video.fps))


@pytest.mark.parametrize(("name", "args"), SINGLE)
def test_an_awaiting_caller_gets_the_same_scores_and_they_pickle(
    engine, files, readers, tmp_path, name, args
):
    """And no file is read on the loop, which every caller shares: no picture, and no frame of a clip."""
    reward = load(name, **args)
    samples = samples_for(name, [(text, Media(path)) for text, path in files])[:2]
    samples = [framed(sample, tmp_path / str(row)) for row, sample in enumerate(samples)]
    readers.clear()
    engine.cache.clear()
    there = asyncio.run(engine.ascore(samples, reward))[name]
    assert "mmreward-loop" not in readers
    here = engine.score(samples, reward)[name]
    assert [s.value for s in there] == pytest.approx([s.value for s in here], abs=1e-4, nan_ok=True)
    assert pickle.loads(pickle.dumps(here)) == here or any(not score.ok for score in here)


def test_a_clip_is_asked_about_where_there_is_no_picture(engine, scenes):
    frames = samples_for("checklist", scenes)[0].image.array()[None].repeat(6, axis=0)
    frames[3:] //= 2
    clip = Media(frames, "video", fps=3.0)
    reward = load("checklist", judge="mini-vlm", min_mass=0.0, soft=True)
    (score,) = engine.score([Sample(prompt="a red circle", video=clip)], reward)["checklist"]
    question = "Does this picture match the prompt: a red circle? Answer yes or no."
    read = engine.run(models.vlm("mini-vlm").read(clip, question, ("yes", "no")))
    assert score.value == pytest.approx(read.probs["yes"], abs=1e-6)
