"""Tools of a judge: crop, other frames, text search in given pages, a page, OCR, a calculator.

The form is ARM-Thinker's (arXiv:2512.05111): a name and JSON arguments, answered by text and pictures. A tool
sees a `Case` and nothing else: the sample's own media and page texts, by names given here. It opens no path,
address or program, so that what a page or a picture tells the judge to do can do no more than the tools.
Nothing is evaluated: the calculator is `verifiers.arithmetic`.

`Looking` runs the loop. What a judge may not do (a box that is empty) is said to it; what is no call is a
typed failure.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ...engine.clips import chosen
from ...errors import Unscorable, nearest
from ...media import Media
from ...reading import aside
from ...types import Sample
from ...verifiers.arithmetic import exact

if TYPE_CHECKING:
    from PIL import Image

# --- what a judge may look at -----------------------------------------------------------------------------

PAGES = "pages"
"""Key of `meta` with the texts of a document's pages; the sample's inputs are their pictures, if as many."""
MOST_PAGES = 2000


@dataclass(slots=True)
class Case:
    """Media and pages that tools may fetch, by name; what a tool made joins them.

    Args:
        media: name -> picture or clip.
        pages: texts of a document's pages.
        page_pictures: their pictures, or none.
        document: its name.
    """

    media: dict[str, Media]
    pages: tuple[str, ...] = ()
    page_pictures: tuple[Media, ...] = ()
    document: str = "document"
    made: int = 0

    def picture(self, name: str) -> Media:
        """The picture of this name.

        Raises:
            Refused: there is none.
        """
        if name not in self.media:
            raise Refused(f"no picture is called {name[:40]!r}; there are {', '.join(self.media)}")
        return self.media[name]

    def add(self, picture: Media) -> str:
        """Name of a picture that a tool made."""
        self.made += 1
        name = f"observation_{self.made}"
        self.media[name] = picture
        return name


def case_of(sample: Sample, shown: Sequence[Media], first: str = "original_image") -> Case:
    """Case of a sample whose judge is shown these media.

    Args:
        sample: its pages are in `meta["pages"]`, and their pictures its inputs.
        shown: named FIRST, FIRST_2 and so on; clips clip, clip_2.
        first: name of the first picture.

    Raises:
        Unscorable: pages that are no list of texts, or too many.
    """
    media: dict[str, Media] = {}
    for one in shown:
        kind = first if one.kind == "image" else "clip"
        number = sum(other.kind == one.kind for other in media.values()) + 1
        media[kind if number == 1 else f"{kind}_{number}"] = one
    pages = sample.meta.get(PAGES, ())
    if not isinstance(pages, list | tuple) or not all(isinstance(page, str) for page in pages):
        raise Unscorable(f"meta[{PAGES!r}] is no list of texts")
    if len(pages) > MOST_PAGES:
        raise Unscorable(f"meta[{PAGES!r}] has {len(pages)} pages; {MOST_PAGES} are read")
    pictures = sample.inputs if pages and len(sample.inputs) == len(pages) else ()
    return Case(media, tuple(pages), pictures, document_of(sample))


def document_of(sample: Sample) -> str:
    """Name of a sample's document, `meta["document"]`."""
    return str(sample.meta.get("document", "document"))


# --- tools ------------------------------------------------------------------------------------------------


class Refused(Exception):  # noqa: N818 - said to the judge, and no failure
    """What a tool says in place of a result."""


