"""RoboReward: its grammar with the peers' defects, marks of scripted episodes, and the mean of marks."""

import pytest
from support.robot_judges import Judge, episode, film, grey, marked, use

from mmreward import Media, Sample, Unscorable, load
from mmreward.models.vlms.answers import Written
from mmreward.rewards.robot.roboreward import CUTS, label_of, read_label


def scored(engine, sample, **args):
    return engine.score([sample], load("roboreward", words="own", **args))["roboreward"][0]


@pytest.mark.parametrize(
    ("text", "label"),
    [("ANSWER: 5.", 5), ("**ANSWER:** 3", 3), ("**ANSWER: 4**", 4), ("answer : 2", 2), ("ANSWER: 4/5", 4),
     ("ANSWER: [1]", 1), ("Answer:3", 3), ("ANSWER\uff1a \uff14", 4), ("ANSWER: 2\n\nThat is all.", 2),
     ("<think>ANSWER: 1 or 9</think>ANSWER: 5", 5), ("ANSWER: <score>\nANSWER: 3", 3),
     ("In 2 of 5 tries it slipped. ANSWER: 4", 4), ("ANSWER: 4, because 1 cup is left", 4)],
)  # fmt: skip
def test_dress_makes_no_difference(text, label):
    assert read_label(text)[::2] == (label, False) and not read_label(text).recovered


@pytest.mark.parametrize(
    ("text", "word", "status"),
    [("ANSWER: 10", "out_of_range", "out_of_range"), ("ANSWER: 0", "out_of_range", "out_of_range"),
     ("ANSWER: -3", "out_of_range", "out_of_range"), ("ANSWER: 4/10", "out_of_range", "out_of_range"),
     ("ANSWER: 3.5", "non_integer", "unparsable"), ("ANSWER: 3-4", "several_numbers", "unparsable"),
     ("ANSWER: 3 or 4", "several_numbers", "unparsable"), ("ANSWER: five", "no_answer", "missing"),
     ("The robot did 3 things.", "no_answer", "missing"), ("", "no_answer", "missing"),
     ("ANSWER:", "no_answer", "missing"), ("<think>so ANSWER: 4", "truncated_reasoning", "unparsable"),
     (None, "no_answer", "missing"), (4, "no_answer", "missing"),
     ("5" * 1_000_000, "no_answer", "unparsable")],
)  # fmt: skip
def test_what_is_no_mark_is_a_failure_with_its_reason_and_never_a_1(text, word, status):
    """Robometer's copy of the reader gives 1 to each of these, or the last digit that it finds."""
    with pytest.raises(Unscorable, match=f"^{word}: ") as raised:
        read_label(text)
    assert raised.value.status == status


def test_of_two_answers_the_last_counts_and_is_flagged():
    assert read_label("ANSWER: 1\nNo, wait.\nANSWER: 4") == (4, "ANSWER: 1\nNo, wait.\nANSWER: ", True, False)
    assert not read_label("ANSWER: 4. As I said, ANSWER: 4").multiple


def test_leniency_recovers_a_digit_and_says_so():
    assert read_label("I give it a 4.", lenient=True) == (4, "I give it a ", False, True)
    assert read_label("3 of 5, so: 2", lenient=True).value == 2
    for text in ("nothing", "7 or 3.5", "4/5"):
        with pytest.raises(Unscorable):
            read_label(text, lenient=True)


def test_progress_becomes_a_mark_by_cells_with_their_lower_end():
    """`round(p * 4) + 1` rounds halves to even: 0.125 and 0.375 give 1 and 3, cells of unequal width."""
    peers = [round(4 * cut) + 1 for cut in CUTS]
    assert peers == [1, 3, 3, 5]
    assert [label_of(cut) for cut in CUTS] == [2, 3, 4, 5]
    assert [label_of(cut - 1e-9) for cut in CUTS] == [1, 2, 3, 4]
    assert [label_of(p) for p in (0, 1)] == [1, 5]
    with pytest.raises(ValueError, match="from 0 to 1"):
        label_of(40)


@pytest.mark.parametrize(
    ("kind", "mark"), [("good", 5), ("failed", 1), ("reversed", 1), ("frozen", 1), ("shuffled", 3)]
)
def test_the_end_of_an_episode_is_marked(engine, monkeypatch, kind, mark):
    judge = use(monkeypatch, Judge(marked))
    score = scored(engine, episode(kind))
    assert score.value == mark and score.parts["progress"] == (mark - 1) / 4 and score.parts["frames"] == 6
    ((seen, prompt, options),) = judge.calls
    assert len(seen) == 6 and "push the block" in prompt and options["system"] == ""


def test_one_frame_is_shown_twice_and_many_are_thinned_with_the_last(engine, monkeypatch):
    judge = use(monkeypatch, Judge(marked))
    assert scored(engine, Sample(prompt="push", image=Media(grey(250)))).value == 5
    long = Sample(prompt="push", video=film(*range(0, 250, 5), fps=2.0))
    assert scored(engine, long, max_frames=8).parts["frames"] == 8
    assert [len(seen) for seen, *_ in judge.calls] == [2, 8]
    assert judge.calls[1][0][-1] == pytest.approx(245 / 250)


def test_frames_without_times_are_asked_for_by_number(engine, monkeypatch):
    use(monkeypatch, Judge(marked))
    steps = Sample(prompt="push", steps=[{"observation": grey(50 * n)} for n in range(6)])
    score = scored(engine, steps)
    assert score.status == "error" and "say a number" in score.note
    assert scored(engine, steps, frames=4).value == 5
    assert scored(engine, Sample(prompt="push", steps=[{"action": 1}]), frames="4").status == "missing"


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("I cannot tell.", "missing"),
        ("ANSWER: 6", "out_of_range"),
        (Written("ANSWER: 4", False, 128), "unparsable"),
    ],
)
def test_an_answer_that_cannot_be_read_is_no_number(engine, monkeypatch, said, status):
    use(monkeypatch, Judge(lambda *_: said))
    score = scored(engine, episode("good"))
    assert score.status == status and score.value != score.value


def test_the_mean_of_marks_is_believed_with_their_mass(engine, monkeypatch):
    probabilities = {"1": 0.0001, "2": 0.0001, "3": 0.1, "4": 0.3, "5": 0.4}
    judge = use(monkeypatch, Judge(marked, lambda seen, prompt, digit: probabilities[digit]))
    score = scored(engine, episode("good"), how="expected")
    mass = sum(probabilities.values())
    assert score.value == pytest.approx(sum(int(d) * p for d, p in probabilities.items()) / mass)
    assert score.parts["mass"] == pytest.approx(mass) and score.parts["label"] == 5
    assert judge.calls[1][2]["given"] == "The end is what counts.\nANSWER: "
    unsure = scored(engine, episode("good"), how="expected", min_mass=0.9)
    assert unsure.status == "unparsable" and "0.800 of the probability" in unsure.note


@pytest.mark.parametrize("args", [{"how": "mean"}, {"max_frames": 1}, {"frames": "first"}])
def test_arguments_that_make_no_sense_are_refused(args):
    with pytest.raises(ValueError, match=r"how|max_frames|picks no frames"):
        load("roboreward", words="own", judge="mini-vlm", **args)
