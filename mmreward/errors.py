"""How a score can fail: seven statuses, and the one exception that carries them."""

# FOLDED mmreward/limits.py: How large, and how far out of range, pixels may be before they are refused.

from collections.abc import Mapping
from typing import Literal, get_args

Status = Literal["ok", "na", "missing", "unparsable", "out_of_range", "timeout", "error"]
"""ok: a value. na: does not apply. missing: a field or file is not there. unparsable: a model's words could
not be read. out_of_range: a number outside the legal interval. timeout: a deadline passed. error: anything
else, with note."""
STATUSES: tuple[str, ...] = get_args(Status)


class Unscorable(ValueError):  # noqa: N818 - reads as what it says at the raise
    """Raised inside a reward or a network when this one item has no score; becomes a Score with this
    status."""

    def __init__(
        self, reason: str, status: Status = "error", parts: Mapping[str, float] | None = None
    ) -> None:
        if status not in STATUSES or status == "ok":
            raise ValueError(f"{status!r} is no status of a failure: {reason}")
        super().__init__(reason)
        self.status: Status = status
        self.parts = parts or {}


MAX_PIXELS = 89_478_485
"""Pictures with more pixels than this are refused (Pillow's own threshold for a decompression bomb)."""
MAX_FRAMES = 4096
MAX_CLIP_PIXELS = 1 << 30
"""Pixels of all frames of one clip together (3 GB as RGB); a small file can ask for any number."""
TOLERANCE = 1e-3
"""How far float pixels may lie outside [0, 1] before they are refused rather than clipped."""
