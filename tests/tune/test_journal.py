"""What a run writes down can be read again, and says nothing of what will be done again."""

import json

import numpy as np
import pytest
from PIL import Image

from mmreward.tune.journal import Journal, lines, read_grid


def noise(size: tuple[int, int], seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("number", [1, 3, 8, 9, 16, 19])
def test_a_grid_is_taken_apart_into_the_pictures_it_was_made_of(tmp_path, number):
    pictures = [noise((7, 5), seed) for seed in range(number)]
    Journal(tmp_path).write_grid(20, pictures)
    read = read_grid(tmp_path, 20, number)
    assert [one.tobytes() for one in read] == [one.tobytes() for one in pictures]


def test_a_run_that_goes_on_has_not_ended(tmp_path):
    journal = Journal(tmp_path)
    journal.write_json("ended", {"rounds": 4, "reason": "all rounds done"})
    journal.begin("{}", after_round=4)
    assert not (tmp_path / "ended.json").exists()


@pytest.mark.parametrize(("done", "rounds", "evaluations"), [(0, [], []), (2, [0, 1], [0, 2])])
def test_what_is_done_again_is_dropped(tmp_path, done, rounds, evaluations):
    """Nothing was saved before the first checkpoint, so the evaluation before training is made again, too."""
    journal = Journal(tmp_path)
    for number in range(4):
        journal.write("rounds", {"round": number})
    for number in (0, 2, 4):
        journal.write("evaluations", {"round": number})
    journal.begin("{}", after_round=done)
    assert [line["round"] for line in lines(tmp_path / "rounds.jsonl")] == rounds
    assert [line["round"] for line in lines(tmp_path / "evaluations.jsonl")] == evaluations


def test_a_json_file_is_replaced_whole(tmp_path):
    journal = Journal(tmp_path)
    journal.write_json("timeline", [["generate", 0.0, 1.0]])
    with pytest.raises(TypeError):
        journal.write_json("timeline", [object()])
    assert json.loads((tmp_path / "timeline.json").read_text()) == [["generate", 0.0, 1.0]]


def test_a_folder_in_which_another_run_trains_is_refused(tmp_path):
    """Before anything is loaded; the other's lines stay as they are."""
    from mmreward.files import sole_writer
    from mmreward.tune.config import TuneConfig
    from mmreward.tune.trainer import tune

    config = TuneConfig.model_validate(
        {
            "generator": {"name": "mini-flow"},
            "rewards": {"saturation": {}},
            "prompts": {"data": "shapes-world"},
            "evaluation": {"prompts": {"data": "shapes-world", "seed": 1}},
            "method": {"name": "grpo"},
            "out": str(tmp_path),
        }
    )
    (tmp_path / "rounds.jsonl").write_text('{"round": 0}\n')
    with sole_writer(tmp_path), pytest.raises(ValueError, match="is being written by"):
        tune(config, lambda *_, **__: pytest.fail("it loaded the generator"))
    assert lines(tmp_path / "rounds.jsonl") == [{"round": 0}]
