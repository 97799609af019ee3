"""Contract of every registered reward that compares two samples, with the miniature."""

import asyncio
import dataclasses
import math

import pytest
from support.miniature import PAIRED, samples_for

from mmreward import Media, Sample, load
from mmreward.errors import STATUSES


@pytest.fixture
def groups(name, scenes):
    """Two groups of two pictures for one prompt, or of two answers about one picture."""
    return samples_for(name, scenes)[:4]


def values(scores):
    return [score.value for score in scores]


@pytest.mark.parametrize(("name", "args"), PAIRED)
def test_both_of_a_pair_share_what_there_is_and_batched_equals_looped(engine, groups, name, args):
    reward = load(name, **args)
    engine.cache.clear()
    batched = engine.score(groups, reward)[name]
    low, high = reward.info.range
    assert all(score.status in STATUSES for score in batched) and any(score.ok for score in batched)
    for first, second in zip(batched[::2], batched[1::2], strict=True):
        if first.ok:
            assert first.value + second.value == pytest.approx(low + high)
            assert low <= first.value <= high and first.parts["swing"] == second.parts["swing"]
    alone = []
    for start in (0, 2):
        engine.cache.clear()
        alone += engine.score(groups[start : start + 2], reward)[name]
    assert values(alone) == pytest.approx(values(batched), abs=1e-4, nan_ok=True)
    engine.cache.clear()
    backward = engine.score(groups[::-1], reward)[name]
    assert values(backward[::-1]) == pytest.approx(values(batched), abs=1e-4, nan_ok=True)


@pytest.mark.parametrize(("name", "args"), PAIRED)
def test_no_file_is_read_on_the_loop(engine, files, readers, name, args):
    samples = samples_for(name, [(text, Media(path)) for text, path in files])[:2]
    engine.cache.clear()
    asyncio.run(engine.ascore(samples, load(name, **args)))
    assert readers and "mmreward-loop" not in readers


@pytest.mark.parametrize(("name", "args"), PAIRED)
def test_a_bad_member_fails_with_a_reason_and_leaves_other_groups_alone(engine, groups, tmp_path, name, args):
    reward = load(name, **args)
    good = engine.score(groups, reward)[name]
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    changes = [
        {"image": Media(tmp_path / "torn.png")},
        {"image": None},
        {"prompt": ""},
        {"prompt": "another"},
    ]
    for change in changes:
        bad = [*groups[:3], dataclasses.replace(groups[3], **change)]
        found = engine.score(bad, reward)[name]
        assert values(found[:2]) == pytest.approx(values(good[:2]), abs=1e-4, nan_ok=True)
        assert all(not score.ok and score.note for score in found[2:]), change


@pytest.mark.parametrize(("name", "args"), PAIRED)
def test_a_sample_without_a_group_or_a_partner_is_no_number(engine, groups, name, args):
    lonely = engine.score(groups[:1], load(name, **args))[name][0]
    loose = engine.score([dataclasses.replace(groups[0], group=None)], load(name, **args))[name][0]
    assert (lonely.status, loose.status) == ("na", "missing") and math.isnan(lonely.value)


def test_the_miniature_as_a_judge_is_mostly_right(engine):
    """Sixteen requests, each with its own picture and one of nothing asked for."""
    from mmreward.judges.miniature import sample_comparisons

    drawn = [one.comparison for one in sample_comparisons(16, seed=5)]
    members = [
        Sample(prompt=one.request, image=picture, group=one.id) for one in drawn for picture in one.pictures
    ]
    scores = engine.score(members, load("preference", judge="mini-vlm", system=""))["preference"]
    right = [scores[2 * row + int(one.better) - 1].value for row, one in enumerate(drawn)]
    assert all(score.ok for score in scores) and sum(right) / len(right) > 0.6
    assert {*right} <= {0.0, 0.5, 1.0}
