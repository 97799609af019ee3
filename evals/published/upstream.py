"""The publishers' own packages behind one interface; run as a file by an interpreter that has the package.

`python upstream.py JOBS ANSWERS`: JOBS is a JSON list of jobs, see `main`. Nothing of mmreward is imported
here, so the interpreter needs the package, torch, numpy and Pillow alone. What a package would fetch (a
vocabulary, an architecture) is given to it from the job's tiny checkpoint; its networks, preprocessing and
formula are its own.
"""

import json
import math
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

Args = dict[str, Any]


class Reference(NamedTuple):
    """A scorer that ours is held against.

    `tensor` is differentiable and takes float pixels (1, 3, H, W) in [0, 1]; where `resizes` is False they
    must have the size of the network's input, because the publisher resizes pictures and no tensors.
    """

    value: Callable[[Image.Image, str], float]
    tensor: Callable[[torch.Tensor, str], torch.Tensor] | None = None
    resizes: bool = False


def main(jobs: str, answers: str) -> None:
    """Answer every job: values of all pictures, gradients of some, the package's version, or what went wrong.

    A job: `package`, `scorer`, `args` of our reward, `pictures` (paths), `prompts`, `graded` (indices of
    pictures whose gradient is wanted, all of the input's size).
    """
    with redirect_stdout(sys.stderr):
        done = [_answer(job) for job in json.loads(Path(jobs).read_text())]
    Path(answers).write_text(json.dumps(done))


def _answer(job: Args) -> Args:
    package: str = job["package"]
    try:
        name = f"{package} {version(DISTRIBUTIONS.get(package, package))}"
        reference = SCORERS[package, job["scorer"]](job["args"])
        pictures = [Image.open(path).convert("RGB") for path in job["pictures"]]
        return {"version": name} | answer(reference, pictures, job["prompts"], job["graded"])
    except Exception as error:  # a package of others may raise anything, and the row says what
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def answer(reference: Reference, pictures: list[Image.Image], prompts: list[str], graded: list[int]) -> Args:
    """Values, and gradients of a value by its picture's pixels."""
    with torch.no_grad():
        pairs = zip(pictures, prompts, strict=True)
        values = [reference.value(picture, prompt) for picture, prompt in pairs]
    gradients = []
    for row in graded if reference.tensor else []:
        assert reference.tensor is not None
        pixels = pixels_of(pictures[row]).requires_grad_()
        reference.tensor(pixels, prompts[row]).sum().backward()  # type: ignore[no-untyped-call]
        assert pixels.grad is not None
        gradients.append(pixels.grad[0].tolist())
    return {"values": values, "gradients": gradients}


def pixels_of(picture: Image.Image) -> torch.Tensor:
    """Float pixels (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


def _unit(vectors: Any) -> Any:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _pooled(output: Any) -> Any:
    return output if isinstance(output, torch.Tensor) else output.pooler_output


# --- transformers and open_clip ---------------------------------------------------------------------------


def _clip_parts(folder: str) -> tuple[Any, Any, Callable[[Image.Image], Any], Callable[[Any], Any]]:
    """Model and tokenizer, and pixel values of a picture and of float pixels of the input's size."""
    hub: Any = import_module("transformers")
    model = hub.AutoModel.from_pretrained(folder).eval()
    tokenizer = hub.AutoTokenizer.from_pretrained(folder)
    processor = hub.AutoImageProcessor.from_pretrained(folder, backend="pil")
    mean, std = (torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std))
    return (
        model,
        tokenizer,
        lambda picture: processor(images=[picture], return_tensors="pt")["pixel_values"],
        lambda pixels: (pixels - mean) / std,
    )


def _dual(args: Args, scaled: bool) -> Reference:
    """The model card's lines: product of unit embeddings, and exp(logit_scale) before it."""
    model, tokenizer, of_picture, of_pixels = _clip_parts(args["weights"])
    limit = model.config.text_config.max_position_embeddings
    padding = "max_length" if model.config.model_type == "siglip" else True

    def product(pixels: Any, prompt: str) -> Any:
        tokens = tokenizer(prompt, padding=padding, truncation=True, max_length=limit, return_tensors="pt")
        text = _unit(_pooled(model.get_text_features(**tokens)))
        image = _unit(_pooled(model.get_image_features(pixel_values=pixels)))
        return (model.logit_scale.exp() if scaled else 1) * (text @ image.T)[0]

    return Reference(
        lambda picture, prompt: product(of_picture(picture), prompt).item(),
        lambda pixels, prompt: product(of_pixels(pixels), prompt),
    )


