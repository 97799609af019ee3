"""The methods of `mmreward search` by name. A new one is a function of a `job.Job`, settings, and a line."""

from collections.abc import Mapping

from . import steered
from .job import Method
from .reno import RenoSearch, reno

METHODS: Mapping[str, Method] = {
    "best-of-n": Method(steered.BestOfN, steered.best_of_n),
    "fk-steering": Method(steered.FkSteering, steered.fk_steering),
    "tree-search": Method(steered.TreeSearch, steered.tree_search),
    "pruning": Method(steered.Pruning, steered.pruning),
    "guided": Method(steered.Guided, steered.guided),
    "reno": Method(RenoSearch, reno),
}
