"""Load on a reward server, with and without hostile clients: `python -m mmreward.evals.audits.serving`.

A real `mmreward serve` process is asked by honest clients over kept connections, each of which waits for its
answer before it asks again: first alone, then beside hostile ones, then it gets SIGTERM while all of them are
at it. Exits with 1 when the honest clients' p99 is more than three times that of without the hostile ones, a
well-formed request fails, or the server takes more than 5 seconds to end. Figures: evals/serving.md.

The hostile clients run in a process of their own. Each has a manner: bodies that come byte by byte and bodies
that never end; bodies above the limit, with and without a length; 50,000 rows; as many boxes as are matched;
being gone before the answer. Each begins again as soon as it is through.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np

RATIO, END = 3.0, 5.0
"""The bars: p99 with hostile clients over p99 without; seconds from SIGTERM to the end."""
PAUSE = 0.2
"""Mean seconds between an answer and the client's next request."""
START = 120.0
"""Seconds a server may take to come up."""
ROUTES = "routes: {boxes: {rewards: {iou: {}}}}\nengine: {device: cpu}\n"
BOX = json.dumps([{"bbox_2d": [100, 100, 500, 500], "label": "cat"}])
GOOD = {"response": f"<answer>{BOX}</answer>", "answer": BOX, "data_source": "boxes"}


@dataclass
class Phase:
    """Answers of the honest clients in one phase: seconds of each, and what was no good answer, by reason."""

    name: str
    seconds: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def milliseconds(self, percentile: float) -> float:
        return 1000 * float(np.percentile(self.seconds, percentile)) if self.seconds else float("nan")


@dataclass
class Found:
    """Figures of a run: the two phases, attacks by name, and seconds from SIGTERM to the end."""

    alone: Phase = field(default_factory=lambda: Phase("alone"))
    beside: Phase = field(default_factory=lambda: Phase("beside hostile clients"))
    attacks: Counter[str] = field(default_factory=Counter)
    end: float = 0.0

    def ratio(self, percentile: float) -> float:
        return self.beside.milliseconds(percentile) / self.alone.milliseconds(percentile)


def request_of(path: str, body: bytes, *, length: int | None = None) -> bytes:
    """A POST with a body, and the length it announces."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


# --- the server -----------------------------------------------------------------------------------


class Server:
    """`mmreward serve` in a process of its own; a context manager that leaves none behind."""

    def __init__(self, folder: Path) -> None:
        (folder / "routes.yaml").write_text(ROUTES)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        command = [sys.executable, "-m", "mmreward.cli", "serve", str(folder / "routes.yaml")]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> "Server":
        end = time.monotonic() + START
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
                return self
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended at once with exit code {self._process.returncode}")
            time.sleep(0.05)
        self.__exit__()
        raise TimeoutError(f"the server did not come up within {START:g} s")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def terminate(self) -> float:
        """Seconds from SIGTERM until the process has ended; at most a minute is waited."""
        begun = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
        return time.monotonic() - begun


# --- honest clients -------------------------------------------------------------------------------


async def honest(port: int, until: float, phase: Phase, number: int, pause: float = PAUSE) -> None:
    """Ask until the time is over, with a pause of so many seconds on average; a connection that breaks is
    counted, and made again."""
    rng = np.random.default_rng(number)
    wanted = request_of("/judge", json.dumps(GOOD).encode())
    await asyncio.sleep(rng.uniform(0, pause))
    while time.monotonic() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            phase.failed[type(error).__name__] += 1
            await asyncio.sleep(PAUSE)
            continue
        try:
            while time.monotonic() < until:
                begun = time.perf_counter()
                writer.write(wanted)
                status, body = await answer_from(reader)
                if status == 200 and b'"status":"ok"' in body:
                    phase.seconds.append(time.perf_counter() - begun)
                else:
                    phase.failed[f"{status} {body[:80]!r}"] += 1
                await asyncio.sleep(rng.exponential(pause))
        except (OSError, asyncio.IncompleteReadError) as error:
            phase.failed[type(error).__name__] += 1
        finally:
            writer.close()


async def answer_from(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of an answer that has a length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(
        int(line.partition(":")[2]) for line in head.split("\r\n") if line.startswith("content-length")
    )
    return int(head.split()[1]), await reader.readexactly(length)


async def measured(port: int, clients: int, seconds: float, phase: Phase, pause: float = PAUSE) -> None:
    """Add the answers that so many clients get in so many seconds."""
    until = time.monotonic() + seconds
    await asyncio.gather(*(honest(port, until, phase, number, pause) for number in range(clients)))


# --- hostile clients ------------------------------------------------------------------------------

Attack = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body byte by byte."""
    writer.write(request_of("/judge", b"", length=1000))
    for _ in range(30):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.1)


