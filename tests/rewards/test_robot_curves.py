"""Rewards of a robot's progress frame by frame: order, hops, beginnings; the peers' defects beside the right
value, and what each reward does with reversed, shuffled, frozen and empty episodes.
"""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import spearmanr
from support.robot_judges import CLIPS, Judge, believed, episode, film, grey, hopped, listed, marked, use

from mmreward import Media, Sample, Unscorable, load, models
from mmreward.models.vlms.answers import Written
from mmreward.rewards.robot.gvl import shuffled
from mmreward.rewards.robot.topreward import log_sum, normalised, prefixes
from mmreward.rewards.robot.values import (
    anchored,
    fused,
    read_hop,
    read_percentages,
    voc,
    walked,
)
from mmreward.rewards.robot.vlac import PROMPT as VLAC_PROMPT
from mmreward.rewards.robot.vlac import mixed, read_critique, stretched

NAMES = ("roboreward", "gvl", "dopamine", "vlac", "topreward")


def criticised(seen, prompt):
    """VLAC's answer, in which a step is a share of what was left, or of what had been made."""
    return hopped([0, 0, *seen], prompt).removesuffix("%</score>").removeprefix("<score>")


SAID = {"roboreward": marked, "gvl": listed, "dopamine": hopped, "vlac": criticised}


def scored(engine, name, sample, **args):
    return engine.score([sample], load(name, **{"words": "own", **args}))[name][0]


def curve(score, prefix="frame_"):
    """Values of frames in order, from a score's parts."""
    found = {int(k.removeprefix(prefix)): v for k, v in score.parts.items() if k.startswith(prefix)}
    return [found[number] for number in sorted(found)]


# --- order ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([0, 10, 20, 15, 50], 0.9), ([5, 4, 3, 2, 1], -1.0), ([0, 20, 20, 50], 0.948683), ([1, 2], 1.0),
     ([0, None, 20, 30], 1.0), ([0.3] * 5, None), ([1], None), ([], None), ([None, 3], None)],
)  # fmt: skip
def test_value_order_correlation(values, wanted):
    """Peers write 0 for what is undefined, which is the value of an order that tells nothing."""
    assert voc(values) == (pytest.approx(wanted, abs=1e-6) if wanted is not None else None)


def test_the_correlation_is_spearmans_with_mean_ranks():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.integers(0, 6, 9)
        if len(set(values)) > 1:
            assert voc([float(v) for v in values]) == pytest.approx(spearmanr(values, range(9)).statistic)


def test_a_value_that_is_not_finite_is_no_value():
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="leave it out as None"):
            voc([0, bad, 1])


# --- hops -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hop"),
    [("<score>+50%</score>", 0.5), ("<score>-8%</score>", -0.08), ("<score>0%</score>", 0.0),
     ("<score>\u221230%</score>", -0.3), ("<score>\u201330 %</score>", -0.3), ("<score>0.4</score>", 0.004),
     ("so <score>+1%</score> or rather <score> +20% </score>", 0.2), ("<SCORE>100</SCORE>", 1.0)],
)  # fmt: skip
def test_hops_are_percentages_whatever_their_size(text, hop):
    """Downstream of VLAC, values are divided by 100 only where one is above 1: 0.4 % becomes 40 %."""
    assert read_hop(text) == pytest.approx(hop)


@pytest.mark.parametrize(
    ("text", "status"),
    [("Error", "missing"), ("+50%", "missing"), ("<score></score>", "unparsable"), (None, "unparsable"),
     ("<score>+NN%</score>", "unparsable"), ("<score>10 or 20</score>", "unparsable"),
     ("<score>120%</score>", "out_of_range"), ("<score>+5%", "missing"), ("x" * 50_000, "unparsable")],
)  # fmt: skip
def test_what_is_no_hop_is_a_failure_and_not_0(text, status):
    """The publisher's own code takes 0 for these and clips 120 to 100."""
    with pytest.raises(Unscorable) as raised:
        read_hop(text)
    assert raised.value.status == status