class Result(NamedTuple):
    """Values for the tool's words, and the pictures that come with them."""

    values: Mapping[str, Any]
    pictures: tuple[Media, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool.

    Args:
        name: what a judge calls it by.
        about: description for the judge.
        arguments: name -> (type in JSON, description); all are needed.
        says: words of its result, with `{value}` fields.
        run: computes it.
    """

    name: str
    about: str
    arguments: Mapping[str, tuple[str, str]]
    says: str
    run: Callable[[Case, Mapping[str, Any]], Awaitable[Result]] = field(repr=False)

    @property
    def schema(self) -> dict[str, Any]:
        """As chat templates show it: OpenAI's form of a function."""
        properties = {
            name: {"type": kind, "description": text} for name, (kind, text) in self.arguments.items()
        }
        parameters = {"type": "object", "properties": properties, "required": list(self.arguments)}
        function = {"name": self.name, "description": self.about, "parameters": parameters}
        return {"type": "function", "function": function}

    def check(self, arguments: Any) -> Mapping[str, Any]:
        """The arguments of a call.

        Raises:
            Unscorable: "unparsable" for others than those of this tool, or of another type.
        """
        if not isinstance(arguments, dict) or set(arguments) != set(self.arguments):
            said = ", ".join(map(str, arguments)) if isinstance(arguments, dict) else type(arguments).__name__
            needs = ", ".join(self.arguments)
            raise Unscorable(f"{self.name} was called with {said[:80]}; it takes {needs}", "unparsable")
        for name, (kind, _) in self.arguments.items():
            if not TYPES[kind](arguments[name]):
                reason = f"{name} of {self.name} is {str(arguments[name])[:40]!r}, not of type {kind}"
                raise Unscorable(reason, "unparsable")
        return arguments


LARGEST = 1e9
"""Number of an argument; JSON holds integers that no float does."""


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


TYPES: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "array": lambda value: isinstance(value, list) and len(value) <= 64 and all(map(_number, value)),
}

SMALLEST = 28
"""Pixels of a crop's sides at least; a smaller box grows round its middle, as ARM-Thinker's does."""
SHARPEST = 224
"""Shorter side below which a crop is shown at twice its size."""
THINNEST = 100
"""Longer over shorter side of a box at most."""


def crop_box(box: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """Pixels of a box in thousandths of a picture's sides.

    Raises:
        Refused: no box, or one that cannot be made large enough.
    """
    if len(box) != 4 or not all(0 <= side <= 1000 for side in box):
        raise Refused(f"a box is four numbers from 0 to 1000, not {list(box)[:6]}")
    left, top, right, bottom = (side / 1000 * (width, height)[n % 2] for n, side in enumerate(box))
    across, down = right - left, bottom - top
    if min(across, down) <= 0 or max(across, down) > THINNEST * min(across, down):
        raise Refused(f"the box {list(box)} is empty, upside down or too thin")
    if min(across, down) < SMALLEST:
        # The operations are in the publisher's order: another one rounds a box to another pixel now and then.
        middle = (left + right) / 2, (top + bottom) / 2
        wide, tall = (side * (SMALLEST / min(across, down)) for side in (across, down))
        if wide > width:
            wide, tall = width, tall * (width / wide)
        if tall > height:
            wide, tall = wide * (height / tall), height
        left = min(max(middle[0] - wide / 2, 0), width - wide)
        top = min(max(middle[1] - tall / 2, 0), height - tall)
        right, bottom = left + wide, top + tall
    found = (math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))
    if min(found[2] - found[0], found[3] - found[1]) < SMALLEST:
        raise Refused(f"the box {list(box)} has fewer than {SMALLEST} pixels a side")
    return found


def _cropped(picture: "Image.Image", box: Sequence[float]) -> "Image.Image":
    from PIL import Image

    cut = picture.crop(crop_box(box, *picture.size))
    if min(cut.size) < SHARPEST:
        cut = cut.resize((cut.width * 2, cut.height * 2), Image.Resampling.BICUBIC)
    return cut


async def _crop(case: Case, given: Mapping[str, Any]) -> Result:
    picture = case.picture(given["image"])
    cut = await aside(lambda: Media(_cropped(picture.picture(), given["bbox_2d"])))
    return Result({"image": given["image"], "new": case.add(cut)}, (cut,))


MOST_FRAMES = 8