async def unfinished(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A megabyte of a body of 8, and then nothing; the connection is kept until the server ends it."""
    writer.write(request_of("/judge", b" " * (1 << 20), length=8_000_000))
    await writer.drain()


async def giant(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """More than is allowed, in chunks, without a length."""
    writer.write(b"POST /judge HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(160):
        writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        await writer.drain()


async def announced(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body of a terabyte, as its head says."""
    writer.write(request_of("/judge", b"{" * 100_000, length=10**12))
    await writer.drain()
    await reader.read(1000)


async def rows(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """50,000 rows in one request."""
    writer.write(ROWS)
    await writer.drain()
    await answer_from(reader)


async def boxes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As many boxes on either side as are matched."""
    writer.write(BOXES)
    await writer.drain()
    await answer_from(reader)


async def gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A good request whose client does not wait."""
    writer.write(request_of("/judge", json.dumps(GOOD).encode()))
    await writer.drain()


MANY = {"query": ["pq"] * 50_000, "prompts": ["p"] * 50_000, "labels": [3] * 50_000}
ROWS = request_of("/get_reward", json.dumps(MANY).encode())
CROWD = json.dumps([{"bbox_2d": [i % 900, i % 37, i % 900 + 50, 90], "label": "cat"} for i in range(1024)])
BOXES = request_of(
    "/judge",
    json.dumps({"response": f"<answer>{CROWD}</answer>", "answer": CROWD, "data_source": "boxes"}).encode(),
)
ATTACKS: dict[str, Attack] = {
    one.__name__: one for one in (slow, unfinished, giant, announced, rows, boxes, gone)
}
MANNERS = (("slow", "unfinished"), ("giant", "announced"), ("rows",), ("boxes",), ("gone",))
"""Attacks of one hostile client, in turn; of more clients, the first have the first manners again."""


async def hostile(port: int, clients: int) -> None:
    """Attack until this process is ended; prints the name of each attack when it is over."""
    kept: list[asyncio.StreamWriter] = []

    async def client(number: int) -> None:
        for name in cycle(MANNERS[number % len(MANNERS)]):
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    await ATTACKS[name](reader, writer)
                finally:
                    if name == "unfinished":
                        kept.append(writer)
                    else:
                        writer.close()
            print(name, flush=True)
            await asyncio.sleep(0.01)

    await asyncio.gather(*map(client, range(clients)))


class Attackers:
    """The hostile clients in a process of their own, from when each has been through an attack; a context
    manager that leaves none behind."""

    def __init__(self, port: int, clients: int, log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            command = [sys.executable, "-m", "mmreward.evals.audits.serving", "--attack", str(port)]
            self._process = subprocess.Popen(
                [*command, "--hostile", str(clients)],
                stdout=file,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
        self._manners = MANNERS[:clients]

    def __enter__(self) -> "Attackers":
        end = time.monotonic() + START
        while not all(self.counts().keys() & set(manner) for manner in self._manners):
            if self._process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise RuntimeError(f"the hostile clients did not come up: {dict(self.counts())}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def counts(self) -> Counter[str]:
        """Attacks that are over, by name."""
        return Counter(self._log.read_text().split())


# --- the bars -------------------------------------------------------------------------------------


def run(clients: int, attackers: int, seconds: float, rounds: int) -> Found:
    """Both phases by turns, so that other work of the machine meets both, and the end while all are at it."""
    found = Found()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        asyncio.run(measured(server.port, clients, min(2.0, seconds), Phase("warm")))
        for number in range(rounds):
            asyncio.run(measured(server.port, clients, seconds, found.alone))
            with Attackers(server.port, attackers, Path(folder, "attacks")) as attack:
                asyncio.run(measured(server.port, clients, seconds, found.beside))
                if number == rounds - 1:
                    found.end = server.terminate()
                found.attacks += attack.counts()
    return found


def complaints(found: Found) -> list[str]:
    """Bars that were missed."""
    missed = [
        f"{phase.name}: {number} x {reason}"
        for phase in (found.alone, found.beside)
        for reason, number in phase.failed.most_common(5)
    ]
    if not found.ratio(99) <= RATIO:
        missed.append(f"p99 is more than {RATIO:g} times that of without hostile clients")
    if found.end > END:
        missed.append(f"the server took more than {END:g} s to end")
    return missed


def _leave_the_processors_to_others() -> None:
    """Run when nobody else of the session wants to, and give way at once: elsewhere hostile clients have
    processors of their own, and do not take those of the server and of the clients that are timed."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # no Linux, or a container that forbids it
        os.nice(19)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--hostile", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase, in each round")
    parser.add_argument("--rounds", type=int, default=3, help="of both phases, by turns")
    parser.add_argument("--attack", type=int, default=0, metavar="PORT", help="only attack, without an end")
    given = parser.parse_args(arguments)
    if given.attack:
        _leave_the_processors_to_others()
        asyncio.run(hostile(given.attack, given.hostile))
        return
    found = run(given.clients, given.hostile, given.seconds, given.rounds)
    size = f"{given.rounds} x {given.seconds:g} s a phase, {os.cpu_count()} CPUs"
    print(f"{given.clients} clients, {given.hostile} hostile, {size}")
    print("\n| phase | answers | failed | p50, ms | p99, ms |\n|---|---|---|---|---|")
    for phase in (found.alone, found.beside):
        counts = f"{len(phase.seconds)} | {phase.failed.total()}"
        print(f"| {phase.name} | {counts} | {phase.milliseconds(50):.1f} | {phase.milliseconds(99):.1f} |")
    print(f"\nattacks: {', '.join(f'{name} {found.attacks[name]}' for name in ATTACKS)}")
    print(f"ratio of p50 {found.ratio(50):.2f}, of p99 {found.ratio(99):.2f}")
    print(f"ended {found.end:.1f} s after SIGTERM")
    missed = complaints(found)
    print("\n".join(missed) or "all bars met")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
