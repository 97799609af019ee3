"""Mixed data: which rewards score a sample, by its source or by what the sample itself says."""

from .router import Routed, Router

__all__ = ["Routed", "Router"]
