"""StableReinforce's guards by hand, and in TRL's GRPO at its real call site."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmreward import assets

pytest.importorskip("trl")
from datasets import Dataset
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, GRPOTrainer

from mmreward.adapters.trl_gate import Gate, GatedGRPOTrainer
from mmreward.adapters.trl_stable import StableGRPOTrainer, pre_clipped_log_ratio, within_sigmas

FOLDER = Path(assets.__file__).parent / "mini-vlm"
NAN = math.nan


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_a_ratio_is_clipped_before_it_can_overflow():
    logp = rows(0.0, 0.5, 1000.0, -1000.0, -math.inf).requires_grad_()
    got = pre_clipped_log_ratio(logp, torch.zeros(5, dtype=torch.float64)).exp()
    assert got.tolist() == pytest.approx([1.0, math.exp(0.5), 1e3, 1e-3, 1e-3])
    got.sum().backward()
    assert logp.grad.tolist() == pytest.approx([1.0, math.exp(0.5), 0.0, 0.0, 0.0])
    assert pre_clipped_log_ratio(rows(2.0), rows(0.0), high=2.0).exp().tolist() == pytest.approx([2.0])


def test_an_outlier_and_a_failed_row_are_left_out():
    within = within_sigmas(rows(*[1.0, -1.0] * 10, 50.0, NAN))
    assert within[:20].all() and not within[20] and not within[21]


def test_the_filter_does_not_depend_on_where_the_scale_begins():
    values = rows(*[0.0, 1.0] * 10, 30.0)
    for moved in (values + 100, values * 7 - 3):
        assert within_sigmas(moved).tolist() == within_sigmas(values).tolist() == [True] * 20 + [False]


def test_equal_values_and_no_values_have_no_outlier():
    for number in (2, 3, 7, 100):
        assert within_sigmas(rows(*[0.1] * number)).all()
    assert within_sigmas(rows()).tolist() == []
    assert within_sigmas(rows(NAN)).tolist() == [False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pre_clipped_log_ratio(rows(0.0), rows(0.0, 1.0)), "shape"),
        (lambda: pre_clipped_log_ratio(rows(0.0), rows(0.0), low=2.0), "bounds"),
        (lambda: within_sigmas(rows(math.inf)), r"values\[0\]"),
        (lambda: within_sigmas(rows(1.0)[None]), "shape"),
        (lambda: within_sigmas(rows(1.0), sigmas=0), "sigmas"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- in TRL -----------------------------------------------------------------------------------------------


def ranks(completions, **_):
    """Every other completion is right."""
    return [float(row % 2) for row in range(len(completions))]


def one_in_sixteen(completions, **_):
    """Fifteen completions of a group are alike, one is far better: an outlier of its batch; the first
    failed."""
    return [None] + [float(row == 1) for row in range(1, len(completions))]


def built(kind, folder, reward=ranks, number=2, steps=1, **given):
    torch.manual_seed(0)
    question = [{"role": "user", "content": "How many shapes are there? Answer with one number."}]
    picture = Image.new("RGB", (64, 64), "white")
    more = given.pop("kind_arguments", {})
    return kind(
        model=AutoModelForImageTextToText.from_pretrained(FOLDER),
        processing_class=AutoProcessor.from_pretrained(FOLDER),
        reward_funcs=[reward],
        args=GRPOConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            max_steps=steps,
            per_device_train_batch_size=max(number, 4),
            num_generations=number,
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
            **given,
        ),
        train_dataset=Dataset.from_list([{"prompt": question, "image": picture}] * 4),
        **more,
    )


def trained(*args, **given):
    trainer = built(*args, **given)
    trainer.train()
    return trainer


@pytest.mark.filterwarnings("ignore")
def test_where_nothing_is_clipped_training_stays_what_it_was_bit_for_bit(tmp_path):
    """Three updates on the same completions, whose ratios leave 1 but not the bounds; with a KL penalty."""
    again = {"steps": 3, "num_iterations": 3, "beta": 0.1}
    kinds = {"plain": GRPOTrainer, "on": StableGRPOTrainer, "off": StableGRPOTrainer}
    ends = {
        name: trained(
            kind, tmp_path / name, **again, kind_arguments={"stable": False} if name == "off" else {}
        ).model.state_dict()
        for name, kind in kinds.items()
    }
    for name, value in ends["plain"].items():
        assert torch.equal(value, ends["on"][name]) and torch.equal(value, ends["off"][name]), name


@pytest.mark.filterwarnings("ignore")
def test_an_outlier_has_no_advantage_and_is_counted(tmp_path):
    class Recorded(StableGRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            self.batch = super()._generate_and_score_completions(inputs)
            return self.batch

    plain = trained(Recorded, tmp_path / "off", one_in_sixteen, 16, kind_arguments={"stable": False})
    stable = trained(Recorded, tmp_path / "on", one_in_sixteen, 16)
    before, after = plain.batch["advantages"], stable.batch["advantages"]
    assert before[1] > 3 and after[1] == 0
    assert before[0] == after[0] == 0, "a failed row is no outlier"
    assert torch.equal(before[2:], after[2:]) and before[2:].abs().min() > 0
    assert stable.state.log_history[0]["stable/outliers"] == pytest.approx(1 / 16)
    assert "stable/outliers" not in plain.state.log_history[0]


PICTURES = ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")


@pytest.mark.filterwarnings("ignore")
def test_a_ratio_far_away_reaches_the_loss_clipped_and_its_penalty_does_not(tmp_path):
    """Old log-probabilities 1000 lower than they were: without the guard e^1000 overflows."""
    penalty = math.exp(-0.5) + 0.5 - 1  # of a reference whose log-probabilities are lower by a half
    losses = {}
    for name, kind in (("plain", GRPOTrainer), ("stable", StableGRPOTrainer)):
        trainer = built(kind, tmp_path / name, beta=0.1, loss_type="grpo", use_bias_correction_kl=False)
        trainer.current_gradient_accumulation_steps = 1
        batch = trainer._generate_and_score_completions([trainer.train_dataset[row // 2] for row in range(4)])
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
        with torch.no_grad():
            logps, *_ = trainer._get_per_token_logps_and_entropies(
                trainer.model,
                ids,
                mask,
                batch["completion_ids"].size(1),
                **{key: batch[key] for key in PICTURES if key in batch},
            )
        batch["advantages"] = torch.full((4,), -1.0)
        batch |= {"old_per_token_logps": logps - 1000, "ref_per_token_logps": logps - 0.5}
        loss = trainer._compute_loss(trainer.model, batch)
        loss.backward()
        gradients = [p.grad.abs().sum() for p in trainer.model.parameters() if p.grad is not None]
        losses[name] = float(loss.detach()), float(torch.stack(gradients).sum())
        assert trainer._metrics["eval"]["kl"][-1] == pytest.approx(penalty, rel=1e-3)
    assert math.isinf(losses["plain"][0])
    loss, gradient = losses["stable"]
    assert loss == pytest.approx(1000 + 0.1 * penalty, rel=1e-4)
    assert 0 < gradient < math.inf, "that of the penalty is still there"


@pytest.mark.filterwarnings("ignore")
def test_it_goes_with_the_gate_and_with_losses_of_a_ratio_only(tmp_path):
    gated = built(GatedGRPOTrainer, tmp_path, kind_arguments={"gate": Gate(), "stable": True})
    assert gated._stable and not built(GatedGRPOTrainer, tmp_path)._stable
    with pytest.raises(ValueError, match="loss_type 'cispo' has none"):
        built(StableGRPOTrainer, tmp_path, loss_type="cispo")