async def _frames(case: Case, given: Mapping[str, Any]) -> Result:
    clip = case.picture(given["video"])
    numbers = given["frames"]
    if clip.kind != "video" or not 1 <= len(numbers) <= MOST_FRAMES or any(n != int(n) for n in numbers):
        raise Refused(f"frames are one to {MOST_FRAMES} whole numbers, of a clip")
    ordered = sorted({int(number) for number in numbers})

    def those(total: int) -> list[int]:
        if not 0 <= ordered[0] <= ordered[-1] < total:
            raise Refused(f"the clip has frames 0 to {total - 1}")
        return ordered

    shots = tuple(await aside(lambda: chosen(clip, those)))
    names = ", ".join(case.add(shot) for shot in shots)
    return Result({"video": given["video"], "frames": ordered, "new": names}, shots)


WORD = re.compile(r"\w+")
FOUND = 5
"""Pages that a search finds at most."""
LONGEST_SIDE, GAP = 1120, 8
"""Pixels of a found page's longer side, and between two of them."""


def ranked(query: str, pages: Sequence[str], most: int = FOUND) -> list[int]:
    """Pages that hold words of the query, best first: rare words count more, and the tenth time little."""
    texts = [Counter(WORD.findall(page.casefold())) for page in pages]
    wanted = set(WORD.findall(query.casefold()))
    within = {word: sum(word in text for text in texts) for word in wanted}
    weights = {word: math.log(1 + len(pages) / number) for word, number in within.items() if number}
    scores = [
        sum(weight * text[word] / (text[word] + 1) for word, weight in weights.items()) for text in texts
    ]
    order = sorted(range(len(pages)), key=lambda page: (-scores[page], page))
    return [page for page in order[:most] if scores[page] > 0]


