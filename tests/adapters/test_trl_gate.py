"""PEARL's gate at TRL's real call site: what is trained on, what is logged, and what is left as it was."""

import math
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from mmreward import Score
from mmreward.assets import ASSETS

pytest.importorskip("trl")

from trl import GRPOConfig, GRPOTrainer

from mmreward.adapters.trl_gate import Gate, GatedGRPOTrainer

pytestmark = pytest.mark.filterwarnings("ignore")
FOLDER = ASSETS / "mini-vlm"
NUMBER = 2
SEEN = {"question": "Is there a red circle? Answer yes or no.", "answer": ["yes", "no"]}
UNSEEN = {"question": "How many circles are there? Answer with one number.", "answer": ["zebra"]}
ROWS = {"sees": [SEEN, SEEN], "half": [SEEN, UNSEEN], "blind": [UNSEEN, UNSEEN], "unasked": None}
"""Source -> its probes, which mini-vlm gets all, half and none of; the last row has none."""
WEIGHTS = {"sees": 1.0, "half": 0.5, "blind": 0.25, "unasked": 1.0}


def ranks(completions, **_):
    """Every other completion is right."""
    return [float(row % 2) for row in range(len(completions))]


class Recorded:
    """Keeps what a trainer generates for, and the advantages before TRL shuffles them and in the loss."""

    def __init__(self, *args, **kwargs):
        self.before, self.trained, self.sizes, self.texts = [], [], [], []
        super().__init__(*args, **kwargs)

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        self.sources = [row["source"] for row in inputs]
        self.before.append(batch["advantages"].clone())
        return batch

    def _compute_loss(self, model, inputs):
        self.trained.append(inputs["advantages"].clone())
        return super()._compute_loss(model, inputs)

    def _generate_single_turn(self, prompt_ids, *rest):
        ids, logprobs = super()._generate_single_turn(prompt_ids, *rest)
        self.sizes.append((len(prompt_ids), max(map(len, ids))))
        return ids, logprobs


class Plain(Recorded, GRPOTrainer):
    pass


class Gated(Recorded, GatedGRPOTrainer):
    pass


def built(kind, folder, steps=1, rows=ROWS, **kwargs):
    torch.manual_seed(0)
    picture = Image.new("RGB", (64, 64), "white")
    data = [
        {
            "prompt": [{"role": "user", "content": "How many shapes are there? Answer with one number."}],
            "image": picture,
            "source": source,
            "probes": probes,
        }
        for source, probes in rows.items()
    ]
    config = GRPOConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        max_steps=steps,
        per_device_train_batch_size=NUMBER * len(rows),
        num_generations=NUMBER,
        max_completion_length=5,
        temperature=1.5,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        gradient_checkpointing=False,
        seed=0,
    )
    return kind(
        model=AutoModelForImageTextToText.from_pretrained(FOLDER),
        processing_class=AutoProcessor.from_pretrained(FOLDER),
        reward_funcs=[ranks],
        args=config,
        train_dataset=Dataset.from_list(data),
        **kwargs,
    )


def run(kind, folder, steps=1, **kwargs):
    trainer = built(kind, folder, steps, **kwargs)
    trainer.train()
    return trainer


