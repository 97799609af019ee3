"""Training a judge: true rationales, the figures of an exam, and every stage for a few steps."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from support.toys import toy

from mmreward import Engine, Media, Sample, Score, assets
from mmreward.adapters import trl_stable
from mmreward.config import load_yaml
from mmreward.data.pair_folder import PreferencePair, write_pairs
from mmreward.data.response_pairs import read_response_pairs, write_response_pairs
from mmreward.evals.studies.judges import JudgeConfig, Sitting, against, main, table, train
from mmreward.judges import miniature, training
from mmreward.judges.comparison import Comparison, comparisons_of_answers
from mmreward.judges.exam import Exam, examine, marks_of
from mmreward.judges.rationales import RationaleSampling
from mmreward.mini import oracle
from mmreward.mini.tasks import compare
from mmreward.models.vlms.answers import Written
from mmreward.rewards.judged.asking import Asking, read_branch, read_judgement

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "judge").glob("*.yaml"))
TWO = Asking(turns=2, criteria=miniature.CRITERIA, system="")


# --- what is drawn --------------------------------------------------------------------------------


def test_the_better_picture_is_the_one_the_oracle_finds_closer():
    for one in miniature.sample_comparisons(40, seed=3):
        f1 = [
            (found.f1, not found.crossed)
            for picture in one.comparison.pictures
            for found in [compare(one.caption, oracle.read(picture.picture()))]
        ]
        assert (f1[0] > f1[1]) == (one.comparison.better == "1") and f1[0] != f1[1]


def test_true_rationales_have_the_form_that_is_asked_for():
    for one in miniature.sample_comparisons(40, seed=4):
        assert read_judgement(one.true_rationale(Asking()).turns).verdict == one.comparison.better
        noted, answer = one.true_rationale(TWO).turns
        branch = read_branch(noted, miniature.CRITERIA)
        assert all("shows" in issue for issue in branch.issues) and read_judgement((answer,)).verdict
        worse = branch.issues[2 - int(one.comparison.better)]
        assert any(word in worse for word in ("missing", "not asked for", "is not"))
        assert all(name in TWO.following(noted) for name in branch.criteria)


def test_both_places_are_right_about_as_often():
    better = [one.comparison.better for one in miniature.sample_comparisons(200, seed=5)]
    assert 70 < better.count("1") < 130


# --- exams ----------------------------------------------------------------------------------------


async def hears(sample):
    """A listener that believes whoever says "sure"."""
    sure = "sure" in sample.response
    says = "1" if "sure 1" in sample.response else "2"
    return Score(0.9 if sure and says == sample.target else 0.1, {"agrees": float(sure)})


class Judge:
    """Answers by the place, by the truth, or not at all, as the request says."""

    def __init__(self, truth):
        self.truth = truth

    async def write(self, pictures, question, **_):
        request = question.split("request: ")[1].splitlines()[0]
        right = self.truth[request, pictures[0].key]
        said = {"place": "1", "right": right, "wrong": "21"[int(right) - 1]}.get(request.split()[0])
        return Written(f"<think>sure {said}</think><answer>{said}</answer>" if said else "hm", True, 3)


def test_an_exam_tells_the_right_from_the_lucky():
    pictures = [one.comparison.pictures for one in miniature.sample_comparisons(4, seed=6)]
    requests = ("place", "right", "wrong", "mute")
    asked = [Comparison(name, name, shown, "1") for name, shown in zip(requests, pictures, strict=True)]
    truth = {(one.request, one.pictures[0].key): one.better for pair in asked for one in (pair, pair.swapped)}
    listener = toy(hears, "hears")
    with Engine("cpu") as engine:
        sampling = RationaleSampling(asking=Asking(system=""), temperature=0.0)
        exam = examine(engine, Judge(truth), listener, asked, sampling)
    assert exam.right.tolist() == [0.5, 1.0, 0.0, 0.0]
    assert exam.swing.tolist() == [1.0, 0.0, 0.0, 1.0]
    assert exam.heard.tolist() == pytest.approx([0.5, 0.9, 0.1, 0.0])
    assert exam.agrees.tolist() == [1.0, 1.0, 1.0, 0.0] and exam.readable.tolist() == [1.0, 1.0, 1.0, 0.0]
    lines = table("judge", [[Sitting("nothing", exam, 0.1), Sitting("grpo", exam, 2.0)]]).splitlines()
    assert lines[0].startswith("| judge | before | after grpo, 2.0 min |")
    assert lines[2] == "| right verdicts | 0.375 | 0.375 | +0.0 (+0.0 to +0.0) |"


# --- stages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_recipes_are_valid(path):
    config = load_yaml(path, JudgeConfig)
    Asking(**config.asking)
    assert config.out == f"runs/judge-{path.stem}"


SFT = {
    "max_steps": 1,
    "per_device_train_batch_size": 4,
    "max_length": None,
    "learning_rate": 1e-5,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
}
GRPO = {**{key: held for key, held in SFT.items() if key != "max_length"}, "num_generations": 2}
ROUTE = {"rewards": {"verdict": {}}, "accuracy": {"verdict": 1.0}}
BOTH = {"kind": "grpo", "route": ROUTE, "trainer": {**GRPO, "max_completion_length": 8}}


@pytest.mark.filterwarnings("ignore")
def test_every_kind_of_stage_on_pairs_of_a_folder(tmp_path):
    """A teacher is taught, rationales are drawn, kept and learned, and the policy is updated."""
    pairs = [
        PreferencePair(prompt=one.comparison.request, chosen=shown[place], rejected=shown[1 - place])
        for one in miniature.sample_comparisons(12, seed=8)
        for shown, place in [(one.comparison.pictures, int(one.comparison.better) - 1)]
    ]
    write_pairs(tmp_path / "pairs", pairs)
    stages = [
        {"kind": "taught", "who": "teacher", "hint": True, "number": 4, "trainer": SFT},
        {"kind": "parrot", "least": 0.0, "trainer": SFT},
        {"kind": "rejection", "draws": 2, "trainer": SFT},
        {**BOTH, "unsolved": True},
    ]
    config = JudgeConfig(
        asking={"system": ""},
        pairs=str(tmp_path / "pairs"),
        examined=2,
        stages=stages,
        out=str(tmp_path / "out"),
    )
    sittings = train(config)
    assert [one.after for one in sittings] == ["nothing", "parrot", "rejection", "grpo"]
    folders = [config.folder(number) for number in range(5)]
    assert sorted((tmp_path / "out" / "seed-0").iterdir()) == folders
    lefts = [json.loads((folder / "stage.json").read_text()) for folder in folders]
    assert [left["exam"] is not None for left in lefts] == [True, False, True, True, True]
    assert [Path(left["weights"]["student"]).parent.name for left in lefts[2:]] == [
        folder.name for folder in folders[2:]
    ]
    assert len(lefts[0]["exam"]["right"]) == 2 and sittings[0].exam.readable.mean() == 1
    assert lefts[3]["unsolved"] == lefts[4]["unsolved"] != []


def answered(folder, number):
    """A folder of pairs of responses about pictures of shapes world."""
    drawn = [one.comparison for one in miniature.sample_answers(number, seed=9)]
    halves = [
        tuple(
            Sample(prompt=one.request, image=one.pictures[0], response=text)
            for text in (one.answers if one.better == "1" else one.answers[::-1])
        )
        for one in drawn
    ]
    write_response_pairs(folder, halves, [{}] * number)
    return drawn


def test_two_answers_are_compared_as_two_pictures_are(tmp_path):
    drawn = answered(tmp_path / "pairs", 40)
    read = comparisons_of_answers(read_response_pairs(tmp_path / "pairs"))
    for one, again in zip(drawn, read, strict=True):
        assert again.answers in (one.answers, one.answers[::-1]) and len(again.pictures) == 1
        right = [pair.answers[int(pair.better) - 1] for pair in (one, one.swapped, again, again.swapped)]
        assert len(set(right)) == 1 and one.swapped.pictures == one.pictures
        question = Asking().opening(again.request, again.answers)
        assert question.index(again.answers[0]) < question.index(again.answers[1])
    assert {one.better for one in read} == {"1", "2"}
    for one in miniature.sample_answers(20, seed=4):
        judgement = read_judgement(one.true_rationale(Asking()).turns)
        assert judgement.verdict == one.comparison.better
        caption = one.captions[int(judgement.verdict) - 1]
        assert compare(caption, oracle.read(one.comparison.pictures[0].picture())).f1 == 1
    with pytest.raises(ValueError, match="in one turn"):
        TWO.opening("q", ("a", "b"))
    with pytest.raises(ValueError, match=r"answers has no \{second\}"):
        Asking(answers="{prompt} {first}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1 is not JSON"),
        ('{"prompt": "a", "chosen": "b", "rejected": "b"}', "twice the same"),
        ('{"prompt": "a", "chosen": "b", "rejected": "c", "tie": true}', "is a tie"),
    ],
)
def test_what_is_no_pair_of_answers_is_named(tmp_path, line, said):
    (tmp_path / "metadata.jsonl").write_text(line)
    with pytest.raises(ValueError, match=said):
        comparisons_of_answers(read_response_pairs(tmp_path))
    with pytest.raises(ValueError, match="mmreward pairs"):
        read_response_pairs(tmp_path / "none")


@pytest.mark.filterwarnings("ignore")
def test_generation_and_understanding_are_learned_at_once(tmp_path):
    """Pictures and answers in one cold start, in the samples that are rejected, and in one policy."""
    answered(tmp_path / "pairs", 4)
    taught = {"kind": "taught", "number": 4, "answers": True, "trainer": SFT}
    config = JudgeConfig(
        asking={"system": ""},
        pairs=2,
        answers=str(tmp_path / "pairs"),
        examined=2,
        stages=[taught, {**BOTH, "trainer": {**GRPO, "max_completion_length": 8}}],
        out=str(tmp_path / "out"),
    )
    sittings = train(config)
    assert [one.after for one in sittings] == ["nothing", "taught", "grpo"]
    assert all(one.exam.understood.shape == (2,) for one in sittings)
    assert "| right verdicts on answers |" in table("judge", [sittings])
    plain = config.model_copy(update={"answers": None})
    assert config.folder(1) == plain.folder(1) and config.folder(2) != plain.folder(2)
    with pytest.raises(ValueError, match="in one turn"):
        JudgeConfig(**{**config.model_dump(), "asking": {"turns": 2}})
    with pytest.raises(ValueError, match="two stages do both"):
        training.TaughtStage(**{**taught, "critiques": True})


SHIPPED = str(Path(assets.__file__).parent / "mini-vlm")


def seeds_run(tmp_path, monkeypatch, capsys, *seeds, **taught):
    """The command's tables, and the kinds of the stages that were run."""
    taught = {"kind": "taught", "number": 2, "trainer": SFT, **taught}
    recipe = {
        "asking": {"system": ""},
        "pairs": 2,
        "examined": 2,
        "max_tokens": 8,
        "stages": [taught, BOTH],
        "control": [taught],
        "out": str(tmp_path / "out"),
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    ran = []
    for name in ("TaughtStage", "GrpoStage"):
        stage = getattr(training, name)

        def run(self, state):
            ran.append((self.kind, state.seed))
            state.weights[getattr(self, "who", "student")] = SHIPPED + "/" * (self.kind == "grpo")

        monkeypatch.setattr(stage, "run", run)
    monkeypatch.setattr(sys, "argv", ["judges", str(tmp_path / "recipe.yaml"), "--seeds", *map(str, seeds)])
    main()
    return capsys.readouterr().out, ran


def test_seeds_share_a_cold_start_with_their_control_and_go_on(tmp_path, monkeypatch, capsys):
    printed, ran = seeds_run(tmp_path, monkeypatch, capsys, 1)
    assert ran == [("taught", 1), ("grpo", 1)]
    assert "| recipe | before | after taught, " in printed and "(95 %, 2 pairs) |" in printed
    printed, ran = seeds_run(tmp_path, monkeypatch, capsys, 1, 2)
    assert ran == [("taught", 2), ("grpo", 2)]
    assert "points (95 %, 2 seeds) | seed by seed |" in printed and "against its control" in printed


def test_a_teacher_with_a_seed_of_its_own_is_taught_once_for_all(tmp_path, monkeypatch, capsys):
    _, ran = seeds_run(tmp_path, monkeypatch, capsys, 1, 2, who="teacher", seed=5)
    assert ran == [("taught", 1), ("grpo", 1), ("grpo", 2)]
    (left,) = (tmp_path / "out" / "shared").glob("*/stage.json")
    assert json.loads(left.read_text())["weights"]["teacher"] == SHIPPED
    with pytest.raises(ValueError, match="only a teacher is shared"):
        training.TaughtStage(kind="taught", seed=5)


def exam(*right):
    column = np.array(right, dtype=float)
    return Exam(column, column, column, column, column)


def test_intervals_of_several_seeds_are_over_seeds():
    """Student's t over the points of each seed: +10, +20, +30 are 20 +- 4.30 * 10 / sqrt(3)."""
    before = exam(*[0.0] * 10)
    lasts = [exam(*[1.0] * number, *[0.0] * (10 - number)) for number in (1, 2, 3)]
    runs = [[Sitting("nothing", before, 0.1), Sitting("grpo", one, 2.0)] for one in lasts]
    right = table("judge", runs).splitlines()[2]
    assert right == "| right verdicts | 0.000 | 0.200 | +20.0 (-4.8 to +44.8) | +10.0, +20.0, +30.0 |"
    right = against("judge", runs, [[Sitting("nothing", before, 0.1), Sitting("grpo", lasts[0], 2.0)]] * 3)
    assert right.splitlines()[2] == (
        "| right verdicts | 0.100 | 0.200 | +10.0 (-14.8 to +34.8) | +0.0, +10.0, +20.0 |"
    )


async def brightness(sample):
    level = float(np.asarray(sample.image.picture()).mean()) / 255
    return Score(level) if level < 0.9 else Score.failed("unparsable", "too bright")


def test_marks_of_single_pictures_are_right_equal_or_wrong():
    bright, dark, white = (Media(np.full((8, 8, 3), level, np.uint8)) for level in (200, 10, 255))
    shown = [((bright, dark), "1"), ((dark, bright), "1"), ((dark, dark), "2"), ((white, dark), "1")]
    asked = [Comparison(str(place), "a", pictures, right) for place, (pictures, right) in enumerate(shown)]
    with Engine("cpu") as engine:
        marked = marks_of(engine, toy(brightness, "brightness"), asked)
    assert marked.tolist() == [1.0, 0.0, 0.5, 0.0]


async def convinced(sample):
    return Score(1.0)


def test_a_teacher_predicts_again_what_it_was_told(monkeypatch, tmp_path):
    """Published: of what it wrote, the teacher itself must reach the verdict, without the hint."""
    heard = []

    def load_listener(name, **args):
        heard.append((name, args))
        return toy(convinced, "convinced")

    monkeypatch.setattr(training, "load", load_listener)
    compared = [one.comparison for one in miniature.sample_comparisons(2, seed=3)]
    listener = toy(hears, "hears")
    with Engine("cpu") as engine:
        run = training.TrainingRun(
            engine, {"student": "a", "teacher": "mini-vlm"}, compared, Asking(system=""), listener, 60,
            tmp_path, 0,
        )  # fmt: skip
        learned = []
        monkeypatch.setattr(run, "finetune_student", lambda written, *_: learned.extend(written))
        training.ParrotStage(kind="parrot", filter="teacher").run(run)
    assert heard == [("listener", {"listener": "mini-vlm", "labels": ("1", "2")})]
    assert len(learned) == 2 and {one.outcome for one in learned} <= {"kept", "wrong", "unreadable"}


@pytest.mark.filterwarnings("ignore")
def test_two_turns_are_reinforced(tmp_path):
    config = JudgeConfig(
        student=str(Path(assets.__file__).parent / "mini-vlm"),
        weaken=0.1,
        asking={"turns": 2, "system": ""},
        pairs=4,
        examined=2,
        max_tokens=8,
        stages=[BOTH],
        out=str(tmp_path),
    )
    before, after = train(config)
    assert before.exam.right.shape == (2,) and after.after == "grpo"
    assert (config.folder(0) / "student").is_dir() and (config.folder(1) / "1-student").is_dir()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stable", [False, True])
def test_a_stage_may_be_reinforced_with_the_guards_of_r1_reward(tmp_path, monkeypatch, stable):
    built = []

    class Recorded(trl_stable.StableGRPOTrainer):
        def __init__(self, *args, **given):
            super().__init__(*args, **given)
            built.append(self)

    monkeypatch.setattr(trl_stable, "StableGRPOTrainer", Recorded)
    stage = {**BOTH, **({"stable": True} if stable else {})}
    train(
        JudgeConfig(
            asking={"system": ""}, pairs=2, examined=2, max_tokens=8, stages=[stage], out=str(tmp_path)
        )
    )
    assert [trainer._stable for trainer in built] == [True] * stable
    assert all(trainer.state.global_step == 1 for trainer in built)


def test_without_trl_a_trainer_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(ValueError, match=r'needs trl: pip install "mmreward\[trl\]"'):
        training._trainers()


def test_nothing_is_unsolved_before_a_rejection():
    with pytest.raises(ValueError, match=r"stages.0.unsolved: no rejection"):
        JudgeConfig(stages=[{**BOTH, "unsolved": True}], out="nowhere")


def test_a_teacher_that_convinces_nobody_ends_it(tmp_path):
    """The listener asks for more than any probability."""
    stages = [{"kind": "parrot", "least": 0.999999, "trainer": SFT}]
    config = JudgeConfig(asking={"system": ""}, pairs=2, examined=2, stages=stages, out=str(tmp_path))
    with pytest.raises(ValueError, match="nothing to learn from in 2 rationales"):
        train(config)


def test_more_held_out_than_there_are(tmp_path):
    one = miniature.sample_comparisons(1, seed=9)[0].comparison
    write_pairs(
        tmp_path / "pairs", [PreferencePair(prompt="p", chosen=one.pictures[0], rejected=one.pictures[1])]
    )
    config = JudgeConfig(pairs=str(tmp_path / "pairs"), stages=[BOTH], out=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="1 pairs, and 300 are to be held out"):
        train(config)