def published(hops):
    """The publisher's recurrence, a second writing: its first hop is the progress, below 0 too."""
    progress = []
    for place, hop in enumerate(hops):
        before = progress[-1] if progress else 0.0
        progress.append(hop if not place else before + ((1 - before) if hop >= 0 else before) * hop)
    return progress


def test_progress_walks_by_shares_and_stays_between_0_and_1():
    hops = [0.5, 0.5, -0.5, 1.0, -1.0, 0.2]
    assert walked(hops).progress == pytest.approx((0, 0.5, 0.75, 0.375, 1.0, 0.0, 0.2))
    assert walked(hops).progress[1:] == pytest.approx(published(hops))
    assert published([-0.5])[-1] == -0.5 and walked([-0.5]).progress[-1] == 0.0
    rng = np.random.default_rng(1)
    assert all(0 <= p <= 1 for p in walked(list(rng.uniform(-1, 1, 200))).progress)


def test_a_gap_holds_progress_and_is_counted():
    found = walked([0.5, None, 0.5])
    assert found.progress == pytest.approx((0, 0.5, 0.5, 0.75)) and found.gaps == 1
    assert anchored([0.2, None, 0.6], end=False) == ((0, 0.2, 0.2, 0.6), 1, 0)


def test_anchored_curves_are_brought_into_range_and_counted():
    assert anchored([0.5, -0.2], end=False) == ((0, 0.5, 0.0), 0, 1)
    assert anchored([-0.7, 0.1], end=True) == ((0, pytest.approx(0.3), 1.0), 0, 1)
    whole = fused([walked([0.5, 0.5]), anchored([0.4, 0.8], end=False), anchored([-0.6, 0.1], end=True)])
    assert (
        whole.progress == pytest.approx((0, (0.5 + 0.4 + 0.4) / 3, (0.75 + 0.8 + 1) / 3))
        and whole.clamps == 1
    )


# --- lists of percentages ---------------------------------------------------------------------------------

KEY = "task_completion_percentage"


def items(*pairs):
    return json.dumps([{"frame_number": n, "frame_description": "[x]", KEY: p} for n, p in pairs])


def test_percentages_by_frame_with_dress():
    text = items((2, 50), (1, 10.5)).replace("[x]", "x")
    assert read_percentages(f"```json\n{text[:-1]},]\n```", 2) == [10.5, 50.0]
    assert read_percentages("[1, 2] and " + text, 3) == [10.5, 50.0, None]


@pytest.mark.parametrize(
    ("text", "status"),
    [("none", "missing"), ("[{]", "unparsable"), (items((1, 5), (1, 6)).replace("[x]", ""), "unparsable"),
     (items((3, 5)).replace("[x]", ""), "unparsable"), (items((0, 5)).replace("[x]", ""), "unparsable"),
     (items((1, 101)).replace("[x]", ""), "out_of_range"),
     (items((1, "5%")).replace("[x]", ""), "unparsable"),
     (items((1, True)).replace("[x]", ""), "unparsable"), (items(("1", 5)).replace("[x]", ""), "unparsable"),
     ("[1, 2]", "unparsable"), (items((1, math.nan)).replace("[x]", ""), "unparsable"), (7, "unparsable")],
)  # fmt: skip
def test_a_list_that_does_not_name_the_frames_is_a_failure(text, status):
    """Peers drop what they cannot match, so that the rest of the list belongs to other frames."""
    with pytest.raises(Unscorable) as raised:
        read_percentages(text, 2)
    assert raised.value.status == status


# --- every reward on every kind of episode ----------------------------------------------------------------

TABLE = {
    # kind: roboreward, gvl, dopamine, vlac, topreward's probability of True
    "good": (5, 1.0, 1.0, 1.0, 0.95),
    "failed": (1, -0.527046, 0.08, 0.08, 0.122),
    "reversed": (1, -1.0, 0.0, 0.0, 0.05),
    "frozen": (1, "na", 0.0, 0.0, 0.05),
    "shuffled": (3, -0.1, 0.6, 0.6, 0.59),
}


