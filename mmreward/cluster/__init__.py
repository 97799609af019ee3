"""Scale-out on Ray: an engine whose batches run in actors, and bulk scoring of Parquet sets.

Importing this needs no Ray; using it does: `pip install mmreward[ray]`.
"""

from .dataset import score_dataset
from .placement import RayPlacement
from .pool import Grant

__all__ = ["Grant", "RayPlacement", "score_dataset"]
