"""Networks by the name of their weights: dual encoders, heads, classifiers, detectors, vision-language
models.

Start with the functions here: `clip`, `head`, `mapped`, `classifier`, `detector` and `vlm` return what a
reward awaits one sample at a time; `text_reader` and `nudity` do so for weights that a package ships.
Importing this package imports no torch; calling one of its functions does.

Equal arguments give the same network, so rewards that name the same weights share one copy of them. The
miniature's names ("mini-clip", "mini-vlm", "mini-artifact") stand where a hub id or a folder would.

In the room: `base` (torch modules behind the engine's `Network` protocol), `encoders`, `heads`, `maps`,
`detectors`, `flan` and `blip`, `pictures` and `pixels` (decoded pictures and a network's input), `onnx`,
`texts` and `bodies` (out of wheels), `vlms/` (in this process) and `served/` (over HTTP). Knows nothing of
samples, rewards or scores.
"""

from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ..registry import Fingerprinted, not_recorded, record_network
from .served.http import is_served

if TYPE_CHECKING:
    from .blip import BlipVQA
    from .bodies import Nudity
    from .detectors import Detector
    from .encoders import DualEncoder, Encoder
    from .flan import ClipT5
    from .heads import Classifier, Head
    from .maps import MappedEncoder
    from .texts import TextReader
    from .vlms.answers import VLM
    from .vlms.qwen import QwenVL

TOKENIZER = ("config.json", "tokenizer.json", "tokenizer_config.json")
"""Files of a hub id by which its tokenizer is made."""

_dual_encoders: "dict[tuple[str, str, str, bool], DualEncoder]" = {}

P = ParamSpec("P")
N = TypeVar("N", bound=Fingerprinted)


def _shared(make: Callable[P, N]) -> Callable[P, N]:
    """One network per distinct arguments, noted in the fingerprint of the reward that asks for it."""
    networks: dict[tuple[Any, ...], N] = {}
    parameters = signature(make)

    @wraps(make)
    def get(*args: P.args, **kwargs: P.kwargs) -> N:
        bound = parameters.bind(*args, **kwargs)
        bound.apply_defaults()  # a default spelled out is no other network
        key = tuple(bound.arguments.items())
        if key not in networks:
            with not_recorded():  # else they would be recorded the first time only
                networks[key] = make(*args, **kwargs)
        record_network(networks[key])
        return networks[key]

    return get


@_shared
def clip(
    weights: str,
    *,
    dtype: str = "float32",
    resize: str = "tensor",
    architecture: str = "",
    letterbox: bool = False,
) -> "Encoder":
    """A dual encoder: CLIP or SigLIP in transformers format, or an open_clip model.

    Handles of the same content and dtype share one network, whatever the weights are called and however the
    pictures are resized.

    Preprocessing is the checkpoint's own. A transformers processor is followed in `do_resize`, `size`,
    `do_center_crop`, `crop_size`, `do_rescale`, `rescale_factor`, `do_normalize`, mean, std and kernel; one
    that does anything else is refused when the weights are read. The crop begins where the checkpoint's own
    package begins it: transformers rounds an odd margin down, open_clip to even. With "pil" and "uint8" the
    embeddings are those of transformers' backends "pil" and "torchvision" to 2e-6.

    Args:
        weights: a hub id or folder in transformers format, or one that holds an `open_clip_config.json`, or
            "open_clip:ARCHITECTURE/TAG" (such as "open_clip:ViT-B-32/laion2b_s34b_b79k").
        dtype: of the towers; embeddings are normalised in float32 whatever it is.
        resize: "tensor" in float; "pil" with Pillow on 8-bit values, as the published preprocessing does;
            "uint8" on 8-bit values with torchvision, the quickest on a CPU. "tensor" runs on the device, the
            others on the CPU. `evals/drift.md` has what each does to the scores.
        architecture: open_clip's name of it, where weights are one published file (.pt, .pth or .safetensors;
            a path, or OWNER/NAME/FILE of the hub); not looked at for a folder.
        letterbox: scale the longer side to the input and pad with black, as HPSv2 does, whatever the
            checkpoint's own preprocessing is.

    Raises:
        ValueError: no such dtype or resize.
    """
    from .encoders import Encoder

    return Encoder(_dual_encoder(weights, dtype, architecture, letterbox), weights, resize)


def _dual_encoder(weights: str, dtype: str, architecture: str, letterbox: bool) -> "DualEncoder":
    from .base import weights_key
    from .encoders import DualEncoder

    network = DualEncoder(weights, dtype=dtype, architecture=architecture, letterbox=letterbox)
    key = (weights_key(network.source), dtype, architecture, letterbox)
    return _dual_encoders.setdefault(key, network)


@_shared
def head(weights: str, encoder: str, *, dtype: str = "float32", resize: str = "tensor") -> "Head":
    """A linear or MLP head on a dual encoder's image embedding, such as an aesthetic predictor.

    Args:
        weights: a safetensors file, or a pickle of tensors alone (.pth).
        encoder, dtype, resize: the dual encoder, as for `clip`; the head itself is float32.
    """
    from .heads import Head

    return Head(weights, clip(encoder, dtype=dtype, resize=resize))


def needed(weights: str, names: tuple[str, ...] = ()) -> None:
    """Check of published weights before any row: here, or within reach of the hub.

    Args:
        weights: a hub id, a file of one (OWNER/NAME/FILE), a folder, a file or a miniature.
        names: files of a hub id that must all be there, such as `TOKENIZER`; by default its weights.

    Raises:
        ValueError: neither, with the command that fetches them.
    """
    from .checkpoints import needed

    needed(weights, names)


