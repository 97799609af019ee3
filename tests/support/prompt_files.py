"""Python files of publishers with prompts in words of our own, for the tests of scalar rewards."""

from pathlib import Path

from mmreward.evals.published.scalars import TEXTS
from mmreward.models import pins


def prompt_file(folder: Path, *names: str) -> str:
    """A Python file that assigns our texts to the publisher's names."""
    file = folder / (Path(pins.PINS[names[0]].path).name if names else "prompts.py")
    lines = [f"{pins.PINS[name].symbol} = {TEXTS[name]!r}" for name in names]
    file.write_text("\n".join(["import os, sys", *lines, "raise SystemExit('nobody runs this')"]))
    return str(file)
