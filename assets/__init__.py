"""The miniature's weights, sample media and golden numbers: data only."""

from pathlib import Path

ASSETS = Path(__file__).parent
"""The folder of the miniature's weights."""
