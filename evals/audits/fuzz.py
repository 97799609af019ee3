"""Fuzzing of verifiers: `python -m mmreward.evals.audits.fuzz`.

Every registered reward that judges a response without a network is given mutations of its own example, a
megabyte of text that is built to be slow, and is timed. Exits with 1 when one raises anything but Unscorable,
gives a value outside its range, or needs longer than a tenth of a second of CPU for a megabyte. Figures:
evals/vlm.md.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mmreward import Reward, Sample, Unscorable, list_rewards, load
from mmreward.registry import Fingerprinted
from mmreward.trust import JUDGED
from mmreward.types import shortened

MEGABYTE = 1_000_000
DEADLINE = 0.1
"""Seconds of CPU for a megabyte."""
PIECES = (
    "<think>", "</think>", "<answer>", "</answer>", "<think", "\\boxed{", "\\fbox{", "\\frac{", "}", "{",
    "[", "]", "(", ")", "\"", "'", "\\", "```json\n", "```", "{\"bbox_2d\": [", "\"label\": \"", "<box>",
    "</box>", "<|box_start|>", "<point x=", "point_2d", "None", "null", "NaN", "1e999", "-", "\u2212",
    "9" * 40, "^", "!", "%", ",", ".", ":", "A", "(B)", "yes", "no", "not ", " or ", "1/0", "\n", "\t",
    "\x00", "\ud800", "\u202e", "\uff11", "\U0001f431", "<a1>", "</a1>", "00:00", " to ", "$", "\\left(",
    "\\sqrt", "\\begin{matrix}", "&", "x", "__import__('os')",
)  # fmt: skip
BUILT: dict[str, Callable[[], str]] = {
    "one letter": lambda: "a" * MEGABYTE,
    "spaces": lambda: " " * MEGABYTE,
    "digits": lambda: "9" * MEGABYTE,
    "open brackets": lambda: "[" * MEGABYTE,
    "open braces": lambda: "\\boxed{" * (MEGABYTE // 7),
    "quotes": lambda: "\"'" * (MEGABYTE // 2),
    "backslashes": lambda: "\\" * MEGABYTE,
    "opened answers": lambda: "<answer>" * (MEGABYTE // 8),
    "closed thoughts": lambda: "</think>" * (MEGABYTE // 8),
    "boxes": lambda: '[{"bbox_2d":[1,2,3,4],"label":"a"},' * (MEGABYTE // 35),
    "half boxes": lambda: '[{"bbox_2d""label"' * (MEGABYTE // 18),
    "box tags": lambda: "<|box_start|>(1,2),(3,4)" * (MEGABYTE // 24),
    "powers": lambda: "9^" * (MEGABYTE // 2),
    "commas": lambda: "1," * (MEGABYTE // 2),
    "words": lambda: "no yes maybe " * (MEGABYTE // 13),
    "times": lambda: "1:02 to " * (MEGABYTE // 8),
    "minus signs": lambda: "-" * MEGABYTE,
}


@dataclass
class FuzzResult:
    """One verifier's responses by status, its failures, its slowest megabyte and its rate."""

    name: str
    tried: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    slowest: float = 0.0
    slowest_text: str = ""
    per_second: float = 0.0


def verifiers() -> dict[str, Reward]:
    """Every reward that reads a response and uses no network, with its default arguments."""
    chosen = {}
    for info in list_rewards():
        reads = "response" in info.needs and set(info.needs) <= {"response", "target", "prompt"}
        if not reads or info.name in JUDGED:
            continue
        loaded = load(info.name)
        if info.arity == "point" and not any(map(_is_network, loaded.networks)):
            chosen[info.name] = loaded
    return chosen


def _is_network(used: Fingerprinted) -> bool:
    """True for a network, False for a library such as math-verify."""
    return hasattr(used, "network") or hasattr(used, "forward")


