"""Networks of robots' rewards by the names of their published files, reached through `mmreward.models`.

Imports no torch; calling a function does.
"""

from typing import TYPE_CHECKING

from .sharing import shared
from .wants import BODY, noting

if TYPE_CHECKING:
    from .encoder_handle import Encoder
    from .resnets import Family, GoalResNet
    from .stages import Sarm
    from .vjepa import VJepaAC
    from .vlms.robometer import Robometer


@shared
def robometer(weights: str, base: str = "", *, dtype: str = "float32") -> "Robometer":
    """Robometer in LeRobot's format: progress, success and preference of episodes frame by frame.

    Args:
        weights: a folder or hub id.
        base: hub id or folder of tokenizer and processor; "" takes what the configuration names.
        dtype: of the body; the heads are in float32.

    Raises:
        ValueError: the weights, or tokenizer and processor, are neither here nor within reach.
    """
    if not noting():
        from .checkpoints import needed

        needed(weights)
        if base:
            needed(base, *BODY)
    from .vlms.robometer import Robometer

    return Robometer(weights, base, dtype=dtype)


@shared
def goal_resnet(
    weights: str, family: "Family", *, dtype: str = "float32", resize: str = "pil"
) -> "GoalResNet":
    """VIP or R3M from its publisher's file: embeddings of pictures whose distance is that of their moments.

    Args:
        weights: the published model.pt, or safetensors with its names; a path, or OWNER/NAME/FILE of the hub.
        family: "vip" or "r3m".
        dtype: of the network.
        resize: as for `clip`; "pil" is the publishers'.

    Raises:
        ValueError: no such file.
    """
    if not noting():
        from .checkpoints import needed

        needed(weights)
    from .resnets import GoalResNet

    return GoalResNet(weights, family, dtype=dtype, resize=resize)


@shared
def sarm(weights: str, encoder: str, *, dtype: str = "float32", resize: str = "uint8") -> "Sarm":
    """SARM in LeRobot's format: stages of a task and progress within them.

    Args:
        weights: a folder or hub id.
        encoder: the CLIP that it was trained on, as for `clip`.
        dtype, resize: of the CLIP; SARM itself is in float32.

    Raises:
        ValueError: the weights are neither here nor within reach.
    """
    if not noting():
        from .checkpoints import needed

        needed(weights)
        needed(encoder)
    from .stages import Sarm

    return Sarm(weights, _unscaled(encoder, dtype, resize))


@shared
def _unscaled(encoder: str, dtype: str, resize: str) -> "Encoder":
    from .encoder_handle import Encoder

    return Encoder(encoder, dtype=dtype, resize=resize, unit=False)


@shared
def world_model(weights: str, predictor: str = "", *, dtype: str = "float32") -> "VJepaAC":
    """V-JEPA 2-AC from its publisher's file: how far actions are predicted to end from a goal's picture.

    Args:
        weights: the published vjepa2-ac-vitg.pt, or safetensors with its names; a path, or OWNER/NAME/FILE.
        predictor: a file with the predictor's names, trained on another robot; "" for that of `weights`.
        dtype: of both networks.

    Raises:
        ValueError: no such file.
    """
    if not noting():
        from .checkpoints import needed

        needed(weights)
        if predictor:
            needed(predictor)
    from .vjepa import VJepaAC

    return VJepaAC(weights, predictor, dtype=dtype)
