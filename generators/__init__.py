"""Generators: diffusion families behind one small protocol (`protocol.py`). mmreward never imports them."""

from .protocol import Conditioning, Generator, sample

__all__ = ["Conditioning", "Generator", "sample"]
