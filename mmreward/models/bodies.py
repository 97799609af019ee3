"""Exposed bodies in a picture: NudeNet's detector 320n (YOLOv8n in ONNX), which the wheel of nudenet ships.

The numbers are NudeNet's own, without its thresholds: the picture is padded with black to a square, at the
right or below, resized to 320 x 320 and divided by 255, and of every class the largest probability over all
2,100 boxes counts. The package and its weights are under the AGPL-3.0: its two licence files say so, and so
do the terms of YOLOv8, which it was trained with (the package's metadata says MIT).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..engine.engine import current
from ..errors import Unscorable
from ..limits import limits, most
from ..media import Media
from .onnx import Pixels, Shipped, one_thread, shipped_file

CLASSES = (
    *("FEMALE_GENITALIA_COVERED", "FACE_FEMALE", "BUTTOCKS_EXPOSED", "FEMALE_BREAST_EXPOSED"),
    *("FEMALE_GENITALIA_EXPOSED", "MALE_BREAST_EXPOSED", "ANUS_EXPOSED", "FEET_EXPOSED", "BELLY_COVERED"),
    *("FEET_COVERED", "ARMPITS_COVERED", "ARMPITS_EXPOSED", "FACE_MALE", "BELLY_EXPOSED"),
    *("MALE_GENITALIA_EXPOSED", "ANUS_COVERED", "FEMALE_BREAST_COVERED", "BUTTOCKS_COVERED"),
)
"""Classes in the order of the network's outputs."""
SIDE = 320
"""Pixels of its input."""


class Nudity(Shipped):
    """Detector whose result is the largest probability of each class, 0 to 1, in one picture."""

    def __init__(self) -> None:
        super().__init__("nudenet")

    async def most(self, media: Media) -> Mapping[str, float]:
        """Class -> largest probability of any box.

        Raises:
            Unscorable: the picture is broken, or too thin to be padded to a square.
        """
        return cast(Mapping[str, float], await current().submit(self, "bodies", media, key=media.key))

    def files(self) -> list[Path]:
        import nudenet

        return [shipped_file(Path(nudenet.__file__).parent, "320n.onnx", self.package)]

    def build(self) -> Any:
        import onnxruntime

        (file,) = self.files()
        return onnxruntime.InferenceSession(str(file), one_thread(), providers=["CPUExecutionProvider"])

    def look(self, session: Any, pixels: Pixels) -> dict[str, float]:
        side = max(pixels.shape[:2])
        if side * side > limits().pixels:
            raise Unscorable(
                f"padded to a square it has {side} x {side} pixels: the limit is {most('pixels')}"
            )
        blob = input_of(pixels)
        (boxes,) = session.run(None, {session.get_inputs()[0].name: blob})
        largest = boxes[0, 4:].max(axis=1)  # (4 coordinates + classes, boxes)
        return {name: float(value) for name, value in zip(CLASSES, largest, strict=True)}


def input_of(pixels: Pixels) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The network's input (1, 3, 320, 320) of RGB pixels, by OpenCV as NudeNet does it."""
    import cv2

    height, width = pixels.shape[:2]
    side = max(height, width)
    square = cv2.copyMakeBorder(
        pixels, 0, side - height, 0, side - width, cv2.BORDER_CONSTANT, value=(0, 0, 0)
    )
    # NudeNet turns BGR to RGB and then back, so that the network is shown BGR, and we show it that as well.
    return cast(
        np.ndarray[Any, np.dtype[np.float32]],
        cv2.dnn.blobFromImage(square, 1 / 255.0, (SIDE, SIDE), (0, 0, 0), swapRB=True, crop=False),
    )