@pytest.mark.parametrize("kind", CLIPS)
def test_rewards_fall_as_they_should(engine, monkeypatch, kind):
    for name, wanted in zip(NAMES, TABLE[kind], strict=True):
        use(monkeypatch, Judge(SAID.get(name), believed))
        score = scored(engine, name, episode(kind), **({"frames": "all"} if name != "roboreward" else {}))
        if isinstance(wanted, str):
            assert score.status == wanted and "all frames have one value" in score.note
        else:
            value = math.exp(score.value) if name == "topreward" else score.value
            assert (score.status, value) == ("ok", pytest.approx(wanted, abs=0.02)), f"{name}: {score}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "fields", [{}, {"steps": ({"action": 1},)}, {"video": Media(np.zeros((0, 8, 8, 3), np.uint8), "video")}]
)
def test_an_empty_episode_is_a_failure(engine, monkeypatch, name, fields):
    judge = use(monkeypatch, Judge(SAID.get(name), believed))
    score = scored(engine, name, Sample(prompt="push", inputs=(Media(grey(250)),), **fields))
    assert not score.ok and score.note and not judge.calls


@pytest.mark.parametrize("name", NAMES[:4])
def test_a_judge_that_says_nothing_of_use_pays_nothing(engine, monkeypatch, name):
    for said in ("I cannot help with that.", "", Written("ANSWER: 5 <score>+100%", False, 9)):
        use(monkeypatch, Judge(lambda *_, said=said: said))
        score = scored(engine, name, episode("good"), **({"frames": "all"} if name != "roboreward" else {}))
        assert not score.ok and score.note


# --- GVL --------------------------------------------------------------------------------------------------


def test_frames_are_shuffled_by_a_seed_and_put_back(engine, monkeypatch):
    judge = use(monkeypatch, Judge(listed))
    first = scored(engine, "gvl", episode("good"), frames="all")
    again = scored(engine, "gvl", episode("good"), frames="all")
    other = scored(engine, "gvl", episode("good"), frames="all", seed=1)
    orders = [seen for seen, *_ in judge.calls]
    assert orders[0] == orders[1] != orders[2] and first == again
    assert orders[0][0] == 0 and orders[0][1:] != sorted(orders[0][1:]), (
        "the anchor first, the others shuffled"
    )
    assert curve(first) == curve(other) == pytest.approx([n / 5 for n in range(6)], abs=0.01)
    assert sorted(shuffled(9, 0, "a")) == list(range(9)) and shuffled(9, 0, "a") != shuffled(9, 0, "b")
    assert shuffled(6, 0, "episode_000003") == [3, 2, 4, 5, 1, 0], "the same on every machine"


def test_every_frame_has_its_place_in_the_text(engine, monkeypatch):
    judge = use(monkeypatch, Judge(listed))
    scored(engine, "gvl", episode("good"), frames="all")
    _, text, options = judge.calls[0]
    assert len(options["places"]) == 6 and text.endswith("Frame 4:Frame 5:")
    assert text[: options["places"][0]].endswith("at 0 percent: ")


def test_frames_that_the_judge_left_out_are_unknown_and_too_many_a_failure(engine, monkeypatch):
    def some(seen, prompt, left=1):
        rows = json.loads(listed(seen, prompt).partition("[")[2].join("[ ").replace(",]", "]"))
        return json.dumps(rows[left:])

    use(monkeypatch, Judge(some))
    score = scored(engine, "gvl", episode("good"), frames="all")
    assert score.value == 1.0 and score.parts["coverage"] == 0.8 and len(curve(score)) == 5
    assert scored(engine, "gvl", episode("good"), frames="all", least=0.9).status == "unparsable"


