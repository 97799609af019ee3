"""How large, and how far out of range, pixels may be before they are refused."""

MAX_PIXELS = 89_478_485
"""Pictures with more pixels than this are refused (Pillow's own threshold for a decompression bomb)."""
MAX_FRAMES = 4096
MAX_CLIP_PIXELS = 1 << 30
"""Pixels of all frames of one clip together (3 GB as RGB); a small file can ask for any number."""
TOLERANCE = 1e-3
"""How far float pixels may lie outside [0, 1] before they are refused rather than clipped."""
