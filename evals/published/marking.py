"""Qwen-Image-Bench's row: a judge behind a server that marks pictures by their pixels, lists in our own words
of the published form, and a second writing of how the publisher shows a picture and averages marks.

The judge stands for the released one, of 27 billion weights: it reads what it is sent, so that a picture in
another size, or at another place, has other marks.
"""

import base64
import hashlib
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmreward import Media, Sample

from .readers import Sampled
from .upstream import Args

BENCH = {
    "Quality": "## Real\n- Weight: does it stand?\n- Cloth: is it woven?\n## Fine\n- Grain: is it clean?",
    "Aesthetics": "## Layout\n- Layout: is it balanced?",
    "Alignment": "## Things\n- Number: as many?\n- Hue: as named?\n## Scene\n- Place: where it should be?",
    "Real-world Fidelity": "## Safe\n- Safe: is it harmless?",
    "Creative Generation": "## New\n- New: is it new?\n## Feature Matching\n- Feature Matching: seamless?",
}
TEMPLATE = (
    "# Wish\n{prompt}\n\n# Shown\n<image>\n\n# Side\n{level1_dim}\n# List\n{format_checklist}\n"
    '# Answer in JSON\n{{"{{heading}}": {{"{{criterion}}": {{"score": 0|1|2}}}}}}'
)
WORTH = {0: 0.0, 1: 60.0, 2: 100.0}


def write_bench(folder: Path) -> Args:
    """A file of the form of the published texts: arguments of `qwen_image_bench`."""
    own = {"system": "Mark pictures.", "template": TEMPLATE, "lists": BENCH}
    folder.mkdir(exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(own))
    return {"questions": str(folder / "bench.json")}


def marks_of(picture: Image.Image, dimension: str) -> dict[str, dict[str, Any]]:
    """Heading -> criterion -> mark, by the picture's pixels; something always applies."""
    number = hashlib.sha256(np.asarray(picture).tobytes() + dimension.encode()).digest()[0]
    found: dict[str, dict[str, Any]] = {}
    for line in BENCH[dimension].splitlines():
        if line.startswith("## "):
            heading = found.setdefault(line[3:], {})
        else:
            number = number * 7 + 3
            heading[line[2:].partition(":")[0]] = {"score": (0, 1, 2, "N/A")[number // 4 % 4]}
    first = next(iter(found.values()))
    first[next(iter(first))] = {"score": 1 + number % 2}
    return found


def answered(parts: list[dict[str, Any]]) -> str:
    """Answer to a message as the released judge writes it: thoughts, then JSON."""
    before, (url,), after = _split(parts)
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
    dimension = next(name for name in BENCH if f"# Side\n{name}\n" in after)
    # A picture that does not stand here is another request than the published one.
    marks = marks_of(picture, dimension) if before.endswith("# Shown\n") else {}
    return f"<think>{{}} hm</think>\n{json.dumps(marks)}"


class _Judge(BaseHTTPRequestHandler):
    """A server of chat completions."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._say({"object": "list", "data": []})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = answered(asked["messages"][-1]["content"])
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        self._say({"object": "chat.completion", "choices": [choice], "usage": {"completion_tokens": 3}})

    def _say(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: the table is what is printed."""


def _split(parts: list[dict[str, Any]]) -> tuple[str, list[str], str]:
    """Text before the picture, addresses of pictures, text behind."""
    place = next(row for row, part in enumerate(parts) if part["type"] == "image_url")
    sides = (parts[:place], parts[place:])
    texts = [[part["text"] for part in side if part["type"] == "text"] for side in sides]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return "".join(texts[0]), urls, "".join(texts[1])


def save_bench(folder: Path) -> Args:
    """The arguments, with a judge that is served until the process ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return write_bench(folder) | {"judge": f"judge@http://127.0.0.1:{server.server_address[1]}/v1"}


def averaged(_: Args) -> Sampled:
    """Means of means of means by the publisher's rule, of the picture as it is shown: one of a side above
    1,024 is squashed to a square of that."""

    def value(sample: Sample) -> float:
        assert sample.image is not None
        picture = Image.fromarray(sample.image.still())
        if max(picture.size) > 1024:
            picture = picture.resize((1024, 1024), Image.Resampling.LANCZOS)
        tops = []
        for dimension in BENCH:
            means = []
            for group in marks_of(picture, dimension).values():
                worth = [WORTH[mark["score"]] for mark in group.values() if mark["score"] != "N/A"]
                means += [sum(worth) / len(worth)] if worth else []
            tops.append(sum(means) / len(means))
        return sum(tops) / len(tops)

    return Sampled(value)


def pictured() -> list[Sample]:
    """Pictures of several sizes, two of which are squashed; a prompt with what could be taken for a field."""
    draw = np.random.default_rng(0)
    sizes = ((24, 40), (48, 24), (1025, 8), (12, 1500))
    return [
        Sample(
            id=str(row),
            prompt="a {prompt} <image> circle",
            image=Media(draw.integers(0, 255, (*size, 3), dtype=np.uint8)),
        )
        for row, size in enumerate(sizes)
    ]
