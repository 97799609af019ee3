"""Objectives of the source scheduler: one number per source, higher meaning that more of it is wanted.

The first two read the metrics of `monitor.by_source.source_metrics`. The other two are those of the Holistic
Data Scheduler (arXiv:2606.24133) that need the trainer's gradients or weights. In its published code the
rewards for quality and for weight norms are one number for all sources, which cannot say which of them to
prefer; here both are by source.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..monitor.by_source import SOURCES

Vector = np.ndarray[Any, np.dtype[np.floating[Any]]]
TINY = 1e-12


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


def influence(gradients: Mapping[str, Vector]) -> dict[str, float]:
    """Influence: the fall of the other sources' losses by a step on each source's own, from their gradients.

    The sum of a gradient's inner products with those of the other sources, over the mean norm of all.

    Args:
        gradients: source -> gradient of its loss, flat, all of one length (a sketch will do).

    Raises:
        ValueError: gradients of different lengths.
    """
    if len({len(gradient) for gradient in gradients.values()}) > 1:
        raise ValueError(f"gradients of different lengths: {[len(g) for g in gradients.values()]}")
    if not gradients:
        return {}
    rows = np.stack([np.asarray(gradient, dtype=np.float64) for gradient in gradients.values()])
    products = rows @ rows.T
    scale = float(np.linalg.norm(rows, axis=1).mean()) + TINY
    sums = (products.sum(axis=1) - np.diag(products)) / scale
    return dict(zip(gradients, map(float, sums), strict=True))


def stability(norms: Mapping[str, float], cap: float = 5.0) -> dict[str, float]:
    """Stability: 1 / (sum of changes of the layers' norms) by a step on each source, at most `cap`.

    Args:
        norms: source -> sum over layers of |norm after - norm before| of a step on that source.
        cap: the value of a step that changes nothing.

    Raises:
        ValueError: a change below 0, or a cap that is not positive.
    """
    if not cap > 0 or any(change < 0 for change in norms.values()):
        raise ValueError(f"changes {dict(norms)} are at least 0, and cap {cap} is above it")
    return {source: min(1.0 / max(change, TINY), cap) for source, change in norms.items()}


def _figures(metrics: Mapping[str, float], figure: str) -> dict[str, float]:
    """One figure of every source."""
    start, end = f"{SOURCES}/", f"/{figure}"
    named = {
        name[len(start) : -len(end)]: v
        for name, v in metrics.items()
        if name.startswith(start) and name.endswith(end)
    }
    return {source: value for source, value in named.items() if "/" not in source}