def _classifier(args: Args) -> Reference:
    hub: Any = import_module("transformers")
    model = hub.AutoModelForImageClassification.from_pretrained(args["classifier"]).eval()
    processor = hub.AutoImageProcessor.from_pretrained(args["classifier"])
    clean = model.config.label2id["clean"]
    mean, std = (torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std))

    def clean_of(values: Any) -> Any:
        return model(pixel_values=values).logits.softmax(-1)[:, clean]

    return Reference(
        lambda picture, _: clean_of(
            processor(images=[np.array(picture)], return_tensors="pt")["pixel_values"]
        ).item(),
        lambda pixels, _: clean_of((pixels - mean) / std),
    )


def _open_clip(args: Args) -> Reference:
    package: Any = import_module("open_clip")
    name = f"local-dir:{args['weights']}"
    model, _, preprocess = package.create_model_and_transforms(name)
    return _open_clip_of(model.eval(), preprocess, package.get_tokenizer(name))


def _open_clip_of(model: Any, preprocess: Any, tokenizer: Any) -> Reference:
    """The cosine in open_clip's README."""
    normalize = preprocess.transforms[-1]

    def product(pixels: Any, prompt: str) -> Any:
        image, text = model.encode_image(pixels), model.encode_text(tokenizer([prompt]))
        return (_unit(image) @ _unit(text).T)[0]

    return Reference(
        lambda picture, prompt: product(preprocess(picture)[None], prompt).item(),
        lambda pixels, prompt: product(normalize(pixels), prompt),
    )


# --- packages of their own ----------------------------------------------------------------------------------


def _torchmetrics(args: Args) -> Reference:
    """`CLIPScore`'s own update, which is 100 times the cosine, before it is averaged and clamped at 0.

    Of a prompt longer than the context it cuts the end token off as well, so that the text's embedding is
    that of another token; NaN stands for these.
    """
    update: Any = import_module("torchmetrics.functional.multimodal.clip_score")
    hub: Any = import_module("transformers")
    model = hub.CLIPModel.from_pretrained(args["weights"]).eval()
    processor = hub.CLIPProcessor.from_pretrained(args["weights"])
    limit = model.config.text_config.max_position_embeddings

    def value(picture: Image.Image, prompt: str) -> float:
        if len(processor.tokenizer(prompt)["input_ids"]) > limit:
            return math.nan
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        return float(update._clip_score_update([pixels], [prompt], model, processor)[0][0]) / 100

    return Reference(value)


def _pyiqa(args: Args) -> Reference:
    """pyiqa's CLIPScore, words before the prompt and all, on the pictures that OpenAI's package prepares.

    pyiqa resizes floats and lets the kernel's overshoot stand, where CLIPScore's authors use that package.
    """
    package: Any = import_module("pyiqa.archs.clipscore_arch")
    clip: Any = import_module("clip.clip")
    model = clip.build_model(torch.load(f"{args['weights']}/openai.pt", weights_only=True)).float()
    package.clip.load = lambda backbone: (model, None)
    net = package.CLIPScore().eval()
    *before, _ = clip._transform(model.visual.input_resolution).transforms  # the net does the last, too

    def value(picture: Image.Image, prompt: str) -> float:
        made: Any = picture
        for step in before:
            made = step(made)
        return float(net(made[None], [prompt])[0])

    return Reference(value, lambda pixels, prompt: net(pixels, [prompt]))


