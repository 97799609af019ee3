"""A judge that writes given lines, calls of tools, and a small document."""

import json

import numpy as np

from mmreward import Media
from mmreward.models.vlms.answers import Written

PAGES = ["Nothing here.", "The bridge is 120 m long.", "A bridge, a river.", "Rivers."]


def call(name, **arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


class Scripted:
    """Writes its lines in turn, and keeps what it was asked."""

    name = fingerprint = "scripted"

    def __init__(self, *lines, tokens=5, finished=True):
        self.lines, self.tokens, self.finished, self.asked = list(lines), tokens, finished, []

    async def write(self, media, prompt, *, max_tokens=512, system="", history=(), **options):
        self.asked.append((prompt, system, list(history), max_tokens))
        return Written(self.lines.pop(0), self.finished, self.tokens)


def picture(width=200, height=100):
    """Black on the left, red on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :, 0] = np.linspace(0, 255, width).astype(np.uint8)
    return Media(pixels)
