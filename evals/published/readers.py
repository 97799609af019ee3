"""Scalar reward models on vision-language bodies: rows that make them read every part of a sample, and second
writings of their publishers' lines, one row at a time.

Checkpoints are those of `scalars`, `internvl`, `llava`, `xcomposer` and `videoscore`.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from qwen_vl_utils.vision_process import smart_resize
from safetensors.torch import load_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tf

from mmreward import Media, Sample

from . import internvl, llava, scalars, xcomposer
from .one_by_one import NaiveQwen, noise
from .upstream import Args

PIXELS = 200_704
"""Of a picture, as HPSv3 and EditReward ask for it."""
REWARD = "<|Reward|>"
PARTS = tuple(f"<|{name}_reward|>" for name in scalars.DIMENSIONS)


class Sampled(NamedTuple):
    """A second writing of a scorer that reads more of a sample than a picture and its prompt.

    `tensor` is differentiable, from float pixels (1, 3, H, W) in [0, 1] of any size and their prompt.
    """

    value: Callable[[Sample], float]
    tensor: Callable[[torch.Tensor, str], torch.Tensor] | None = None


def pictures_of(sample: Sample) -> list[Image.Image]:
    """The sample's picture and the pictures beside it."""
    medias = [media for media in (sample.image, *sample.inputs) if media is not None]
    return [Image.fromarray(media.still()) for media in medias]


def chats(rows: Sequence[tuple[Sequence[Image.Image], str, str]]) -> list[Sample]:
    """Samples of pictures, question and response."""
    return [
        Sample(
            id=str(row),
            prompt=prompt,
            response=response,
            image=Media(pictures[0]) if pictures else None,
            inputs=tuple(map(Media, pictures[1:])),
        )
        for row, (pictures, prompt, response) in enumerate(rows)
    ]


# --- HPSv3 and EditReward -----------------------------------------------------------------------------------


def prompted() -> list[Sample]:
    """Pictures of awkward sizes with awkward prompts."""
    sizes = [(60, 60), (40, 90), (33, 200), (640, 427), (448, 448)]
    prompts = [
        "a red circle",
        'two {blue} squares "{text_prompt}"',
        "x",
        "how many shapes are there? " * 9,
        "red",
    ]
    return [
        Sample(id=str(row), prompt=prompt, image=Media(noise(*size, row)))
        for row, (prompt, size) in enumerate(zip(prompts, sizes, strict=True))
    ]


def qwen(args: Args) -> NaiveQwen:
    """The body of HPSv3's or EditReward's file."""
    return NaiveQwen(args["base"], load_file(args["weights"]), (REWARD,))


def hpsv3_logits(naive: NaiveQwen, inputs: Any, *, flat: bool = True) -> torch.Tensor:
    """(mu, log sigma) of one request."""
    return naive.ranknet(naive.states(inputs, flat=flat), "rm_head")[0]


def hpsv3_asked(naive: NaiveQwen, picture: Image.Image, prompt: str) -> Any:
    """Tensors of HPSv3's request."""
    return naive.inputs([picture], scalars.INSTRUCTION.format(text_prompt=prompt) + scalars.END, PIXELS)


def hpsv3(args: Args) -> Sampled:
    """mu at the reward's token."""
    naive = qwen(args)

    def value(sample: Sample) -> float:
        (picture,) = pictures_of(sample)
        return hpsv3_logits(naive, hpsv3_asked(naive, picture, sample.prompt))[0].item()

    def tensor(pixels: torch.Tensor, prompt: str) -> torch.Tensor:
        picture = tf.to_pil_image(pixels.detach()[0])
        inputs = hpsv3_asked(naive, picture, prompt)
        return hpsv3_logits(naive, inputs | {"pixel_values": _patches(naive, pixels, inputs)})[:1]

    return Sampled(value, tensor)