def mutated(text: str, draw: random.Random) -> str:
    """The text after one to eight changes: pieces put in, cut out, doubled, swapped or repeated."""
    for _ in range(draw.randint(1, 8)):
        at, to = sorted(draw.randint(0, len(text)) for _ in range(2))
        match draw.randrange(6):
            case 0:
                text = text[:at] + draw.choice(PIECES) + text[at:]
            case 1:
                text = text[:at] + text[to:]
            case 2:
                text = text[:to] + text[at:to] + text[to:]
            case 3:
                text = text[:at] + draw.choice(PIECES) * draw.randint(1, 40) + text[to:]
            case 4:
                text = text[:at] + chr(draw.randrange(1, 0xD7FF)) + text[at:]
            case _:
                text = text[to:] + text[:at]
    return text[:4000]


async def judge(reward: Reward, sample: Sample, found: FuzzResult) -> None:
    """Score one response, and note what should not happen in `found`."""
    found.tried += 1
    try:
        score = await reward(shortened(sample))
    except Unscorable as failure:
        found.statuses[failure.status] += 1
        return
    except Exception as error:  # whatever it is, it is the finding
        found.broken.append(f"{type(error).__name__}: {error} for {sample.response!r:.300}")
        return
    low, high = reward.info.range
    found.statuses["right" if score.value >= high else "ok"] += 1
    if not low <= score.value <= high:
        found.broken.append(f"{score.value} is outside {low} to {high} for {sample.response!r:.300}")


async def attack(name: str, reward: Reward, number: int, seed: int) -> FuzzResult:
    """Findings over mutations of the example, then megabytes, then honest answers against the clock."""
    found, draw = FuzzResult(name), random.Random(f"{name} {seed}")
    example = Sample(**reward.info.example)
    honest = example.response or ""
    for _ in range(number):
        await judge(reward, replace(example, response=mutated(honest, draw)), found)
    for kind, build in BUILT.items():
        for wrap in ("{}", "<think>x</think><answer>{}</answer>"):
            sample = replace(example, response=wrap.replace("{}", build()))
            begun = time.process_time()
            await judge(reward, sample, found)
            spent = time.process_time() - begun
            if spent > found.slowest:
                found.slowest, found.slowest_text = spent, kind
    found.per_second = await speed(reward, example)
    return found


async def speed(reward: Reward, sample: Sample, seconds: float = 0.5) -> float:
    """Honest answers judged in a second of CPU."""
    begun, done = time.process_time(), 0
    while (spent := time.process_time() - begun) < seconds:
        await reward(sample)
        done += 1
    return done / spent


def table(all_found: Sequence[FuzzResult]) -> str:
    """Markdown, one line per verifier."""
    lines = [
        "| verifier | responses | full marks | failures | slowest megabyte | per second |",
        "|---|---|---|---|---|---|",
    ]
    for one in all_found:
        failed = sorted((status, n) for status, n in one.statuses.items() if status not in ("ok", "right"))
        failures = ", ".join(f"{status} {n}" for status, n in failed)
        lines.append(
            f"| {one.name} | {one.tried} | {one.statuses['right']} | {failures or '-'} "
            f"| {1000 * one.slowest:.0f} ms ({one.slowest_text}) | {one.per_second:,.0f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--number", type=int, default=1_000_000, help="mutations in all, default 1,000,000")
    parser.add_argument("--only", action="append", help="a verifier; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    chosen: dict[str, Any] = {n: r for n, r in verifiers().items() if not given.only or n in given.only}
    each = given.number // len(chosen)
    found = [asyncio.run(attack(name, reward, each, given.seed)) for name, reward in chosen.items()]
    print(table(found))
    wrong = [f"{one.name}: {text}" for one in found for text in one.broken]
    wrong += [
        f"{one.name}: a megabyte ({one.slowest_text}) took {one.slowest:.2f} s"
        for one in found
        if one.slowest > DEADLINE
    ]
    if wrong:
        sys.exit("\n".join(wrong[:50]))


if __name__ == "__main__":
    main()
