"""The host's work for a picture: `python -m mmreward.evals.host`.

Microseconds of processor time per picture before and around the network, for every source that a picture may
come from, beside the bare sum of the library calls that are needed (decode, quantise, resize, normalise). On
an accelerator the forward of a dual encoder takes a millisecond, and this decides how many pictures a second
there are.

A dual encoder of one patch and one layer stands for the network; its bare forwards are measured and taken
off. Everything runs on one thread per kind of work and processor time of all threads counts, so the figures
neither depend on the number of cores nor gain by waiting. Each round has pictures that nobody has seen.

Where torchmetrics or Flow-Factory is installed, their own code scores the same pictures by turns with ours,
and a second table has the processor time of both around the network. Another has the wait for a batch of
files that is decoded by one thread and by all processors (`batches`), one the cost of a minute of 1080p for
the frames that are looked at (`clips`), the last one the time to the first score of fresh processes
(`startup`).

Exits with 1 when a source costs more than `BAR` times its bare calls, when floats cost more than `FLOATS`
times the bytes of the same layout, when a peer takes less than its bar says, when frames of a clip cost more
than `host_clips.BAR` times their bare calls, or when the loop's thread takes more than `LOOP` microseconds
per call; a picture makes two calls, one for itself and one for its prompt.
"""

import argparse
import ctypes
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torchvision.transforms.v2 import functional as tv

from mmreward import Engine, Media, Sample, load
from mmreward.engine.devices import keep_freed
from mmreward.models import parallel
from mmreward.models.pictures import forget, prepared
from mmreward.models.pixels import Recipe, normalise
from mmreward.registry import Reward

from . import host_clips, startup
from .host_peers import Peer, installed
from .speed.inputs import PROMPTS, SCALES, Stack, save_dual_encoder

SIDE = 512
BATCH = 48
ROUNDS = 4
BAR = 1.5
"""Times the bare calls."""
FLOATS = 2.0
"""Times the same layout in bytes."""
TABLES = ("sources", "batches", "peers", "clips", "startup")
LOOP = 50.0
"""Microseconds of the loop's thread per call."""
TOWER = replace(
    SCALES["toy"], clip_side=224, clip_patch=224, clip_eyes=Stack(8, 1, 1, 8), clip_text=Stack(8, 1, 1, 8)
)
"""A full-size input, and a network of next to no cost."""


