"""The command line with a slow reward that notes what it has scored; the run that is stopped."""

import asyncio
import os
from pathlib import Path

from mmreward import Score, reward
from mmreward.cli import main


@reward("slow", needs=(), range=(0, 1))
def slow():
    """A toy."""
    turn = asyncio.Lock()

    async def score(sample):
        async with turn:
            await asyncio.sleep(0.005)
        with Path(os.environ["SLOW_LOG"]).open("a") as log:
            log.write(sample.id + "\n")
        return Score(0.5)

    return score


main()
