"""Held-out figures of the mini-vlm, task by task.

One-word answers are read off one forward pass of a packed row; boxes, critiques and verdicts are generated.
Pictures are fresh, clean or softened, at 32 and 64 pixels. This file trains nothing.
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from ..verifiers.boxes import Box, iou
from . import dialogues, tasks
from .tasks import Dialogue
from .vlm import Branch, Row, pack
from .vlm_pretrain import ScenePicture, draw_picture, draw_scene
from .world import Thing

WORD = (*dialogues.BINARY, "listen", "count", "attribute")


def measure(
    model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor, n: int = 200, seed: int = 1
) -> dict[str, float]:
    """Accuracies over `n` fresh pictures; `yes_no` weighs both alike, `iou` is the mean over true boxes."""
    model.eval()
    rng = np.random.default_rng((seed, 20, 26))
    views = [draw_picture(draw_scene(rng), rng, spoilt=0.0) for _ in range(n)]
    spoilt = [draw_picture(draw_scene(rng), rng, spoilt=0.5) for _ in range(n)]
    asked = [[d for name in WORD if (d := dialogues.FACTS[name](view.scene, rng))] for view in views]
    judged = [[dialogues.spoilt(view.level)] for view in spoilt]
    answers = _read([*views, *spoilt], [*asked, *judged], model, processor.tokenizer)
    figures = {name: _accuracy(answers, [name]) for name in (*WORD, "artifact")}
    figures["yes_no"] = _balanced(answers)
    figures |= _located(views, model, processor)
    figures |= _written(spoilt, rng, model, processor)
    return figures | _preferred(n, rng, model, processor)


def write(
    model: Qwen3VLForConditionalGeneration,
    processor: Qwen3VLProcessor,
    pictures: Sequence[Sequence[Image.Image]],
    questions: Sequence[str],
    batch: int = 64,
) -> list[str]:
    """Greedy answers through the ordinary processor and `generate`."""
    said: list[str] = []
    for start in range(0, len(questions), batch):
        part = slice(start, start + batch)
        turns = [
            [
                {
                    "role": "user",
                    "content": [*({"type": "image"} for _ in seen), {"type": "text", "text": asked}],
                }
            ]
            for seen, asked in zip(pictures[part], questions[part], strict=True)
        ]
        texts = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        flat = [picture for seen in pictures[part] for picture in seen]
        inputs = processor(text=texts, images=flat, padding=True, return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=160)[:, inputs["input_ids"].shape[1] :]
        said += processor.batch_decode(tokens, skip_special_tokens=True)
    return said


def grounding(things: Sequence[Thing], answer: str) -> list[float]:
    """Best IoU of every true thing with an unused predicted box of its label; 0 for a missing one."""
    try:
        rows = [(str(row["label"]), [float(v) / 1000 for v in row["bbox_2d"]]) for row in json.loads(answer)]
    except (ValueError, TypeError, KeyError):
        return [0.0] * len(things)
    best = []
    for thing in things:
        fits = [
            (iou(Box(*thing.box), Box(box[0], box[1], box[2], box[3])), i)
            for i, (label, box) in enumerate(rows)
            if label == " ".join(thing.kind)
        ]
        value, index = max(fits, default=(0.0, -1))
        best.append(value)
        if index >= 0:
            del rows[index]
    return best


Answered = list[tuple[Dialogue, str]]


@torch.no_grad()
def _read(
    views: Sequence[ScenePicture],
    asked: Sequence[Sequence[Dialogue]],
    model: Qwen3VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
) -> Answered:
    answers: Answered = []
    for start in range(0, len(views), 32):
        part = slice(start, start + 32)
        rows = [
            Row((view.pixels,), tuple(Branch(d.question, d.answer) for d in dialogues))
            for view, dialogues in zip(views[part], asked[part], strict=True)
        ]
        dialogues = [d for some in asked[part] for d in some]
        # Every answer is one word and the end of the turn: the word is read at the first of the two places.
        best = pack(rows, tokenizer).logits(model).argmax(-1)[::2]
        answers += zip(dialogues, tokenizer.convert_ids_to_tokens(best.tolist()), strict=True)
    return answers


def _accuracy(answers: Answered, names: Sequence[str]) -> float:
    return float(np.mean([d.answer == said for d, said in answers if d.task in names]))


def _balanced(answers: Answered) -> float:
    sides = [
        [d.answer == said for d, said in answers if d.task in dialogues.BINARY and d.answer == side]
        for side in ("yes", "no")
    ]
    return float(np.mean([np.mean(side) for side in sides]))


def _located(
    views: Sequence[ScenePicture], model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor
) -> dict[str, float]:
    pictures = [[Image.fromarray(view.pixels)] for view in views]
    said = write(model, processor, pictures, [tasks.LOCATE_ALL] * len(views))
    values = [v for view, text in zip(views, said, strict=True) for v in grounding(view.scene.things, text)]
    return {"iou": float(np.mean(values))}


def _written(
    views: Sequence[ScenePicture],
    rng: np.random.Generator,
    model: Qwen3VLForConditionalGeneration,
    processor: Qwen3VLProcessor,
) -> dict[str, float]:
    """Critiques (both scores, and how far off) on clean and spoilt pictures, verdicts on the clean ones."""
    captions = [dialogues.draw_caption(view.scene, rng) for view in views]
    pictures = [[Image.fromarray(view.pixels)] for view in views]
    said = write(model, processor, pictures, [tasks.critique_question(caption) for caption in captions])
    found: dict[str, list[float]] = defaultdict(list)
    for view, caption, text in zip(views, captions, said, strict=True):
        truth = (tasks.compare(caption, view.scene.things).score, tasks.quality(view.level)[0])
        scores = [int(score) for score in re.findall(r"score: (\d)", text.lower())]
        parsed = len(scores) == len(truth)
        found["critique_parsed"].append(parsed)
        if view.level == 0:
            found["critique_faithfulness"].append(parsed and scores[0] == truth[0])
        found["critique_quality"].append(parsed and scores[1] == truth[1])
    clean = [i for i, view in enumerate(views) if view.level == 0]
    asked = [tasks.VERDICT.format(caption=captions[i]) for i in clean]
    for i, text in zip(clean, write(model, processor, [pictures[i] for i in clean], asked), strict=True):
        match = tasks.compare(captions[i], views[i].scene.things).match
        found["verdict"].append(f"<answer>{'yes' if match else 'no'}</answer>" in text)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _preferred(
    n: int, rng: np.random.Generator, model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor
) -> dict[str, float]:
    pictures: list[list[Image.Image]] = []
    asked: list[Dialogue] = []
    while len(asked) < n // 2:
        pair = [draw_scene(rng), draw_scene(rng)]
        new = dialogues.prefer(pair[0], pair[1], rng, reasoned=False)
        if new is not None:
            pictures.append([Image.fromarray(draw_picture(scene, rng, spoilt=0.0).pixels) for scene in pair])
            asked.append(new)
    said = write(model, processor, pictures, [d.question for d in asked])
    right = [
        text.endswith(d.answer[d.answer.index("<answer>") :]) for d, text in zip(asked, said, strict=True)
    ]
    return {"prefer": float(np.mean(right))}
