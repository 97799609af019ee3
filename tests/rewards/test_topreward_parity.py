"""TOPReward against a second writing of its published lines, on the miniature's network."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from mmreward import Media, Sample, load
from mmreward.models.weights import locate
from mmreward.rewards.robot.topreward import PROMPT


def frames(count: int) -> np.ndarray:
    film = np.zeros((count, 64, 64, 3), np.uint8)
    for number in range(count):
        film[number, 8 * number % 48 : 8 * number % 48 + 16, 16:40, 0] = 255
    return film


@pytest.fixture(scope="module")
def published():
    """The encoder step and `compute_reward` of LeRobot's port, written again."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = locate("mini-vlm")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)

    def reward(film: np.ndarray, task: str) -> float:
        prefix, suffix = PROMPT.own.split("{prompt}")
        content = [{"type": "video"}, {"type": "text", "text": prefix}]
        chat = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        chat = chat.split(processor.tokenizer.eos_token)[0]
        clip = torch.from_numpy(film).permute(0, 3, 1, 2)
        about = {"total_num_frames": len(film), "fps": 2.0, "frames_indices": list(range(len(film)))}
        inputs = processor(
            text=[f"{chat}{task}{suffix} True"],
            videos=[clip],
            video_metadata=[about],
            do_sample_frames=False,
            return_tensors="pt",
        )
        with torch.no_grad():
            logits = model(**inputs, logits_to_keep=2).logits
        return float(-cross_entropy(logits[:, -2].float(), inputs["input_ids"][:, -1]))

    return reward


@pytest.mark.parametrize("count", [2, 6])
def test_the_reward_is_the_published_one(engine, published, count):
    film, task = frames(count), "push the red square"
    sample = Sample(prompt=task, video=Media(film, "video", fps=2.0))
    reward = load("topreward", judge="mini-vlm", words="own")
    (score,) = engine.score([sample], reward)["topreward"]
    assert score.value == pytest.approx(published(film, task), abs=1e-4)
    closed = load("topreward", judge="mini-vlm", words="own", chat=True)
    assert engine.score([sample], closed)["topreward"][0].value != pytest.approx(score.value, abs=1e-3)