def _patches(naive: NaiveQwen, pixels: torch.Tensor, inputs: Any) -> torch.Tensor:
    """Float pixels as Qwen2-VL's processor lays them out: squares of four patches, each twice in time."""
    (_, rows, columns) = inputs["image_grid_thw"][0].tolist()
    processor = naive.processor.image_processor
    patch = processor.patch_size
    size = [rows * patch, columns * patch]
    small = pixels
    if list(pixels.shape[-2:]) != size:
        small = tf.resize(pixels, size, InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    small = tf.normalize(small, processor.image_mean, processor.image_std)[0]
    cut: torch.Tensor = small.reshape(3, rows // 2, 2, patch, columns // 2, 2, patch).permute(
        1, 4, 2, 5, 0, 3, 6
    )
    twice = cut[:, :, :, :, :, None].expand(-1, -1, -1, -1, -1, 2, -1, -1)
    return twice.reshape(rows * columns, -1)


def edits() -> list[Sample]:
    """Sources with an edit each; two edits of one source."""
    sources = [noise(60, 60, 0), noise(40, 90, 1)]
    rows = [
        (sources[0], noise(64, 60, 2), "a red circle"),
        (sources[0], noise(33, 200, 3), "a red circle"),
        (sources[1], noise(40, 90, 4), 'two {blue} squares "{text_prompt}"'),
    ]
    return [
        Sample(id=str(row), prompt=prompt, image=Media(edited), inputs=(Media(source),))
        for row, (source, edited, prompt) in enumerate(rows)
    ]


def editreward_logits(
    naive: NaiveQwen, source: Image.Image, edited: Image.Image, prompt: str, pooling: str
) -> tuple[list[float], list[float]]:
    """Pooled (mu, log sigma), and mu of each head."""
    logits = []
    for place, text in enumerate(scalars.EDITS):
        asked = text.format(text_prompt=prompt) + scalars.END
        hidden = naive.states(naive.inputs([source, edited], asked, PIXELS))
        logits.append(naive.ranknet(hidden, f"rm_heads.head_{place}"))
    stacked = torch.stack(logits)
    if pooling == "sum":
        sigma = stacked[:, :, 1].exp().pow(2).sum(0).sqrt()
        final = torch.stack([stacked[:, :, 0].sum(0), sigma.log()], dim=-1)
    else:
        final = stacked.mean(0) if pooling == "mean" else stacked.min(0).values
    return final[0].tolist(), [float(each[0, 0]) for each in logits]


def editreward(args: Args) -> Sampled:
    """Mean of both heads' mu."""
    naive = qwen(args)

    def value(sample: Sample) -> float:
        edited, source = pictures_of(sample)
        return editreward_logits(naive, source, edited, sample.prompt, args.get("pooling", "mean"))[0][0]

    return Sampled(value)


# --- clips --------------------------------------------------------------------------------------------------


def coarse(frames: int, height: int, width: int, seed: int) -> "np.ndarray[Any, Any]":
    """Frames of coarse noise, (T, H, W, 3) of 8 bits."""
    draw = np.random.default_rng(seed)
    small = draw.integers(0, 256, (frames, -(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return small.repeat(8, 1).repeat(8, 2)[:, :height, :width]


def clips() -> list[Sample]:
    """Clips of several lengths and rates."""
    shapes = [((9, 60, 64), 4.0), ((4, 48, 96), 8.0), ((21, 64, 48), 6.0)]
    prompts = ["a red circle", "x", "two {blue} squares " * 5]
    return [
        Sample(id=str(row), prompt=prompt, video=Media(coarse(*shape, row), "video", fps=fps))
        for row, (prompt, (shape, fps)) in enumerate(zip(prompts, shapes, strict=True))
    ]


def videoreward_body(args: Args) -> NaiveQwen:
    """VideoReward's body with its adapters added: alpha / r times B A."""
    state = torch.load(Path(args["weights"]) / "checkpoint-11352" / "model.pth")
    plain = {}
    for name, tensor in state.items():
        own, whole = name.removeprefix("base_model.model."), tensor
        if own.endswith("base_layer.weight"):
            stem = name.removesuffix("base_layer.weight")
            low = state[f"{stem}lora_B.default.weight"] @ state[f"{stem}lora_A.default.weight"]
            whole = tensor + 2.0 * low
        if "lora_" not in own:
            plain[own.replace("base_layer.", "")] = whole
    return NaiveQwen(args["base"], plain, PARTS)


def looked_at(media: Media, rate: float = 2.0, pixels: int = PIXELS) -> torch.Tensor:
    """qwen_vl_utils' `smart_nframes` and `fetch_video`; VideoAlign's are the same at two frames a second."""
    total = media.frames
    assert media.fps is not None
    most = math.floor(min(768, total) / 2) * 2
    count = round(min(max(total / media.fps * rate, 4), most) / 2) * 2
    indices = torch.linspace(0, total - 1, count).round().long().tolist()
    frames = torch.from_numpy(media.frames_at(range(total))).permute(0, 3, 1, 2)[indices]
    size = smart_resize(*frames.shape[-2:], factor=16, min_pixels=128 * 28 * 28, max_pixels=pixels)
    resized: torch.Tensor = tf.resize(frames, list(size), InterpolationMode.BICUBIC, antialias=True)
    return resized


def videoreward_parts(naive: NaiveQwen, media: Media, prompt: str) -> list[float]:
    """VQ, MQ and TA, standardised."""
    text = scalars.CLIP.format(text_prompt=prompt)
    hidden = naive.states(naive.inputs([], text, video=looked_at(media)))
    raw = (hidden @ naive.heads["rm_head.weight"].T).diagonal().tolist()
    scales = scalars.STANDARD.values()
    return [(value - mean) / deviation for value, (mean, deviation) in zip(raw, scales, strict=True)]


def videoreward(args: Args) -> Sampled:
    """Sum of the three."""
    naive = videoreward_body(args)
    return Sampled(lambda sample: sum(videoreward_parts(naive, _clip(sample), sample.prompt)))


def videoscore_ratings(args: Args) -> Callable[..., list[float]]:
    """(frames, prompt, most frames) -> VideoScore's five ratings at the last token."""
    from transformers import AutoTokenizer, Idefics2Config, Idefics2Model, Idefics2Processor
    from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil

    folder = args["weights"]
    processor: Any = Idefics2Processor(
        Idefics2ImageProcessorPil.from_pretrained(folder), AutoTokenizer.from_pretrained(folder), 4
    )
    state: dict[str, torch.Tensor] = {}
    for number in (1, 2):
        state |= load_file(f"{folder}/model-{number:05d}-of-00002.safetensors")
    model: Any = Idefics2Model(Idefics2Config.from_pretrained(folder)).eval()
    model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k[:6] == "model."})

    def rated(frames: "np.ndarray[Any, Any]", prompt: str, most: int = 48) -> list[float]:
        total = len(frames)
        indices = np.arange(0, total, total / most).astype(int) if total > most else np.arange(total)
        pictures = [Image.fromarray(frames[index]) for index in indices]
        text = scalars.FRAMES.format(text_prompt=prompt) + "<image> " * len(pictures)
        with torch.no_grad():
            hidden = model(**processor(text=text, images=pictures, return_tensors="pt")).last_hidden_state
        rating: list[float] = (state["score.weight"] @ hidden[0, -1] + state["score.bias"]).tolist()
        return rating

    return rated


def rater_ratings(args: Args) -> Callable[[Media, str], list[float]]:
    """(clip, prompt) -> the five ratings of VideoScore-Qwen2-VL, of clips of 64 frames at most."""
    state = load_file(f"{args['weights']}/model.safetensors")
    naive = NaiveQwen(args["weights"], state | {"lm_head.weight": state["model.embed_tokens.weight"]}, ())

    def rated(media: Media, prompt: str) -> list[float]:
        shown = looked_at(media, 8.0, 768 * 28 * 28)
        (hidden,) = naive.states(naive.inputs([], scalars.FRAMES.format(text_prompt=prompt), video=shown))
        rating: list[float] = (state["score.weight"] @ hidden + state["score.bias"]).tolist()
        return rating

    return rated


def videoscore(args: Args) -> Sampled:
    """Mean of the five."""
    if (Path(args["weights"]) / "model.safetensors").is_file():
        by_qwen = rater_ratings(args)
        return Sampled(lambda sample: float(np.mean(by_qwen(_clip(sample), sample.prompt))))
    rated = videoscore_ratings(args)

    def value(sample: Sample) -> float:
        media = _clip(sample)
        return float(np.mean(rated(media.frames_at(range(media.frames)), sample.prompt)))

    return Sampled(value)


def _clip(sample: Sample) -> Media:
    assert sample.video is not None
    return sample.video


# --- answers ------------------------------------------------------------------------------------------------


def answered() -> list[Sample]:
    """Responses to no picture, to one and to two."""
    pictures = [noise(60, 60, 0), noise(40, 90, 1)]
    return chats(
        [
            (pictures[:1], "how many shapes?", "there are two."),
            (pictures[:1], "how many shapes?", "I see a red circle, and nothing else in the picture."),
            (pictures, "is it a red circle?", "yes"),
            ([], "is a square a shape?", "yes, it is."),
            (pictures[1:], "x " * 40, "no"),
        ]
    )


def skywork_body(args: Args) -> NaiveQwen:
    """The shards and the value head of Skywork-VL-Reward's folder."""
    folder = Path(args["weights"])
    state: dict[str, torch.Tensor] = {}
    for file in folder.glob("model-*.safetensors"):
        state |= load_file(file)
    return NaiveQwen(args["weights"], {**state, **load_file(folder / "value_head.safetensors")}, ())


def skywork_value(naive: NaiveQwen, pictures: Sequence[Image.Image], prompt: str, response: str) -> float:
    """The value head at the token of index `attention_mask.sum() - 1`."""
    content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": prompt}]
    turns = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": response}]},
    ]
    hidden = naive.states(naive.chat_inputs(pictures, turns), flat=False)
    return float(hidden @ naive.heads["v_head.summary.weight"].T + naive.heads["v_head.summary.bias"])


def skywork_vl(args: Args) -> Sampled:
    """The value head."""
    naive = skywork_body(args)
    return Sampled(lambda row: skywork_value(naive, pictures_of(row), row.prompt, row.response or ""))


def few() -> list[Sample]:
    """Responses to at most one picture, whose questions hold what the prompt's template is filled by."""
    pictures = [noise(60, 60, 0), noise(40, 90, 1), noise(90, 30, 2), noise(28, 28, 3)]
    return chats(
        [
            (pictures[:1], "how many shapes?", "there are two."),
            (pictures[1:2], "<image>\nhow many shapes?", "I see a red circle, and nothing else."),
            (pictures[2:3], "is it {answer} or {question}?", "yes {question}"),
            ([], "is a square a shape?", "yes, it is."),
            (pictures[3:], "x " * 20, "no"),
        ]
    )


def mm_rlhf(args: Args) -> Sampled:
    """The head after a critique of its own, or after none."""
    naive = llava.NaiveLlava(args)

    def value(sample: Sample) -> float:
        row = next(iter(pictures_of(sample)), None), sample.prompt, sample.response or ""
        critique = "" if args.get("critique") == "none" else naive.critique(*row, args["max_tokens"])
        return naive.value(*row, critique)

    return Sampled(value)


def placed() -> list[Sample]:
    """Responses to pictures that the question places."""
    pictures = [noise(60, 60, 0), noise(40, 90, 1), noise(90, 30, 2), noise(20, 20, 3)]
    return chats(
        [
            (pictures[:1], "how many shapes?", "there are two."),
            (pictures[1:2], "see <ImageHere>: how many?", "a red circle,\n and  nothing else"),
            (pictures[2:3], "is it red?", "yes caf\u00e9 </s"),
            ([], "is a square a shape?", "yes, it is."),
            (pictures[:2], "<ImageHere>or <ImageHere>?", "the first one"),
            (pictures[3:], "x " * 20, "no"),
        ]
    )


def ixc(args: Args) -> Sampled:
    """`get_score`."""
    naive = xcomposer.NaiveXComposer(args)
    return Sampled(lambda row: naive.score(row.prompt, row.response or "", pictures_of(row)))


def stepped() -> list[Sample]:
    """Responses of one to four steps."""
    pictures = [noise(60, 60, 0), noise(40, 90, 1), noise(90, 30, 2), noise(28, 28, 3)]
    return chats(
        [
            (pictures[:1], "how many shapes?", "I see a circle.\n\nI see two.\n\n\n- two"),
            (pictures[1:2], "see <image>: how many?", "two"),
            ([], "is a square a shape?", "it is.\n\nyes"),
            (pictures[2:4], "<image> or <image>?", "the first\n\n<image> is red\n\nyes\n\nno"),
        ]
    )


def visualprm(args: Args) -> Sampled:
    """Mean of the steps' P(+), each from a pass of its own."""
    naive = internvl.NaiveInternVL(args)

    def value(sample: Sample) -> float:
        steps = (sample.response or "").split("\n\n")
        return float(np.mean(naive.soft(sample.prompt, steps, pictures_of(sample))))

    return Sampled(value)


def artimuse(args: Args) -> Sampled:
    """Expected score of 100 over the letters' tokens."""
    naive = internvl.NaiveInternVL(args)
    return Sampled(lambda sample: naive.beauty(pictures_of(sample)[0], internvl.SYSTEM))


READERS: dict[str, Callable[[Args], Sampled]] = {
    "artimuse": artimuse,
    "editreward": editreward,
    "hpsv3": hpsv3,
    "ixc": ixc,
    "mm_rlhf": mm_rlhf,
    "skywork_vl": skywork_vl,
    "videoreward": videoreward,
    "videoscore": videoscore,
    "visualprm": visualprm,
}
"""Scorer -> its second writing, from the arguments of ours."""
