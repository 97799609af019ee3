"""The study of reward heads, small: its pairs are the oracle's, and its table has a row for each fit."""

import pytest

from mmreward.data.pair_folder import read_pairs
from mmreward.evals.studies import heads
from mmreward.mini import oracle
from mmreward.mini.world import parse_caption


@pytest.fixture(scope="module")
def drawn():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "STEPS", 1)
        captions = heads.sample_captions(24)
        return captions, heads.pictures_of(captions)


def test_captions_differ_and_pictures_are_four_each(drawn):
    captions, pictures = drawn
    assert len(set(map(str, captions))) == 24 == len(pictures)
    assert {len(group) for group in pictures} == {4}
    assert heads.sample_captions(24) == captions


def test_the_oracle_says_which_is_better_and_where_neither_is(drawn):
    for pair in heads.judged_pairs(*drawn):
        worth = []
        for media in (pair.chosen, pair.rejected):
            verdict = oracle.judge(media.array(), parse_caption(pair.prompt))
            worth.append((verdict.f1 + verdict.strict) / 2)
        assert pair.facts["margin"] == pytest.approx(worth[0] - worth[1])
        assert pair.tie == (worth[0] == worth[1]) and worth[0] >= worth[1]


def test_the_command_prints_a_row_per_loss_and_seed_and_keeps_its_pairs(drawn, tmp_path, capsys, monkeypatch):
    heads.write_pairs(tmp_path / "pairs", heads.judged_pairs(*drawn))
    monkeypatch.setattr(heads, "pictures_of", None)  # what is there is not drawn again
    few = ["--pairs", str(tmp_path / "pairs"), "--losses", "bt", "btt", "--seeds", "0", "1"]
    assert heads.main(few) == 0
    printed = capsys.readouterr().out
    assert f"{len(read_pairs(tmp_path / 'pairs'))} pairs of 24 captions by the oracle" in printed
    rows = [line for line in printed.splitlines() if line.startswith("| b")]
    assert [row.split(" | ")[:2] for row in rows] == [
        ["| bt", "0"],
        ["| bt", "1"],
        ["| btt", "0"],
        ["| btt", "1"],
    ]
    assert {row.count("|") for row in rows} == {11}
