"""Scale-out on Ray: an engine whose batches run in actors (`RayPlacement`), and bulk scoring of Parquet sets
(`score_dataset`); `Grant` is the number and size of the actors.

`placement` (the engine's side), `pool` (the actors of one network), `dataset` (bulk scoring), `session`
(Ray's connection). Importing this needs no Ray; using it does: `pip install mmreward[ray]`.
"""

from .dataset import score_dataset
from .placement import RayPlacement
from .pool import Grant

__all__ = ["Grant", "RayPlacement", "score_dataset"]