def test_too_few_frames_have_no_order(engine, monkeypatch):
    use(monkeypatch, Judge(listed))
    score = scored(engine, "gvl", Sample(prompt="push", video=film(0, 250)))
    assert score.status == "na" and "2 frames have no order" in score.note
    assert scored(engine, "gvl", episode("frozen"), how="last", frames="all").value == 0.0


# --- Robo-Dopamine ----------------------------------------------------------------------------------------


def test_three_curves_and_their_mean(engine, monkeypatch):
    judge = use(monkeypatch, Judge(hopped))
    score = scored(engine, "dopamine", episode("good"), frames="all")
    assert len(judge.calls) == 15 and all(len(seen) == 4 for seen, *_ in judge.calls)
    assert [seen[:2] for seen, *_ in judge.calls] == [[0.0, 1.0]] * 15, "start and goal for reference"
    assert curve(score) == pytest.approx([n / 5 for n in range(6)], abs=0.01)
    assert score.parts["voc"] == 1.0 and score.parts["negative"] == 0 and score.parts["gaps"] == 0
    failed = scored(engine, "dopamine", episode("failed"), frames="all")
    assert failed.parts["negative"] == pytest.approx(2 / 5)
    for how in ("incremental", "forward", "backward"):
        assert scored(engine, "dopamine", episode("good"), frames="all", how=how).value == pytest.approx(
            1, abs=0.02
        )


def test_views_are_named_and_never_repeated_in_silence(engine, monkeypatch):
    """Robometer's copy shows one camera three times and a grey picture as the goal; its authors objected."""
    judge = use(monkeypatch, Judge(hopped))
    steps = [{"observation": {"top": grey(50 * n), "left": grey(9), "right": grey(9)}} for n in range(6)]
    sample = Sample(prompt="push", steps=steps, inputs=(Media(grey(250)),))
    assert scored(engine, "dopamine", sample, frames="all").value == pytest.approx(1, abs=0.02)
    assert {len(seen) for seen, *_ in judge.calls} == {8}
    two = Sample(
        prompt="push", steps=[{"observation": {"a": grey(1), "b": grey(2)}}] * 3, inputs=sample.inputs
    )
    score = scored(engine, "dopamine", two, frames="all")
    assert score.status == "missing" and "one may stand there twice" in score.note
    assert scored(engine, "dopamine", two, frames="all", cameras=("a", "b", "b")).ok
    no_goal = scored(engine, "dopamine", Sample(prompt="push", video=film(0, 9)), frames="all")
    assert no_goal.status == "missing" and "inputs" in no_goal.note


def test_a_files_words_are_for_as_many_cameras_as_they_show(engine, monkeypatch, tmp_path):
    judge = use(monkeypatch, Judge(hopped))
    file = tmp_path / "words.txt"
    file.write_text("<image><image><image><image>{prompt}, how much further?")
    assert scored(engine, "dopamine", episode("good"), frames="all", words=str(file)).ok
    assert all(len(seen) == 4 and "how much further?" in prompt for seen, prompt, *_ in judge.calls)
    file.write_text("<image><image><image>{prompt}")
    with pytest.raises(ValueError, match="3 pictures: four for one camera, eight for three"):
        load("dopamine", words=str(file))


def test_gaps_hold_and_too_many_of_them_are_a_failure(engine, monkeypatch):
    judge = Judge(lambda seen, prompt: "Error" if len(judge.calls) == 2 else hopped(seen, prompt))
    use(monkeypatch, judge)
    score = scored(engine, "dopamine", episode("good"), frames="all", how="incremental")
    assert score.parts["gaps"] == pytest.approx(0.2) and score.value == pytest.approx(1, abs=0.02)
    assert curve(score)[1] == curve(score)[2] == pytest.approx(0.2, abs=0.01)
    judge.calls.clear()
    late = scored(engine, "dopamine", episode("good"), frames="all", how="incremental", most_gaps=0.1)
    assert late.status == "unparsable" and "20% of 5 hops" in late.note


# --- TOPReward --------------------------------------------------------------------------------------------


