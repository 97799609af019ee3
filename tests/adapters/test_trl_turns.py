"""Two turns at TRL's real call site: what is generated, what is masked, and what rewards get to see."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from support.toys import toy

from mmreward import Score, Unscorable, assets

pytest.importorskip("trl")
from datasets import Dataset
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, GRPOTrainer

from mmreward.adapters import trl

FOLDER = Path(assets.__file__).parent / "mini-vlm"
PICTURES = ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")
AGAIN = "look again. how many circles are there?"
SEEN = []


async def seen(sample):
    SEEN.append(sample)
    return Score(float(len(sample.response) % 2))


class Recording(GRPOTrainer):
    """Keeps what it trains on."""

    def _generate_and_score_completions(self, inputs):
        self.batch = super()._generate_and_score_completions(inputs)
        return self.batch


def trained(following, tmp_path, longest=8):
    SEEN.clear()
    question = [{"role": "user", "content": "is there a red circle? answer yes or no."}]
    shades = ("red", "blue")
    pictures = [[Image.new("RGB", (64, 64), one), Image.new("RGB", (64, 64), "green")] for one in shades]
    trainer = Recording(
        model=AutoModelForImageTextToText.from_pretrained(FOLDER),
        processing_class=AutoProcessor.from_pretrained(FOLDER),
        reward_funcs=trl.reward({"seen": {}}),
        rollout_func=trl.rollout(following),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            max_steps=1,
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=longest,
            temperature=2.0,
            learning_rate=0.0,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            seed=0,
        ),
        train_dataset=Dataset.from_list([{"prompt": question, "images": shown} for shown in pictures]),
    )
    trainer.train()
    return trainer


@pytest.fixture(autouse=True)
def reward():
    toy(seen, "seen", needs=("response",))


@pytest.mark.filterwarnings("ignore")
def test_the_second_question_is_read_and_not_learned(tmp_path):
    asked = []

    def following(noted):
        asked.append(noted)
        return AGAIN

    trainer = trained(following, tmp_path, longest=60)
    tokenizer = trainer._tokenizer
    batch = trainer.batch
    whole = [sample.meta["written_turns"] for sample in SEEN]
    assert {len(turns) for turns in whole} >= {2} and len(asked) == sum(len(turns) == 2 for turns in whole)
    told = "<|im_end|>\n<|im_start|>user\n" + AGAIN + "<|im_end|>\n<|im_start|>assistant\n"
    for row, sample in enumerate(SEEN):
        turns = sample.meta["written_turns"]
        assert sample.response == turns[-1]
        ids = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        learned = batch["tool_mask"][row][: len(ids)].bool()
        text = tokenizer.decode(ids)
        if len(turns) == 1:
            assert learned.all() and AGAIN not in text
            continue
        between = tokenizer.decode(ids[~learned])
        assert between == told.removeprefix("<|im_end|>") and text.count(AGAIN) == 1
        messages = [{"role": "assistant", "content": turns[0]}, {"role": "user", "content": AGAIN}]
        chat = trainer.processing_class.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        before = tokenizer.encode(chat.partition("assistant\n")[2], add_special_tokens=False)
        assert ids[: len(before)].tolist() == before, "not what the chat template makes of this conversation"


@pytest.mark.filterwarnings("ignore")
def test_the_policy_s_probabilities_are_those_of_the_conversation(tmp_path):
    """The trainer's log-probabilities of both turns, against one plain forward over the whole text."""
    trainer = trained(lambda noted: AGAIN, tmp_path, longest=60)
    model = AutoModelForImageTextToText.from_pretrained(FOLDER).eval()
    processor, batch = trainer.processing_class, trainer.batch
    row = next(i for i, one in enumerate(SEEN) if len(one.meta["written_turns"]) == 2)
    shown = [media.picture() for media in (SEEN[row].image, *SEEN[row].inputs)]
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": SEEN[row].prompt}]
    chat = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    ids = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
    inputs = processor(text=[chat], images=shown, return_tensors="pt")
    start = inputs["input_ids"].shape[1]
    text = torch.cat([inputs.pop("input_ids")[0], ids])[None]
    inputs = {"pixel_values": inputs["pixel_values"], "image_grid_thw": inputs["image_grid_thw"]}
    kinds = (text == processor.tokenizer.convert_tokens_to_ids(processor.image_token)).int()
    with torch.no_grad():
        logits = model(input_ids=text, mm_token_type_ids=kinds, **inputs).logits[0, start - 1 : -1] / 2.0
        want = logits.log_softmax(-1).gather(-1, ids[:, None])[:, 0]
        got, *_ = trainer._get_per_token_logps_and_entropies(
            trainer.model.eval(),
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1),
            batch["completion_ids"].shape[1],
            **{name: batch[name] for name in PICTURES},
        )
    torch.testing.assert_close(got[row][: len(ids)], want, atol=1e-3, rtol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_a_first_turn_that_is_not_followed_up_stays_alone(tmp_path):
    def never(noted):
        raise Unscorable("not as wanted", "unparsable")

    trainer = trained(never, tmp_path)
    assert all(len(sample.meta["written_turns"]) == 1 for sample in SEEN)
    assert torch.equal(trainer.batch["tool_mask"].bool(), trainer.batch["completion_mask"].bool())


@pytest.mark.filterwarnings("ignore")
def test_one_that_is_cut_off_is_asked_nothing_more(tmp_path):
    trained(lambda noted: AGAIN, tmp_path, longest=1)
    assert all(len(sample.meta["written_turns"]) == 1 for sample in SEEN)
