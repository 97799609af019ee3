"""Robometer from a tiny random checkpoint of LeRobot's format, against a second writing of its lines."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.tiny_robometer import BINS, NUMBERED, TOKENS, save_robometer
from torch import nn

from mmreward import Media, Sample, load, models
from mmreward.errors import Unavailable
from mmreward.models.vlms.answers import asked
from mmreward.rewards.robot.robometer import COMPARED, EPISODE, PROGRESS

TASK = "push the red square"


def film(seed: int, count: int = 5) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    return np.repeat(np.repeat(small, 8, 1), 8, 2)


def sample(seed: int, **fields) -> Sample:
    return Sample(id=str(seed), prompt=TASK, video=Media(film(seed), "video", fps=1.0), **fields)


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    return save_robometer(tmp_path_factory.mktemp("robometer"))


class Published:
    """LeRobot's processor step and `compute_reward`, and the publisher's comparison, written again."""

    def __init__(self, place: Path) -> None:
        from transformers import AutoConfig, AutoProcessor, Qwen3VLForConditionalGeneration

        told, state = json.loads((place / "config.json").read_text()), load_file(place / "model.safetensors")
        self.processor = AutoProcessor.from_pretrained(told["base_model_id"])
        for token in TOKENS:
            self.processor.tokenizer.add_tokens([token], special_tokens=True)
        facts = told["vlm_config"]
        self.model = Qwen3VLForConditionalGeneration(
            AutoConfig.for_model(facts.pop("model_type"), **facts)
        ).eval()
        body = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
        missing, extra = self.model.load_state_dict(body, strict=False)
        assert missing == ["lm_head.weight"] and not extra
        self.heads = {}
        for name, outputs in (("progress_head", BINS), ("success_head", 1), ("preference_head", 1)):
            width = state[f"{name}.0.weight"].shape[1]
            layers = nn.Linear(width, width // 2), nn.LayerNorm(width // 2), nn.GELU(), nn.Dropout(0.1)
            head = nn.Sequential(*layers, nn.Linear(width // 2, outputs)).eval()
            head.load_state_dict(
                {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(name)}
            )
            self.heads[name] = head

    def states(self, content):
        from qwen_vl_utils import process_vision_info

        messages = [{"role": "user", "content": content}]
        text = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=False, add_vision_id=True
        )
        images, _ = process_vision_info(
            [messages], image_patch_size=self.processor.image_processor.patch_size
        )
        inputs = self.processor(text=[text], images=images, do_resize=False, return_tensors="pt")
        with torch.no_grad():
            output = self.model(**inputs, output_hidden_states=True)
        return inputs["input_ids"][0], output.hidden_states[-1][0]

    @staticmethod
    def frames(clip):
        return [
            part
            for frame in clip
            for part in (
                {"type": "image", "image": Image.fromarray(frame)},
                {"type": "text", "text": TOKENS[4]},
            )
        ]

    def at(self, ids, states, token):
        return states[ids == self.processor.tokenizer.convert_tokens_to_ids(token)]

    @torch.no_grad()
    def progress(self, clip):
        text = {"type": "text", "text": PROGRESS.own.format(prompt=TASK)}
        at = self.at(*self.states([text, *self.frames(clip)]), TOKENS[4])
        bins = self.heads["progress_head"](at).softmax(-1)
        return (bins * torch.linspace(0, 1, BINS)).sum(-1), self.heads["success_head"](at)[:, 0].sigmoid()

    @torch.no_grad()
    def better(self, first, second):
        before, between, after = COMPARED.own.format(prompt=TASK).split(EPISODE)
        content = [{"type": "text", "text": before}, *self.frames(first)]
        content += [
            {"type": "text", "text": TOKENS[0]},
            {"type": "text", "text": between},
            *self.frames(second),
        ]
        content += [{"type": "text", "text": after}, {"type": "text", "text": TOKENS[2]}]
        return float(self.heads["preference_head"](self.at(*self.states(content), TOKENS[2])).sigmoid())


@pytest.fixture(scope="module")
def published(args):
    return Published(Path(args["weights"]))


def test_progress_and_success_are_the_published_ones_at_every_frame(engine, published, args):
    score = engine.score([sample(0)], load("robometer", **args, frames="all"))["robometer"][0]
    progress, success = published.progress(film(0))
    assert score.value == pytest.approx(float(progress[-1]), abs=1e-5)
    assert [score.parts[f"frame_{n}"] for n in range(5)] == pytest.approx(progress.tolist(), abs=1e-5)
    assert [score.parts[f"success_frame_{n}"] for n in range(5)] == pytest.approx(success.tolist(), abs=1e-5)
    done = engine.score([sample(0)], load("robometer", **args, frames="all", how="success"))["robometer"][0]
    assert done.value == pytest.approx(float(success[-1]), abs=1e-5) and len(set(score.parts.values())) > 8


def test_the_pictures_are_numbered_and_no_answer_is_begun(args):
    assert "add_vision_id" in NUMBERED
    net = models.robometer(args["weights"])
    pictures = [Media(frame) for frame in film(0, 2)]
    chat = net.chat(asked(pictures, "task" + TOKENS[4] * 2, places=(4, 4 + len(TOKENS[4]))))
    assert chat.count("Picture: ") == 2 and chat.endswith("<|im_end|>\n")


def test_a_comparison_is_the_published_one_in_both_orders(engine, published, args):
    pair = [sample(1, group="g"), sample(2, group="g")]
    scores = engine.score(pair, load("robometer_pair", **args, frames="all"))["robometer_pair"]
    forth, back = published.better(film(1), film(2)), published.better(film(2), film(1))
    assert scores[0].value == pytest.approx((forth + 1 - back) / 2, abs=1e-5)
    assert scores[0].value + scores[1].value == pytest.approx(1, abs=1e-6)
    other = Sample(id="3", prompt="another task", video=pair[0].video, group="g")
    assert (
        "different tasks"
        in engine.score([pair[0], other], load("robometer_pair", **args))["robometer_pair"][0].note
    )


def test_batches_do_not_change_scores(engine, args):
    reward = load("robometer", **args, frames="3")
    samples = [sample(seed) for seed in range(3)]
    together = [score.value for score in engine.score(samples, reward)["robometer"]]
    engine.cache.clear()
    alone = [engine.score([one], reward)["robometer"][0].value for one in samples]
    assert together == pytest.approx(alone, abs=1e-5)


def test_a_task_with_one_of_its_tokens_is_refused(engine, args):
    one = Sample(prompt=f"push {TOKENS[4]}", video=sample(0).video)
    score = engine.score([one], load("robometer", **args))["robometer"][0]
    assert not score.ok and TOKENS[4] in score.note


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told.pop("vlm_config"), "no vlm_config"),
        (lambda told: told.update(use_multi_image=False), "use_multi_image: False"),
        (lambda told: told["vlm_config"]["text_config"].update(vocab_size=9), "trained on another body"),
        (lambda told: told.update(progress_discrete_bins=4), "progress_head"),
    ],
)
def test_another_format_is_refused_by_name(engine, args, tmp_path, change, words):
    place = shutil.copytree(args["weights"], tmp_path / "weights")
    told = json.loads((place / "config.json").read_text())
    change(told)
    (place / "config.json").write_text(json.dumps(told))
    with pytest.raises(Unavailable, match=words):
        engine.score([sample(0)], load("robometer", weights=str(place), words="own"))


def test_weights_that_lack_a_head_are_refused(engine, args, tmp_path):
    place = shutil.copytree(args["weights"], tmp_path / "weights")
    state = load_file(place / "model.safetensors")
    save_file(
        {k: v for k, v in state.items() if not k.startswith("success_head")}, place / "model.safetensors"
    )
    with pytest.raises(Unavailable, match="success_head"):
        engine.score([sample(0)], load("robometer", weights=str(place), words="own"))