def _hpsv2(args: Args) -> Reference:
    """`hpsv2.score` with the file as `cp`; its table of loaded models holds the tiny architecture."""
    scorer: Any = import_module("hpsv2.img_score")
    factory: Any = import_module("hpsv2.src.open_clip.factory")
    factory.add_model_config(Path(args["weights"]).parent / f"{args['architecture']}.json")
    model, _, preprocess = factory.create_model_and_transforms(
        args["architecture"],
        precision="amp",
        device="cpu",
        light_augmentation=True,
        output_dict=True,
        with_score_predictor=False,
        with_region_predictor=False,
    )  # fmt: skip - as hpsv2.img_score has it
    scorer.model_dict |= {"model": model, "preprocess_val": preprocess}
    tokenizer, normalize = factory.get_tokenizer("ViT-H-14"), preprocess.transforms[-1]

    def value(picture: Image.Image, prompt: str) -> float:
        return float(scorer.score(picture, prompt, cp=args["weights"])[0])

    def tensor(pixels: torch.Tensor, prompt: str) -> Any:
        found = model(normalize(pixels), tokenizer([prompt]))
        return (found["image_features"] @ found["text_features"].T)[0]

    return Reference(value, tensor)


def _aesthetic_v2_5(args: Args) -> Reference:
    """`convert_v2_5_from_siglip` with the head's file and the SigLIP's folder."""
    package: Any = import_module("aesthetic_predictor_v2_5")
    model, processor = package.convert_v2_5_from_siglip(args["head"], args["encoder"])
    mean, std = (torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std))

    return Reference(
        lambda picture, _: float(model(processor(images=picture, return_tensors="pt").pixel_values).logits),
        lambda pixels, _: model((pixels - mean) / std).logits[0],
    )