def test_the_raw_number_tells_episodes_apart_and_the_normalised_one_does_not(engine, monkeypatch):
    use(monkeypatch, Judge(sure=believed))
    good, failed = (
        scored(engine, "topreward", episode(k), frames="all", beginnings=6) for k in ("good", "failed")
    )
    assert good.value > failed.value + 1 and good.parts["voc"] == 1.0
    for score in (good, failed):
        ramp = curve(score, "normalised_frame_")
        assert min(ramp) == 0 and max(ramp) == 1, "every episode has the same range, failed or not"
    assert curve(good) == pytest.approx([math.log(0.05 + 0.9 * n / 5) for n in range(6)], abs=1e-6)


def test_a_curve_of_equal_values_or_of_one_is_1():
    assert normalised([-3.0, -3.0]) == [1, 1] and normalised([-0.1]) == [1]
    assert normalised([-4, -2, -3]) == [0, 1, 0.5]
    assert prefixes(1, 15) == [1] and prefixes(40, 3) == [1, 20, 40], "numpy rounds halves to even"
    assert log_sum([math.log(0.25)] * 3) == pytest.approx(math.log(0.75))


def test_a_model_that_agrees_with_anything_is_found_out(engine, monkeypatch):
    use(monkeypatch, Judge(sure=lambda *_: 0.9))
    score = scored(engine, "topreward", episode("failed"), frames="all", probe=True)
    assert score.parts["margin"] == pytest.approx(0)
    use(monkeypatch, Judge(sure=lambda seen, prompt, word: 0.1 if "does not complete" in prompt else 0.8))
    score = scored(engine, "topreward", episode("good"), frames="all", probe=True)
    assert score.parts["margin"] == pytest.approx(math.log(8))


def test_spellings_are_summed_and_odds_are_of_two_words(engine, monkeypatch):
    sure = {" True": 0.3, "True": 0.1, " true": 0.1, " False": 0.2, "False": 0.05}
    use(monkeypatch, Judge(sure=lambda seen, prompt, word: sure.get(word)))
    one, every, odds = (
        scored(engine, "topreward", episode("good"), frames="all", how=how).value
        for how in ("published", "spellings", "log_odds")
    )
    assert (math.exp(one), math.exp(every), math.exp(odds)) == pytest.approx((0.3, 0.5, 2.0))


def test_the_last_frames_are_seen_in_the_open_turn(engine, monkeypatch):
    judge = use(monkeypatch, Judge(sure=believed))
    scored(
        engine, "topreward", Sample(prompt="push", video=film(*range(0, 250, 5))), frames="all", max_frames=4
    )
    seen, _, options = judge.calls[0]
    assert seen == pytest.approx([n / 250 for n in (230, 235, 240, 245)]) and options["open"] is True
    assert options["continuation"] == " True"
    judge.calls.clear()
    scored(engine, "topreward", episode("good"), frames="all", chat=True)
    assert judge.calls[0][2]["open"] is False and judge.calls[0][2]["continuation"] == "True"


# --- VLAC -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [("30", 0.3), ("<score> -12.5 </score>", -0.125), ("\u221240%", -0.4), ("0.4", 0.004), ("+100", 1.0)],
)
def test_a_critique_is_a_percentage_whatever_its_size(text, value):
    assert read_critique(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "better", "3 or 4", "101", "-250", None, "1e3", "nan"])
def test_what_is_no_critique_is_a_failure(text):
    with pytest.raises(Unscorable):
        read_critique(text)


def published_values(critiques, simple):
    """VLAC's `critic_to_value_simple`, a second writing, from 0 to 100."""
    values = [0.0]
    for c in critiques:
        v = values[-1]
        if c > 0 or simple:
            values.append(v + (100 - v) * c / 100)
        elif v > 50:
            values.append(max(10, 100 - max(100 - v, 1.0) / (100 + c) * 100))
        else:
            values.append(v + v * c / 100)
    return values