def gate(**given):
    return Gate(**{"floor": 0.25, "together": False, "longest": 3, **given})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two steps without a gate, with one that lets all pass, and with one that does not."""
    folder = tmp_path_factory.mktemp("gate")
    return {
        "plain": run(Plain, folder, 2),
        "open": run(Gated, folder, 2, gate=gate(floor=1.0)),
        "gated": run(Gated, folder, 2, gate=gate()),
    }


def test_what_is_trained_on_is_the_plain_advantage_times_the_weight(runs):
    plain, gated = runs["plain"], runs["gated"]
    weights = torch.tensor([WEIGHTS[source] for source in gated.sources])
    assert len(set(gated.sources)) == 4 and plain.before[0].abs().min() > 0.5
    # of the last step are the sources, and every step has all rows
    assert torch.equal(gated.before[1], plain.before[1] * weights)
    for trained, before in zip(gated.trained, gated.before, strict=True):
        assert torch.equal(trained.sort().values, before.sort().values)
    assert list(gated._logs["extra"]["gate/weight"]) == weights.tolist()


def test_an_open_gate_changes_nothing_bit_for_bit(runs):
    plain, opened, gated = (runs[name].model.state_dict() for name in ("plain", "open", "gated"))
    assert all(torch.equal(value, opened[name]) for name, value in plain.items())
    assert not all(torch.equal(value, gated[name]) for name, value in plain.items())
    assert runs["open"].sizes[0] == runs["plain"].sizes[0] and len(runs["open"].sizes) == 6


def test_figures_are_logged_by_source(runs):
    told = runs["gated"].state.log_history[0]
    assert told["gate/overall/perception/weight"] == pytest.approx((1 + 0.5 + 0.25 + 1) / 4)
    assert told["gate/overall/perception/probes"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert told["gate/overall/perception/failed"] == 0.25
    assert told["gate/sources/blind/perception/lucky"] == 0.5  # half of its answers are right
    assert told["gate/sources/sees/perception/consistent"] == 0.5
    assert told["gate/sources/sees/perception/lucky"] == 0
    assert told["gate/sources/half/perception/all_right"] == 0
    assert "gate/sources/unasked/perception/lucky" not in told
    assert "gate/overall/perception/weight" not in runs["plain"].state.log_history[0]


def test_probes_are_sampled_per_completion_or_greedily_per_group(runs, tmp_path):
    """Eight completions; of probes, two for each of six rows, or of three groups; and they stay short."""
    sampled = runs["gated"].sizes[:3]
    assert [size for size, _ in sampled] == [8, 8, 4]
    assert max(longest for _, longest in sampled[1:]) <= 3
    greedy = run(Gated, tmp_path, gate=gate(greedy=True))
    assert [size for size, _ in greedy.sizes] == [8, 6]
    assert greedy.generation_config.do_sample and greedy.generation_config.max_new_tokens == 5
    by_source = dict(zip(greedy.sources, greedy._logs["extra"]["gate/weight"], strict=True))
    assert by_source == WEIGHTS


def test_together_an_answer_without_tags_is_wrong_and_evaluation_is_not_gated(tmp_path):
    trainer = run(Gated, tmp_path, gate=gate(together=True))
    weights = dict(zip(trainer.sources, trainer._logs["extra"]["gate/weight"], strict=True))
    assert weights == {"sees": 0.25, "half": 0.25, "blind": 0.25, "unasked": 1.0}  # mini-vlm knows no tags
    asked = len(trainer.sizes)
    trainer.model.eval()
    trainer.num_generations_eval = NUMBER
    inputs = [trainer.train_dataset[row // NUMBER] for row in range(8)]
    with torch.no_grad():
        batch = trainer._generate_and_score_completions(inputs)
    assert len(trainer.sizes) == asked + 1
    assert batch["advantages"].abs().min() > 0.5


def test_a_group_may_lie_in_two_processes(tmp_path):
    """This is the second of two with three rows each, and the middle group has a row in each."""
    trainer = built(Gated, tmp_path, gate=gate(floor=0.1))
    elsewhere = torch.tensor([0.0, 0.0, 1.0])
    trainer.accelerator = SimpleNamespace(
        process_index=1, device=torch.device("cpu"), gather=lambda own: torch.cat([elsewhere, own])
    )
    probes = [Score(0.5), Score.failed("error", "no probes"), Score.failed("error", "no probes")]
    answers = [1.0, 0.0] * 3
    assert trainer._gated(probes, answers) == pytest.approx([0.75, 1.0, 1.0])
    assert trainer._gated([Score(0.0), Score(0.0), Score(0.4)], answers) == pytest.approx([0.5, 0.2, 0.2])


def test_groups_that_see_nothing_or_teach_nothing_do_not_train(tmp_path):
    """By default all four train. Half of the answers to each are right, so mix alone leaves none out."""
    trimmed = run(Gated, tmp_path, gate=gate(trim=0.01, spare=0.0))
    weights = dict(zip(trimmed.sources, trimmed._logs["extra"]["gate/weight"], strict=True))
    assert weights == {**WEIGHTS, "blind": 0.0}
    assert (trimmed.before[0] == 0).tolist() == [source == "blind" for source in trimmed.sources]
    spared = run(Gated, tmp_path, gate=gate(trim=0.01, spare=1.0, mix=(0.01, 0.99)))
    assert dict(zip(spared.sources, spared._logs["extra"]["gate/weight"], strict=True)) == WEIGHTS
    trainer = built(Gated, tmp_path, gate=gate(floor=0.1, mix=(0.01, 0.99)))
    right, half = [Score(1.0)] * 2, [Score(1.0), Score(0.0)]
    assert trainer._gated([*right, *right, *half], [1.0, 1.0, 1.0, 0.0, math.nan, 1.0]) == [
        0,
        0,
        1,
        1,
        0.5,
        0.5,
    ]


def test_a_process_with_fewer_probes_asks_on(tmp_path):
    """A model that is sharded over processes is called by all of them equally often."""
    trainer = built(Gated, tmp_path, gate=gate())
    whole = trainer.accelerator
    prompts = [[{"role": "user", "content": "How many shapes are there? Answer with one number."}]] * 2
    most = torch.tensor([5])
    trainer.accelerator = SimpleNamespace(
        process_index=0,
        device=whole.device,
        gather=lambda own: torch.cat([own, most]),
        unwrap_model=whole.unwrap_model,
    )
    trainer._tokenize_prompts = lambda asked: (asked, None, {})
    trainer._generate_single_turn = lambda ids, *_: (trainer.sizes.append(len(ids)) or [[1]] * len(ids), None)
    assert len(trainer._said(prompts[:1], prompts)) == 1
    assert trainer.sizes == [2, 2, 1]


def test_what_makes_no_sense_is_said(tmp_path):
    for wrong, said in [
        ({"floor": 1.5}, "lies in"),
        ({"floor": math.nan}, "lies in"),
        ({"longest": 0}, "1"),
        ({"spare": 2}, "skip 2"),
        ({"mix": (0.9, 0.1)}, "below high"),
    ]:
        with pytest.raises(ValueError, match=said):
            Gate(**wrong)
    with pytest.raises(ValueError, match="no reward function 'none'; there are ranks"):
        built(Gated, tmp_path, gate=gate(accuracy="none"))
    trainer = built(Gated, tmp_path, gate=gate(column="checks"))
    with pytest.raises(
        ValueError, match="no column checks in the data: there are prompt, image, source, probes"
    ):
        trainer.train()