def downloaded(url: str) -> str:
    """The path, in torch.hub's cache, of a file that was published by an address and not on a hub.

    Raises:
        ValueError: it is not there, with the command that fetches it.
    """
    from .checkpoints import downloaded

    return downloaded(url)


def mapped(
    file: str, kind: str, encoder: str, *, dtype: str = "float32", resize: str = "tensor"
) -> "MappedEncoder":
    """A dual encoder whose prompt embeddings are moved by a map that `mmreward fit` fitted on it.

    Args:
        file: the map's; one that was fitted again under the same name is another network.
        kind: of the map, "d2-align" or "pisces".
        encoder, dtype, resize: the dual encoder, as for `clip`; the map itself is float32.

    Raises:
        ValueError: no such file, or one that was fitted for something else or on other weights.
    """
    from .base import content_of

    path = str(Path(file).absolute())  # also of a file called "mini-...", which is no miniature
    content = content_of(path) if Path(path).is_file() else ""  # without it, reading the map says why
    return _mapped(path, content, kind, encoder, dtype, resize)


@_shared
def _mapped(file: str, content: str, kind: str, encoder: str, dtype: str, resize: str) -> "MappedEncoder":
    from .maps import MappedEncoder

    return MappedEncoder(file, kind, clip(encoder, dtype=dtype, resize=resize))


@_shared
def classifier(weights: str, *, dtype: str = "float32") -> "Classifier":
    """An image classifier in transformers format (`AutoModelForImageClassification`)."""
    from .heads import Classifier

    return Classifier(weights, dtype=dtype)


@_shared
def detector(weights: str, *, dtype: str = "float32") -> "Detector":
    """A detector of objects in transformers format: Mask2Former, or a model of boxes such as DETR."""
    from .detectors import Detector

    return Detector(weights, dtype=dtype)


def is_clip_t5(weights: str) -> bool:
    """True for a CLIP-FlanT5, which `clip_t5` reads; False for all else, such as a model for `vlm`."""
    if weights.startswith("mini-") or is_served(weights):
        return False
    from .flan import is_clip_t5

    return is_clip_t5(weights)


@_shared
def clip_t5(weights: str, *, dtype: str = "float32") -> "ClipT5":
    """CLIP-FlanT5 in its published format: the probability of an answer to a question about a picture.

    Raises:
        ValueError: the weights, the vision tower's settings or a tokenizer are neither here nor within reach.
    """
    from .flan import ClipT5, companions

    needed(weights)
    for name, files in companions(weights, TOKENIZER):
        needed(name, files)
    return ClipT5(weights, dtype=dtype)


@_shared
def blip_vqa(file: str, tokenizer: str, *, dtype: str = "float32") -> "BlipVQA":
    """BLIP's answers to questions about a picture, from the publisher's file.

    Args:
        file: the published .pth, or safetensors with its names.
        tokenizer: hub id or folder of the BERT tokenizer.
        dtype: of the network.
    """
    from .blip import BlipVQA

    return BlipVQA(file, tokenizer, dtype=dtype)


@_shared
def _qwen(weights: str, dtype: str) -> "QwenVL":
    from .vlms.qwen import QwenVL

    return QwenVL(weights, dtype=dtype)


@_shared
def vlm(
    weights: str,
    *,
    dtype: str = "float32",
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    max_frames: int | None = None,
) -> "VLM":
    """A vision-language model: Qwen2.5-VL, Qwen3-VL or Qwen3.5 through transformers, or one behind a server.

    Args:
        weights: a hub id or folder; or MODEL@URL for a model behind an OpenAI-compatible server, such as
            "Qwen/Qwen3-VL-8B-Instruct@http://localhost:8000/v1" (its settings: see `served.http.Address`).
        dtype: of the weights; label probabilities are computed in float32 whatever it is. A served model's is
            its server's, so only the default is accepted there.
        min_pixels: pictures with fewer pixels are enlarged; None takes the checkpoint's own limit.
        max_pixels: pictures with more are reduced. The first lever on cost: tokens grow with it.
        max_frames: frames a clip is thinned to (two a second are taken); None takes the family's own limit.
            Their number is even, as the model cards' qwen-vl-utils makes it; transformers' own Qwen3-VL
            sampling also takes odd numbers, and then reads one frame more.

    Answers are written with the checkpoint's `repetition_penalty` (1.05 for Qwen2.5-VL), locally and by a
    server; temperature and length are the caller's.
    """
    if is_served(weights):
        from .served.client import ServedVLM

        if max_frames is not None:
            raise ValueError(f"max_frames does not apply to {weights}: served models are shown no clips")
        return ServedVLM(weights, dtype=dtype, min_pixels=min_pixels, max_pixels=max_pixels)
    from .vlms.handle import LocalVLM
    from .vlms.vision import View

    return LocalVLM(_qwen(weights, dtype), View(min_pixels, max_pixels, max_frames))


def _need(what: str, extra: str, package: str) -> None:
    """Look for a package without importing it, so that one that is missing is known before the first row."""
    for module in (package, "onnxruntime"):
        if find_spec(module) is None:
            raise ValueError(f'{what} needs {module}: pip install "mmreward[{extra}]"')


@_shared
def text_reader() -> "TextReader":
    """A reader of the text in a picture: RapidOCR with the models that its wheel ships.

    Raises:
        ValueError: it is not installed.
    """
    _need("reading text in pictures", "ocr", "rapidocr")
    from .texts import TextReader

    return TextReader()


@_shared
def nudity() -> "Nudity":
    """A detector of exposed bodies: NudeNet's 320n, which its wheel ships.

    Raises:
        ValueError: it is not installed.
    """
    _need("finding exposed bodies", "nsfw", "nudenet")
    from .bodies import Nudity

    return Nudity()