def test_values_are_the_published_ones_and_never_below_0():
    critiques = [60, 40, -20, 10, -70, -50, 30]
    ours = mixed([c / 100 for c in critiques]).progress
    assert ours == pytest.approx([v / 100 for v in published_values(critiques, False)])
    assert min(published_values([-50], True)) == -50, "the published default takes a step back from nothing"
    assert walked([-0.5]).progress[-1] == 0 and mixed([0.8, -1.0]).progress[-1] == 0.1
    assert mixed([0.5, None, 0.5]) == ((0.0, 0.5, 0.5, 0.75), 1, 0)


def test_a_critic_is_asked_of_neighbours_in_their_order(engine, monkeypatch):
    judge = use(monkeypatch, Judge(criticised))
    score = scored(engine, "vlac", episode("failed"), frames="all")
    pairs = [[round(250 * one) for one in seen] for seen, *_ in judge.calls]
    assert pairs == [list(pair) for pair in pairwise(CLIPS["failed"])]
    assert score.parts["negative"] == pytest.approx(2 / 5) and len(judge.calls[0][2]["places"]) == 2


def test_vlac_sees_pictures_as_its_authors_stretch_them(engine):
    """One square tile of 448 pixels, by Lanczos; as they are where another VLM stands for it."""
    from PIL import Image

    wide = np.random.default_rng(0).integers(0, 256, (30, 80, 3), dtype=np.uint8)
    square = stretched(Media(wide), 448)
    wanted = np.asarray(Image.fromarray(wide).resize((448, 448), Image.Resampling.LANCZOS))
    assert (square.still() == wanted).all() and stretched(square, 448) is square
    assert stretched(Media(wide), 0).size == (30, 80)
    with pytest.raises(ValueError, match="side is -1"):
        load("vlac", judge="mini-vlm", words="own", side=-1)


def test_vlac_by_its_name_or_format_is_read_here_and_all_else_is_a_vlm(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(models, "vlm", lambda name, **_: made.append(("vlm", name)))
    monkeypatch.setattr(models, "internvl", lambda name, writes, **_: made.append(("internvl", name)))
    (tmp_path / "config.json").write_text('{"model_type": "internvl_chat"}')
    served = "InternRobotics/VLAC@http://localhost:8000/v1"
    names = ("InternRobotics/VLAC", served, str(tmp_path), "mini-vlm", "Qwen/Qwen3-VL-8B-Instruct")
    for name in names:
        load("vlac", judge=name, words="own")
    kinds = ("internvl", "vlm", "internvl", "vlm", "vlm")
    assert made == list(zip(kinds, names, strict=True))


def test_the_prompt_is_the_one_that_the_model_puts_in_the_place_of_its_data_processors():
    """`GAC_model` assigns `prompt_templete["v3"]` when it starts; the words before that are never asked."""
    (pin,) = VLAC_PROMPT.pins
    assert pin.path.endswith("model_utils.py") and pin.sha256.startswith("d5838085e71a")


# --- batches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_episode_of_a_batch_is_asked_about_its_own_task(engine, monkeypatch, name):
    """Robo-Dopamine's evaluation asks all of a batch about the first one's task, others about a default."""
    judge = use(monkeypatch, Judge(SAID.get(name), believed))
    goal = (Media(grey(250)),)
    samples = [
        Sample(id=task, prompt=task, video=film(0, 125, 250), inputs=goal) for task in ("push", "lift")
    ]
    args = {"frames": "all"} if name != "roboreward" else {}
    scores = engine.score(samples, load(name, words="own", **args))[name]
    asked = [sum(task in prompt for _, prompt, _ in judge.calls) for task in ("push", "lift")]
    assert asked[0] == asked[1] == len(judge.calls) / 2 and all(score.ok for score in scores)


def test_a_percentage_that_is_null_is_unknown_and_shifts_nothing():
    assert read_percentages(items((1, 10), (2, None), (3, 30)).replace("[x]", ""), 3) == [10, None, 30]
