"""Networks that another package brings, with their weights in its wheel or fetched by it.

`text_reader` and `nudity` come out of wheels and run on the CPU (see `onnx`), `measure` is a torch module.
They are functions of `mmreward.models`, as all others. Each looks for its package before anything else, so
that one that is missing is a line before the first row. Imports neither torch nor the packages.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from .sharing import need_package, shared

if TYPE_CHECKING:
    from .bodies import Nudity
    from .iqa import Measure
    from .texts import TextReader


@shared
def measure(metric: str, *, longest: int = 0) -> "Measure":
    """A quality measure of pyiqa (IQA-PyTorch), by its name there.

    Args:
        metric: the name.
        longest: pixels of the longer side that larger pictures are scaled to; 0 leaves them.

    Raises:
        ValueError: pyiqa is not installed, has no such measure, or one that is not of a single picture.
    """
    if find_spec("pyiqa") is None:
        raise ValueError(
            "iqa needs pyiqa: pip install pyiqa, or name an interpreter that has it and mmreward, as in "
            "`iqa: {metric: musiq, python: /path/to/venv/bin/python}`"
        )
    from .iqa import Measure

    return Measure(metric, longest)


@shared
def text_reader() -> "TextReader":
    """A reader of the text in a picture: RapidOCR with the models that its wheel ships.

    Raises:
        ValueError: it is not installed.
    """
    need_package("reading text in pictures", "ocr", "rapidocr")
    from .texts import TextReader

    return TextReader()


@shared
def nudity() -> "Nudity":
    """A detector of exposed bodies: NudeNet's 320n, which its wheel ships.

    Raises:
        ValueError: it is not installed.
    """
    need_package("finding exposed bodies", "nsfw", "nudenet")
    from .bodies import Nudity

    return Nudity()