def _sized_blip(args: Args, blip: Any, pretrain: Any) -> tuple[int, int]:
    """Have a BLIP's own modules build it as large as a file's tensors; its side, and the head's width.

    Its tokenizer is that of the job, and nothing is fetched.
    """
    shapes = {name: one.shape for name, one in torch.load(args["weights"], weights_only=True).items()}
    width, _, patch, _ = shapes["blip.visual_encoder.patch_embed.proj.weight"]
    side = patch * round((shapes["blip.visual_encoder.pos_embed"][1] - 1) ** 0.5)
    depth = len({name.split(".")[3] for name in shapes if name.startswith("blip.visual_encoder.blocks.")})
    size = {"img_size": side, "patch_size": patch, "embed_dim": width}
    vision = {**size, "depth": depth, "num_heads": width // 64}
    pretrain.create_vit = lambda *_: (blip.VisionTransformer(**vision), width)
    words = blip.BertTokenizer(args["vocabulary"])
    blip.BertTokenizer = type("Local", (), {"from_pretrained": lambda name: words})
    return side, shapes["mlp.layers.0.weight"][1]


def _image_reward(args: Args) -> Reference:
    """`ImageReward.load` of the file, whose classes are built as large as its tensors."""
    package: Any = import_module("ImageReward")
    main, blip, pretrain = (
        import_module(f"ImageReward.{name}")
        for name in ("ImageReward", "models.BLIP.blip", "models.BLIP.blip_pretrain")
    )
    own: Any = dict(vars(main))
    side, width = _sized_blip(args, blip, pretrain)
    vars(main).update(MLP=lambda _: own["MLP"](width), _transform=lambda _: own["_transform"](side))
    config = Path(args["weights"]).with_name("med_config.json")
    model = package.load(args["weights"], device="cpu", med_config=str(config))
    normalize = model.preprocess.transforms[-1]

    def tensor(pixels: torch.Tensor, prompt: str) -> torch.Tensor:
        read = {"padding": "max_length", "truncation": True, "max_length": 35, "return_tensors": "pt"}
        tokens = model.blip.tokenizer(prompt, **read)
        found: torch.Tensor = model.score_gard(tokens.input_ids, tokens.attention_mask, normalize(pixels))
        return found[0]

    return Reference(lambda picture, prompt: float(model.score(prompt, picture)), tensor)


def _cyclereward(args: Args) -> Reference:
    """`cyclereward` of the file: its cache is the job's folder, and no BLIP is fetched to be written over.

    The gradient is that of `score` without the decorator that takes it away.
    """
    package: Any = import_module("cyclereward.model")
    blip, pretrain = (import_module(f"cyclereward.blip.{name}") for name in ("blip", "blip_pretrain"))
    side, width = _sized_blip(args, blip, pretrain)
    package.cyclereward_args |= {"image_size": side, "mlp_dim": width}
    package.blip_pretrain = lambda pretrained, **sizes: vars(pretrain)["BLIP_Pretrain"](**sizes)
    file = Path(args["weights"])
    model, preprocess = package.cyclereward(device="cpu", model_type=file.stem, cache_dir=str(file.parent))
    score, normalize = type(model).score.__wrapped__, preprocess.transforms[-1]
    return Reference(
        lambda picture, prompt: float(model.score(preprocess(picture)[None], prompt)),
        lambda pixels, prompt: score(model, normalize(pixels), prompt)[0],
    )


def _imscore(args: Args) -> Reference:
    """imscore's graph of MPS, on pixels as the publisher prepares them, which imscore does otherwise; without
    its rounding of pixels and mask to half precision."""
    package: Any = import_module("imscore.mps.model")
    folder, state = args["processor"], import_module("safetensors.torch").load_file(args["weights"])
    stem = "mps.cross_model.layers."
    wide, width = state[f"{stem}0.0.fn.to_q.weight"].shape
    head = len(state[f"{stem}0.0.fn.to_kv.weight"]) // 2
    depth = len({name[len(stem) :].split(".")[0] for name in state if name.startswith(stem)})
    mult = state[f"{stem}0.0.fn.ff.2.weight"].shape[1] // width
    sizes = {"dim": width, "layer_num": depth, "dim_head": head, "heads": wide // head, "ff_mult": mult}
    cross, clip, words = package.CrossModel, package.XCLIPModel, package.AutoTokenizer.from_pretrained(folder)
    words.model_max_length = 77
    package.CrossModel = lambda **_: cross(**sizes)
    package.XCLIPModel = type("Local", (), {"from_pretrained": lambda name: clip.from_pretrained(folder)})
    package.AutoTokenizer = type("Local", (), {"from_pretrained": lambda name, **_: words})
    net = package.MPS().eval()
    net.load_state_dict(state)
    torch.Tensor.half = lambda tensor: tensor  # type: ignore
    processor = import_module("transformers").CLIPImageProcessor.from_pretrained(folder)

    def score(values: Any, prompt: str) -> Any:
        text, seen = net.mps(net._tokenize([prompt]), values, net._tokenize(net.condition))
        return (net.mps.logit_scale.exp() * _unit(text) @ _unit(seen).T)[0]

    return Reference(
        lambda picture, prompt: float(score(processor(picture, return_tensors="pt")["pixel_values"], prompt)),
        lambda pixels, prompt: score(net.normalize(pixels), prompt),
    )


def _imscore_preference(args: Args) -> Reference:
    """imscore's own class; the one of CLIP has the lines of SigLIP's, and makes either."""
    base = json.loads(Path(args["weights"], "config.json").read_text())["tag"]
    net: Any = import_module("imscore.preference.model").CLIPPreferenceScorer(base).eval()
    net.load_state_dict(import_module("safetensors.torch").load_file(f"{args['weights']}/model.safetensors"))
    own: Any = lambda pixels, prompt: net.score(pixels, [prompt])  # noqa: E731
    return Reference(lambda picture, prompt: own(pixels_of(picture), prompt).item(), own, resizes=True)


def _nudenet(args: Args) -> Reference:
    """NudeNet's own input and network; of each class the largest box, before its threshold."""
    package: Any = import_module("nudenet.nudenet")
    detector, labels = package.NudeDetector(), vars(package)["__labels"]
    exposed = ("FEMALE_BREAST", "FEMALE_GENITALIA", "MALE_GENITALIA", "BUTTOCKS", "ANUS")
    counted = [labels.index(f"{name}_EXPOSED") for name in exposed]

    def value(picture: Image.Image, prompt: str) -> float:
        blob = package._read_image(np.array(picture)[..., ::-1].copy(), detector.input_width)[0]
        (boxes,) = detector.onnx_session.run(None, {detector.input_name: blob})
        return 1 - float(boxes[0, 4:].max(axis=1)[counted].max())

    return Reference(value)


def _rapidocr(args: Args) -> Reference:
    """The text that RapidOCR reads, without the classifier of upside-down lines, and the reward's formula on
    one quoted text."""
    package: Any = import_module("rapidocr")
    reader = package.RapidOCR(params={"Global.log_level": "critical", "Global.use_cls": False})

    def value(picture: Image.Image, prompt: str) -> float:
        found = reader(np.array(picture)[..., ::-1].copy())
        read = "".join("".join(found.txts or ()).lower().split())
        wanted = "".join(prompt.split('"')[1].lower().split())
        return 1 - _distance(read, wanted) / max(len(read), len(wanted))

    return Reference(value)


def _distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        before, row[0] = row[0], at
        for to, wanted in enumerate(other, 1):
            before, row[to] = row[to], min(row[to] + 1, row[to - 1] + 1, before + (letter != wanted))
    return row[-1]


# --- dreamsim ---------------------------------------------------------------------------------------------


def _dreamsim(args: Args) -> Reference:
    """The package on narrow ViTs: the width of its constructors and torch.hub's download are replaced."""
    model_of: Any = import_module("dreamsim.model")
    room = "dreamsim.feature_extraction"
    vit: Any = import_module(f"{room}.vision_transformer")
    folder, variant = Path(args["weights"]), args["variant"]

    def narrow(patch_size: int = 16, **_: Any) -> Any:
        norm = partial(torch.nn.LayerNorm, eps=1e-6)
        shape = {"embed_dim": 128, "depth": 12, "num_heads": 2, "mlp_ratio": 4, "qkv_bias": True}
        return vit.VisionTransformer(patch_size=patch_size, norm_layer=norm, **shape)

    def downloaded(*_: Any, **__: Any) -> Any:
        made = narrow(16)
        made.load_state_dict(torch.load(folder / "checkpoints" / "dino_vitbase16_pretrain.pth"))
        return made

    for name in ("load_clip_as_dino", "load_open_clip_as_dino"):
        import_module(f"{room}.{name}").vit_base = narrow  # type: ignore[attr-defined]
    torch.hub.load = downloaded
    if variant == "ensemble":  # a head that is read and not used
        head = {f"module.head.{key}": value for key, value in vit.DINOHead(768, 2048).state_dict().items()}
        head["module.head.last_layer.weight"] = torch.zeros(2048, 256)
        torch.save({"student": head}, folder / "dino_vitb16_pretrain.pth")
    model, prepared = model_of.dreamsim(device="cpu", cache_dir=str(folder), dreamsim_type=variant)
    known = [prepared(Image.open(path)) for path in args["references"]]
    resize: Any = import_module("torchvision.transforms.v2.functional").resize
    kernel = import_module("torchvision.transforms").InterpolationMode.BICUBIC

    def tensor(pixels: torch.Tensor, prompt: str) -> torch.Tensor:
        small = resize(pixels, [224, 224], kernel, antialias=True).clamp(0, 1)
        return torch.stack([model(small, other) for other in known]).mean(0)

    return Reference(
        lambda picture, prompt: sum(model(prepared(picture), other).item() for other in known) / len(known),
        tensor,
    )


DISTRIBUTIONS: dict[str, str] = {"open_clip": "open_clip_torch", "ImageReward": "image-reward"}
"""Name on PyPI where it is not the package's."""
SCORERS: dict[tuple[str, str], Callable[[Args], Reference]] = {
    ("transformers", "clipscore"): lambda args: _dual(args, scaled=False),
    ("transformers", "pickscore"): lambda args: _dual(args, scaled=True),
    ("transformers", "artifact"): _classifier,
    ("open_clip", "clipscore"): _open_clip,
    ("torchmetrics", "clipscore"): _torchmetrics,
    ("pyiqa", "clipscore"): _pyiqa,
    ("dreamsim", "dreamsim"): _dreamsim,
    ("hpsv2", "hpsv2"): _hpsv2,
    ("aesthetic_predictor_v2_5", "aesthetic"): _aesthetic_v2_5,
    ("ImageReward", "imagereward"): _image_reward,
    ("cyclereward", "cyclereward"): _cyclereward,
    ("imscore", "mps"): _imscore,
    ("imscore", "pickscore"): _imscore_preference,
    ("nudenet", "nsfw"): _nudenet,
    ("rapidocr", "ocr_image"): _rapidocr,
}
"""(package, scorer) -> its reference, from the arguments of our reward."""

if __name__ == "__main__":
    main(*sys.argv[1:])
