"""Golden judgements of the modes of `critique` and `preference`, in our own words, and a judge that gives
them."""

import asyncio
import json
import math

from mmreward import Unscorable
from mmreward.models.vlms.answers import LogProb, Read, Written


def critique(*marks, names=("Text faithfulness", "Visual quality")):
    """Marks by aspect."""
    return "\n".join(
        f"## {name}\nJustification: 2 of the 3 things.\nScore: {mark}"
        for name, mark in zip(names, marks, strict=True)
    )


def principles(*marks, weights=(60, 40), names=("Right number", "Sharpness")):
    """SPCT of one picture; marks that are pairs are of two."""
    head = "\n".join(
        f"Principle: {name} ({weight}): 2 circles" for name, weight in zip(names, weights, strict=True)
    )
    blocks = [f"Score: {mark}" if not isinstance(mark, tuple) else "Score 1: {}\nScore 2: {}".format(*mark)
              for mark in marks]  # fmt: skip
    return (
        head
        + "\n"
        + "\n".join(
            f"## {name}\nJustification: one of 2 circles is missing.\n{block}\n"
            for name, block in zip(names, blocks, strict=True)
        )
    )


def ranked(*scores, order=None, think="model-1 has the circle."):
    """RewardAnything of one picture or two."""
    names = [f"model-{place}" for place in range(1, len(scores) + 1)]
    order = order or sorted(names, key=lambda name: -float(scores[names.index(name)]))
    listed = ", ".join(f'"{name}": {score}' for name, score in zip(names, scores, strict=True))
    return f'<think>{think}</think>\n{{"scores": {{{listed}}}, "best-to-worst": {json.dumps(order)}}}'


def rubric(*checks):
    """A rubric of (rank, good)."""
    listed = [
        {"check": f"Check {place}", "rank": rank, "seen": "a circle", "good": good}
        for place, (rank, good) in enumerate(checks)
    ]
    return f"```json\n{json.dumps({'rubric': listed}, indent=1)}\n```"


def chain(answer="[[A]]", kind="Chat"):
    """RM-R1 of two pictures."""
    tag = {"Chat": "rubric", "Reasoning": "solution"}.get(kind, "rubric")
    why = "<justify>The number was asked for.</justify>" if tag == "rubric" else ""
    return (
        f"<type>{kind}</type>\n<{tag}>Number 70%, sharpness 30%. {why}</{tag}>\n"
        f"<eval><summary_A>one circle</summary_A> <summary_B>two</summary_B> B or A?</eval>\n"
        f"<answer>{answer}</answer>"
    )


def contrast(*rubrics):
    """CDRRM's first text."""
    lines = "\n".join(f"Rubric: {rubric}" for rubric in rubrics)
    return f"Contrast: picture 1 has one circle, picture 2 has two\nContrast: both are sharp\n{lines}"


def decided(*places, answer="1"):
    """CDRRM's second text."""
    lines = "\n".join(f"Rubric {number}: {place}" for number, place in enumerate(places, 1))
    return f"{lines}\n<answer>{answer}</answer>"


class Judge:
    """Writes `words`, one after the other or what a function makes of (pictures, question, seed), says yes as
    `yes(question)` has it, and gives each text after `given` the probability `chance(given, text)`."""

    name = "judge"
    fingerprint = "judge"

    def __init__(self, words=(), yes=lambda question: 0.9, chance=lambda given, text: 0.1):
        self.words, self.yes, self.chance = words, yes, chance
        self.asked, self.tried = [], []

    async def write(self, pictures, question, *, seed=0, system="", **options):
        place = len(self.asked)
        self.asked.append((tuple(pictures), question, seed, system))
        said = self.words(pictures, question, seed) if callable(self.words) else self.words[place]
        if isinstance(said, Exception):
            raise said
        await asyncio.sleep(0)
        return Written(said, not said.endswith("..."), 3)

    async def read(self, media, question, labels, **options):
        self.asked.append((media, question, 0, ""))
        yes = self.yes(question)
        if yes is None:
            raise Unscorable("no answer", "unparsable")
        return Read({"yes": yes, "no": 1 - yes}, 1.0)

    async def logprob(self, media, question, text, *, given="", **options):
        self.tried.append((question, given, text))
        each = self.chance(given, text)
        each = tuple(map(math.log, each if isinstance(each, tuple) else (each,)))
        return LogProb(sum(each), len(each), each)
