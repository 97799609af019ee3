"""Text read from a picture: RapidOCR (PP-OCR in ONNX) with the models that its wheel ships.

Lines come in reading order (top to bottom, left to right among those of a height). The models of rapidocr
3.10 (PP-OCRv6, small) read Chinese, Japanese, English and other Latin text. Nothing is fetched: the models
are named by their files. Text that stands on its head is not turned.
"""

from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from ..engine.engine import current
from ..errors import Unscorable
from ..media import Media
from .onnx import Pixels, Shipped, shipped_file

TASKS = ("Det", "Rec")
"""Models in use, by their section in RapidOCR's config: where text is, and what it says."""
THINNEST = 64
"""Longer side over shorter side from which a picture is refused: reduced to RapidOCR's 2000 pixels it has
fewer than its 30 the other way."""
TALLEST = 4
"""Height over width from which black is added at the right, as RapidOCR adds it to what is wide."""


class Line(NamedTuple):
    """One line, or one piece of it, as it was read."""

    text: str
    confidence: float
    """Mean probability of its characters, 0 to 1."""


class TextReader(Shipped):
    """Reader of all text in one picture; its result is a tuple of lines, also those of little confidence."""

    def __init__(self) -> None:
        super().__init__("rapidocr")

    async def lines(self, media: Media) -> tuple[Line, ...]:
        """The lines of one picture in reading order; none where nothing was found.

        Raises:
            Unscorable: the picture is broken, or too thin to be read.
        """
        return cast(tuple[Line, ...], await current().submit(self, "lines", media, key=media.key))

    def files(self) -> list[Path]:
        return list(self._models().values())

    def _models(self) -> dict[str, Path]:
        """Section -> file, as RapidOCR's own config chooses them."""
        import rapidocr
        from rapidocr.inference_engine.base import FileInfo, InferSession
        from rapidocr.utils.parse_parameters import ParseParams

        folder = Path(rapidocr.__file__).parent
        config = ParseParams.load(folder / "config.yaml")
        found = {}
        for task in TASKS:
            about = config[task]
            address = InferSession.get_model_url(
                FileInfo(
                    engine_type=about.engine_type,
                    ocr_version=about.ocr_version,
                    task_type=about.task_type,
                    lang_type=about.lang_type,
                    model_type=about.model_type,
                )
            )["model_dir"]
            found[task] = shipped_file(folder / "models", Path(address).name, self.package)
        return found

    def build(self) -> Any:
        from rapidocr import RapidOCR

        engine: Any = RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.text_score": 0.0,  # the reward chooses, so that all of them share one reading
                "Global.use_cls": False,
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                **{f"{task}.model_path": str(file) for task, file in self._models().items()},
            }
        )
        engine._load_det_model()  # what cannot be loaded is no picture's fault, and is said as such
        engine._load_rec_model()
        return engine

    def look(self, session: Any, pixels: Pixels) -> tuple[Line, ...]:
        height, width = pixels.shape[:2]
        if max(height, width) > THINNEST * min(height, width):
            raise Unscorable(f"a picture of {width} x {height} is too thin to be read")
        # RapidOCR enlarges the shorter side to 736 pixels, and pads only what is wide: unpadded, a picture of
        # 64 x 4000 would become one of 736 x 46,000.
        margin = max(0, height // TALLEST - width)
        padded = np.pad(pixels, ((0, 0), (0, margin), (0, 0)))
        found = session(np.ascontiguousarray(padded[..., ::-1]))  # BGR, as OpenCV has it
        if found.txts is None:
            return ()
        return tuple(Line(text, float(sure)) for text, sure in zip(found.txts, found.scores, strict=True))
