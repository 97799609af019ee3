"""Objectives of the source scheduler: one number per source, higher meaning that more of it is wanted.

Both read metrics as `monitor.by_source.source_metrics` names them. In the published code of the Holistic Data
Scheduler (arXiv:2606.24133) the reward for quality is one number for all sources, which cannot say which of
them to prefer; here it is by source. Its objectives that need gradients or weights of each source are left
out: no trainer hands them to a reward.
"""

from collections.abc import Mapping

from ..monitor.by_source import SOURCES


def quality(metrics: Mapping[str, float]) -> dict[str, float]:
    """Quality of a source, 0 to 1: its share of groups with variance, times that of readable answers.

    (1 - groups/zero_variance) * (1 - unread) * (1 - failed); a source without groups has no value.
    """
    return {
        source: (1 - still)
        * (1 - metrics.get(f"{SOURCES}/{source}/unread", 0.0))
        * (1 - metrics.get(f"{SOURCES}/{source}/failed", 0.0))
        for source, still in _figures(metrics, "groups/zero_variance").items()
    }


def progress(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Progress: the rise of each source's score from one step to another, for the sources that both have."""
    first, last = _figures(before, "score"), _figures(after, "score")
    return {source: last[source] - first[source] for source in last if source in first}


def _figures(metrics: Mapping[str, float], figure: str) -> dict[str, float]:
    """One figure of every source."""
    start, end = f"{SOURCES}/", f"/{figure}"
    named = {
        name[len(start) : -len(end)]: v
        for name, v in metrics.items()
        if name.startswith(start) and name.endswith(end)
    }
    return {source: value for source, value in named.items() if "/" not in source}