def _snippet(query: str, page: str, length: int = 500) -> str:
    wanted = set(WORD.findall(query.casefold()))
    first = next((word.start() for word in WORD.finditer(page) if word[0].casefold() in wanted), 0)
    begin = max(0, first - length // 4)
    return page[begin : begin + length]


def _side_by_side(pictures: Sequence["Image.Image"]) -> "Image.Image":
    """Pages in one picture, each reduced to `LONGEST_SIDE`, in the middle of their row."""
    from PIL import Image

    small = []
    for picture in pictures:
        longest = max(picture.size)
        width, height = (max(1, LONGEST_SIDE * side // longest) for side in picture.size)
        large = longest > LONGEST_SIDE
        small.append(picture.resize((width, height), Image.Resampling.BICUBIC) if large else picture)
    height = max(one.height for one in small)
    row = Image.new("RGB", (sum(one.width for one in small) + GAP * (len(small) - 1), height), "white")
    left = 0
    for one in small:
        row.paste(one, (left, (height - one.height) // 2))
        left += one.width + GAP
    return row


def _of_document(case: Case, name: str) -> None:
    if not case.pages:
        raise Refused("there is no document here")
    if name != case.document:
        raise Refused(f"no document is called {name[:40]!r}; there is {case.document!r}")


async def _search(case: Case, given: Mapping[str, Any]) -> Result:
    _of_document(case, given["filename"])
    query = given["query"][:1000]
    found = await aside(partial(ranked, query, case.pages))
    if not found:
        raise Refused(f"no page holds a word of {query[:80]!r}")
    values = {"query": query, "filename": case.document, "pages": [page + 1 for page in found]}
    if case.page_pictures:
        shown = [case.page_pictures[page] for page in found]
        row = await aside(lambda: Media(_side_by_side([page.picture() for page in shown])))
        return Result({**values, "new": case.add(row), "text": ""}, (row,))
    text = "".join(f"\nPage {page + 1}: {_snippet(query, case.pages[page])}" for page in found)
    return Result({**values, "text": text})


async def _page(case: Case, given: Mapping[str, Any]) -> Result:
    _of_document(case, given["filename"])
    number = given["image_idx"]
    if not 1 <= number <= len(case.pages):
        raise Refused(f"there are pages 1 to {len(case.pages)}")
    values = {"page": number, "filename": case.document}
    if case.page_pictures:
        page = case.page_pictures[number - 1]
        small = await aside(lambda: Media(_side_by_side([page.picture()])))
        return Result({**values, "new": case.add(small), "text": ""}, (small,))
    return Result({**values, "text": f"\n{case.pages[number - 1]}"})


LONGEST_NUMBER = 60


async def _calculate(case: Case, given: Mapping[str, Any]) -> Result:
    value = exact(given["expression"])
    if value is None:
        raise Refused("this is no arithmetic of numbers, + - * / ^ ! and brackets, or it is too large")
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 3.3 * LONGEST_NUMBER:
        raise Refused(f"the value has more than {LONGEST_NUMBER} digits")
    words = str(value) if value.denominator == 1 else f"{value}, about {float(value):.10g}"
    return Result({"expression": given["expression"], "value": words})


IMAGE = ("string", "Name of a picture.")
FILENAME = ("string", "Name of the document.")
CROP = Tool(
    name="crop",
    about="Zoom in on a part of a picture.",
    arguments={"image": IMAGE, "bbox_2d": ("array", "[x1, y1, x2, y2] from 0 to 1000.")},
    says="This is {new}, cut out of {image}.",
    run=_crop,
)
FRAMES = Tool(
    name="frames",
    about=f"Look at up to {MOST_FRAMES} frames of a clip.",
    arguments={"video": ("string", "Name of a clip."), "frames": ("array", "Numbers from 0 on.")},
    says="These are frames {frames} of {video}: {new}.",
    run=_frames,
)
SEARCH = Tool(
    name="search",
    about="Find the pages of the document that hold these words.",
    arguments={"filename": FILENAME, "query": ("string", "Words to look for.")},
    says="Pages {pages} of {filename}, best first.{text}",
    run=_search,
)
PAGE = Tool(
    name="page",
    about="Look at one page of the document.",
    arguments={"filename": FILENAME, "image_idx": ("integer", "Number of the page, from 1 on.")},
    says="Page {page} of {filename}.{text}",
    run=_page,
)
CALCULATE = Tool(
    name="calculate",
    about="Compute the exact value of an arithmetic expression.",
    arguments={"expression": ("string", "Such as (3 + 4) * 2^10 / 7.")},
    says="{expression} = {value}",
    run=_calculate,
)


def ocr_tool() -> Tool:
    """The tool that reads text in a picture, by RapidOCR.

    Raises:
        ValueError: it is not installed.
    """
    from ... import models

    reader = models.text_reader()

    async def read(case: Case, given: Mapping[str, Any]) -> Result:
        name = given["image"]
        lines = [line.text for line in await reader.lines(case.picture(name)) if line.confidence >= 0.5]
        return Result({"image": name, "text": "\n".join(lines) if lines else "no text was found"})

    return Tool(
        name="ocr",
        about="Read the text in a picture.",
        arguments={"image": IMAGE},
        says="In {image}: {text}",
        run=read,
    )


BY_NAME = {tool.name: tool for tool in (CROP, FRAMES, SEARCH, PAGE, CALCULATE)}
NAMES = (*BY_NAME, "ocr")


def tools_of(names: Sequence[str]) -> dict[str, Tool]:
    """Tools by name.

    Raises:
        ValueError: an unknown name, one twice, or text recognition that is not installed.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"tools names one twice: {', '.join(names)}")
    for name in names:
        if name not in NAMES:
            raise ValueError(f"there is no tool {name!r}; {nearest(name, NAMES)}")
    return {name: ocr_tool() if name == "ocr" else BY_NAME[name] for name in names}


def renamed(tool: Tool, schema: Mapping[str, Any], says: str) -> Tool:
    """A tool as a publisher declares it: its name, descriptions and words.

    Raises:
        ValueError: the declaration has other arguments.
    """
    function = schema["function"]
    told = function["parameters"]["properties"]
    if set(told) != set(tool.arguments):
        raise ValueError(f"{function['name']} takes {', '.join(told)}, not {', '.join(tool.arguments)}")
    arguments = {name: (str(one["type"]), str(one["description"])) for name, one in told.items()}
    return replace(tool, name=function["name"], about=function["description"], arguments=arguments, says=says)


def schemas(tools: Mapping[str, Tool]) -> str:
    """One line of JSON for each tool."""
    return "\n".join(json.dumps(tool.schema, ensure_ascii=False) for tool in tools.values())
