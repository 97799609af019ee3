"""Networks by the name of their weights: dual encoders, heads, image classifiers, vision-language models.

Start with the functions here: `clip`, `head`, `mapped`, `classifier` and `vlm` return what a reward awaits
one sample at a time; `text_reader` and `nudity` do so for weights that a package ships. Importing this
package imports no torch; calling one of its functions does.

Equal arguments give the same network, so rewards that name the same weights share one copy of them. The
miniature's names ("mini-clip", "mini-vlm", "mini-artifact") stand where a hub id or a folder would.

In the room: `base` (torch modules behind the engine's `Network` protocol), `encoders`, `heads`, `maps`,
`paired`, `blip` and `mps` (a picture with its prompt), `pictures` and `pixels` (decoded pictures and a
network's input), `onnx`, `texts` and `bodies` (out of wheels), `vlms/` (in this process) and `served/` (over
HTTP). Knows nothing of samples, rewards or scores.
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
    from .blip import BlipScorer
    from .bodies import Nudity
    from .encoders import DualEncoder, Encoder
    from .heads import Classifier, Head
    from .maps import MappedEncoder
    from .mps import MpsScorer
    from .texts import TextReader
    from .vlms.answers import VLM
    from .vlms.qwen import QwenVL

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


@_shared
def blip_head(
    weights: str,
    vocabulary: str,
    *,
    tokens: int,
    activation: bool = False,
    dtype: str = "float32",
    resize: str = "pil",
) -> "BlipScorer":
    """A BLIP with a scalar head, such as ImageReward: one number of a picture and a prompt.

    Args:
        weights: a published file (.pt, .pth or .safetensors) by path or OWNER/NAME/FILE, of tensors alone.
        vocabulary: BERT's vocab.txt, by path or OWNER/NAME/FILE.
        tokens: length that prompts are padded and cut to.
        activation: GELU between the head's layers.
        dtype: of both encoders; the head is in float32.
        resize: as for `clip`.

    Raises:
        ValueError: no such dtype or resize.
    """
    from .blip import BlipScorer

    return BlipScorer(weights, vocabulary, tokens, dtype=dtype, resize=resize, activation=activation)


@_shared
def crossed(
    weights: str,
    processor: str,
    condition: str,
    threshold: float,
    *,
    dtype: str = "float32",
    resize: str = "pil",
) -> "MpsScorer":
    """MPS: a CLIP whose picture attends to the tokens of the prompt that are like a condition's.

    Args:
        weights: a file of tensors alone, by path or OWNER/NAME/FILE.
        processor: the CLIP in transformers format whose configuration, tokenizer and preprocessing it has.
        condition: what is asked about.
        threshold: see `mmreward.models.mps`.
        dtype: of all of it; the cosine is in float32.
        resize: as for `clip`.

    Raises:
        ValueError: no such dtype or resize.
    """
    from .mps import MpsScorer

    return MpsScorer(weights, processor, condition, threshold, dtype=dtype, resize=resize)


def needed(weights: str, *files: str) -> None:
    """Check of published weights before any row: here, or within reach of the hub.

    Args:
        weights: a hub id, a file of one (OWNER/NAME/FILE), a folder, a file or a miniature.
        files: of a hub id, those that are needed, where its weights are not.

    Raises:
        ValueError: neither, with the command that fetches them.
    """
    from .checkpoints import needed

    needed(weights, *files)


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