def drawn(number: int, round_: int, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture with the statistics of photographs: smooth shapes, and a little grain."""
    random = np.random.default_rng((number, round_))
    coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = random.integers(-6, 7, (side, side, 1), dtype=np.int16)
    return np.asarray((smooth + grain).clip(0, 255), dtype=np.uint8)


# --- sources ------------------------------------------------------------------------------------------------


class Source(NamedTuple):
    """A way in which a picture comes.

    Args:
        make: what is handed to `Media`, of pixels (H, W, 3) and a path without its ending.
        bare: the same as uint8 (3, H, W) by the library calls alone.
        resize: the reward's option.
    """

    make: Callable[[np.ndarray[Any, Any], Path], Any]
    bare: Callable[[Any], torch.Tensor]
    resize: str = "uint8"


def _file(ending: str, **options: Any) -> Callable[[np.ndarray[Any, Any], Path], Path]:
    def make(pixels: np.ndarray[Any, Any], stem: Path) -> Path:
        path = stem.with_suffix(ending)
        Image.fromarray(pixels).save(path, **options)
        return path

    return make


def _encoded(pixels: np.ndarray[Any, Any], _: Path) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def _opened(file: Any) -> torch.Tensor:
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
        return _last(np.asarray(picture.convert("RGB")))


def _drafted(file: Path) -> torch.Tensor:
    with Image.open(file) as picture:
        picture.draft(None, (TOWER.clip_side, TOWER.clip_side))
        return _last(np.asarray(picture.convert("RGB")))


def _last(array: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(np.array(array)).permute(2, 0, 1)


def _quantised(pixels: torch.Tensor) -> torch.Tensor:
    # The quickest way that the library has: straight to bytes takes 1.4 times as long on a CPU.
    return pixels.mul(255).round_().to(torch.int16).to(torch.uint8)


def _float(pixels: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255


SOURCES = {
    "PNG file": Source(_file(".png"), _opened),
    "JPEG file": Source(_file(".jpg", quality=90), _opened),
    "JPEG file, draft": Source(_file(".jpg", quality=90), _drafted, "draft"),
    "WebP file": Source(_file(".webp", quality=90), _opened),
    "JPEG bytes": Source(_encoded, _opened),
    "PIL": Source(lambda pixels, _: Image.fromarray(pixels), lambda picture: _last(np.asarray(picture))),
    "uint8 array": Source(lambda pixels, _: pixels, lambda array: torch.from_numpy(array).permute(2, 0, 1)),
    "uint8 tensor": Source(lambda pixels, _: _last(pixels).contiguous(), lambda tensor: tensor),
    "float tensor": Source(lambda pixels, _: _float(pixels), _quantised),
    "float array": Source(
        lambda pixels, _: (pixels / np.float32(255)).astype(np.float32),
        lambda array: _quantised(torch.from_numpy(array).permute(2, 0, 1)),
    ),
}


# --- the two ways -------------------------------------------------------------------------------------------


class HostCost(NamedTuple):
    """Microseconds: per picture of the bare calls and of ours in all; per call on the loop's thread."""

    bare: float
    ours: float
    loop: float

    @property
    def ratio(self) -> float:
        return self.ours / self.bare


class BatchWait(NamedTuple):
    """Milliseconds until a batch of encoded pictures is ready, by one thread and by all processors."""

    alone: float
    together: float


@contextmanager
def _processes(number: int) -> Iterator[None]:
    """Block in which this is one of so many processes of the machine, which share its processors."""
    told = os.environ.get("LOCAL_WORLD_SIZE")
    os.environ["LOCAL_WORLD_SIZE"] = str(number)
    try:
        yield
    finally:
        del os.environ["LOCAL_WORLD_SIZE"]
        if told is not None:
            os.environ["LOCAL_WORLD_SIZE"] = told


def bare(pictures: Sequence[Any], source: Source, recipe: Recipe) -> torch.Tensor:
    """The network's input by the library calls alone: decode, quantise, resize, crop, normalise."""
    made = []
    for picture in pictures:
        pixels = source.bare(picture)
        size = list(recipe.scaled(*pixels.shape[-2:]))
        resized = tv.resize(pixels, size, tv.InterpolationMode.BICUBIC, antialias=True)
        made.append(tv.center_crop(resized, list(recipe.size)))
    return normalise(torch.stack(made).float() / 255, recipe)


class Bench:
    """One engine and one network, for all sources.

    Args:
        engine: without a cache of results.
        folder: for weights and pictures.
        side: of the pictures.
    """

    def __init__(self, engine: Engine, folder: Path, side: int) -> None:
        save_dual_encoder(folder / "clip", TOWER, 0, torch.float32)
        self.engine, self.folder, self.side = engine, folder, side
        weights = str(folder / "clip")
        self.rewards: dict[str, Reward] = {
            resize: load("clipscore", weights=weights, resize=resize) for resize in ("uint8", "draft")
        }
        self.towers = self.rewards["uint8"].networks[0].network.towers  # type: ignore[attr-defined]
        self.drawn = 0
        self.bases = [drawn(number, 0, side) for number in range(BATCH)]

    def pictures(self, source: Source) -> list[Any]:
        self.drawn += 1
        stems = [self.folder / f"{self.drawn}-{number}" for number in range(BATCH)]
        turned = [np.roll(one, 7 * self.drawn, axis=1) for one in self.bases]  # which nobody has seen
        return [source.make(one, stem) for one, stem in zip(turned, stems, strict=True)]

    def samples(self, pictures: Sequence[Any]) -> list[Sample]:
        return [
            Sample(id=f"{self.drawn}-{n}", prompt=PROMPTS[n % len(PROMPTS)], image=Media(one))
            for n, one in enumerate(pictures)
        ]

    def row(self, source: Source) -> HostCost:
        """The least of the rounds, as other work can only add to processor time; the two ways take turns."""
        rows = []
        for round_ in range(ROUNDS + 1):
            pictures = self.pictures(source)
            forget()
            plain = _processor(partial(bare, pictures, source, self.towers.recipe))
            samples = self.samples(self.pictures(source))
            loop = _thread_time("mmreward-loop")
            ours = _processor(partial(self._score, samples, source.resize))
            loop = _thread_time("mmreward-loop") - loop
            if round_:
                rows.append(HostCost(*(1e6 * t / BATCH for t in (plain, ours - self.forwards(), loop / 2))))
        return HostCost(*(min(column) for column in zip(*rows, strict=True)))

    def batch(self, source: Source) -> BatchWait:
        """Medians of the rounds; one thread and several take turns."""
        rows = []
        for round_ in range(ROUNDS + 1):
            waits = []
            for share in (parallel.processors(), 1):  # processes of this machine
                medias = [Media(one) for one in self.pictures(source)]
                forget()
                with _processes(share):
                    begun = time.perf_counter()
                    prepared([(media, "uint8") for media in medias], self.towers.recipe, torch.device("cpu"))
                waits.append(1e3 * (time.perf_counter() - begun))
            if round_:
                rows.append(waits)
        return BatchWait(*(median(column) for column in zip(*rows, strict=True)))

    def _score(self, samples: list[Sample], resize: str) -> None:
        scores = self.engine.score(samples, self.rewards[resize])["clipscore"]
        if failed := [score.note for score in scores if not score.ok]:
            raise RuntimeError(f"{len(failed)} pictures failed: {failed[0]}")

    @torch.inference_mode()
    def forwards(self) -> float:
        """Seconds of the bare network for one round: a batch of pictures, one of prompts."""
        pixels = torch.zeros(BATCH, 3, *self.towers.recipe.size)

        def run() -> None:
            self.towers.image(pixels)
            self.towers.text(self.towers.tokenize(list(PROMPTS))[0])

        return _processor(run)


class PeerCost(NamedTuple):
    """Microseconds per picture around the network, of somebody else's code and of ours; and the bar of their
    ratio."""

    theirs: float
    ours: float
    bar: float

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours


def beside(bench: Bench, peer: Peer, number: int) -> PeerCost:
    """Medians of the rounds in which a peer and the engine score with so many encoders, by turns."""
    folders = [bench.folder / f"clip {seed}" for seed in range(number)]
    for seed, folder in enumerate(folders):
        if not folder.exists():
            save_dual_encoder(folder, TOWER, seed, torch.float32)
    rewards = {one.name: load("clipscore", weights=str(one), resize="uint8") for one in folders}
    scorer, source = peer.load(folders), SOURCES[peer.source]
    rows = []
    for round_ in range(ROUNDS + 1):
        samples = bench.samples(bench.pictures(source))
        pictures = bench.pictures(source)
        texts = [sample.prompt for sample in samples]
        both = [
            _processor(partial(scorer, pictures, texts)),
            _processor(partial(bench.engine.score, samples, rewards)),
        ]
        network = number * bench.forwards()
        if round_:
            rows.append([1e6 * (seconds - network) / BATCH for seconds in both])
    theirs, ours = (median(column) for column in zip(*rows, strict=True))
    return PeerCost(theirs, ours, peer.rewards[number])


def keep_pages() -> None:
    """Have glibc keep what is freed, in one place for all threads. Which of the two ways gets its memory from
    the kernel, a page at a time, is chance otherwise, and the pages of one picture can cost more than its
    resize."""
    if keep_freed():
        arena_max = -8  # a thread's own arena is given back whole, whatever the threshold
        ctypes.CDLL(None).mallopt(arena_max, 1)


def _processor(run: Callable[[], object]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def _thread_time(name: str) -> float:
    """Processor seconds of the threads of this name so far."""
    found = (thread for thread in threading.enumerate() if thread.name.startswith(name))
    clocks = (time.pthread_getcpuclockid(thread.ident) for thread in found if thread.ident is not None)
    return sum(map(time.clock_gettime, clocks))


def batches(side: int) -> dict[str, BatchWait]:
    """The wait for a batch, by the name of its encoded source."""
    with TemporaryDirectory(prefix="mmreward-host-") as folder, Engine("cpu") as engine:
        bench = Bench(engine, Path(folder), side)
        return {name: bench.batch(source) for name, source in SOURCES.items() if name.endswith(" file")}


def measure(
    side: int, names: Sequence[str], peers: Mapping[str, Peer] | None = None
) -> tuple[dict[str, HostCost], dict[str, PeerCost]]:
    """Rows by the name of their source, and of each peer with its number of rewards."""
    with TemporaryDirectory(prefix="mmreward-host-") as folder, Engine("cpu", cache_bytes=0) as engine:
        bench = Bench(engine, Path(folder), side)
        rows = {name: bench.row(SOURCES[name]) for name in names}
        return rows, {
            f"{name} x {number}, {peer.source}": beside(bench, peer, number)
            for name, peer in (peers or {}).items()
            for number in peer.rewards
        }


def complaints(
    rows: Mapping[str, HostCost], others: Mapping[str, PeerCost] = MappingProxyType({})
) -> list[str]:
    """The bars that are missed, in words; empty when all are met."""
    found = [
        f"{name}: {row.ratio:.2f} times ours, bar {row.bar:g}"
        for name, row in others.items()
        if row.ratio < row.bar
    ]
    for name, row in rows.items():
        if row.ratio > BAR:
            found.append(f"{name}: {row.ratio:.2f} times the bare calls, bar {BAR}")
        if row.loop > LOOP:
            found.append(f"{name}: {row.loop:.0f} us per call on the loop's thread, bar {LOOP:.0f}")
        layout = name.removeprefix("float ")
        bytes_ = rows.get(f"uint8 {layout}") if layout != name else None
        if bytes_ and row.ours > FLOATS * bytes_.ours:
            found.append(f"{name}: {row.ours / bytes_.ours:.2f} times the uint8 {layout}, bar {FLOATS:.0f}")
    return found


def table(rows: dict[str, HostCost]) -> Table:
    """The measured rows for a terminal."""
    shown = Table("source", "bare us", "ours us", "ratio", "loop us/call")
    for name, row in rows.items():
        shown.add_row(name, f"{row.bare:.0f}", f"{row.ours:.0f}", f"{row.ratio:.2f}", f"{row.loop:.0f}")
    return shown


def batch_table(rows: dict[str, BatchWait]) -> Table:
    """The waits for a terminal."""
    shown = Table(f"batch of {BATCH}", "one thread ms", f"{parallel.processors()} processors ms", "times")
    for name, row in rows.items():
        shown.add_row(name, *(f"{wait:.0f}" for wait in row), f"{row.alone / row.together:.2f}")
    return shown


def peer_table(rows: dict[str, PeerCost]) -> Table:
    """The rows of other projects' code for a terminal."""
    shown = Table("beside", "theirs us", "ours us", "times ours")
    for name, row in rows.items():
        shown.add_row(name, f"{row.theirs:.0f}", f"{row.ours:.0f}", f"{row.ratio:.2f}")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=SIDE, help="pixels of a side")
    parser.add_argument("--source", action="append", choices=SOURCES, help="only this; several times")
    parser.add_argument("--only", choices=TABLES, help="one of the tables")
    given = parser.parse_args()
    torch.set_num_threads(1)  # threads that spin for work would count as cost
    keep_pages()
    console = Console()
    names = (given.source or list(SOURCES)) if given.only in (None, "sources") else []
    peers = installed() if given.only in (None, "peers") else {}
    rows, others = measure(given.side, names, peers) if names or peers else ({}, {})
    for shown in (*([table(rows)] if rows else []), *([peer_table(others)] if others else [])):
        console.print(shown)
    if given.only in (None, "batches"):
        console.print(batch_table(batches(given.side)))
    clips = host_clips.measure() if given.only in (None, "clips") else {}
    if clips:
        console.print(host_clips.table(clips))
    if given.only in (None, "startup"):
        with TemporaryDirectory(prefix="mmreward-startup-") as folder:
            console.print(startup.table(startup.measure(startup.commands(Path(folder)))))
    found = complaints(rows, others) + host_clips.complaints(clips)
    for text in found or ["within the bars"]:
        console.print(text, highlight=False)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
