"""Scheduler of data sources: sampling weights, moved online by several objectives at once.

After the Holistic Data Scheduler (arXiv:2606.24133), whose objectives are quality, the influence of a
source's loss on the others, and the norms of the weights. There an actor-critic chooses the weights; here
they move by exponentiated gradient, which needs no training of its own and can be followed by hand.
Objectives are in `source_objectives`; `adapters.trl_sources` draws by it in TRL's GRPO.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

MOST_DEVIATIONS = 3.0
"""A source is held to so many deviations above or below the others in one objective."""
FLAT = 1e-9
"""Values that differ by no more than this share of their size rank nothing."""


class SourceScheduler:
    """Sampling weights from figures by source; deterministic, and resumes from `state_dict`.

    At every update each objective is compared across the sources (z-scores, held to 3 deviations), the
    objectives are added by their weights, an exponential average smooths the sum, and the logits move by
    `rate` times it. The weights are floor + (1 - K floor) softmax(logits), so no source is ever lost.

    Args:
        sources: their names.
        objectives: name -> weight; a negative one is to fall.
        rate: of the logits, per update; 0.1 lets a source that is one deviation ahead grow by a tenth.
        floor: smallest weight of any source; default a tenth of an equal share.
        smoothing: share of the old average that is kept at an update, in [0, 1).
        forget: share of the logits that is dropped at an update, in [0, 1]; without it a small constant lead
            ends in the floor for all others.

    Raises:
        ValueError: no two different sources, no objective, or a number outside its range.
    """

    def __init__(
        self,
        sources: Sequence[str],
        objectives: Mapping[str, float],
        *,
        rate: float = 0.1,
        floor: float | None = None,
        smoothing: float = 0.5,
        forget: float = 0.02,
    ) -> None:
        if len(sources) < 2 or len(set(sources)) < len(sources):
            raise ValueError(f"at least two different sources are needed, not {', '.join(sources)}")
        if not objectives or not all(map(math.isfinite, objectives.values())):
            raise ValueError(f"at least one objective with a finite weight is needed, not {dict(objectives)}")
        self.floor = 0.1 / len(sources) if floor is None else floor
        if not 0 <= self.floor * len(sources) < 1:
            raise ValueError(f"a floor of {floor} for {len(sources)} sources leaves nothing to choose")
        if not (0 < rate < math.inf and 0 <= smoothing < 1 and 0 <= forget <= 1):
            raise ValueError(
                f"rate {rate} is above 0, smoothing {smoothing} in [0, 1), forget {forget} in [0, 1]"
            )
        self.sources, self.objectives = tuple(sources), dict(objectives)
        self.rate, self.smoothing, self.forget = rate, smoothing, forget
        self._logits = dict.fromkeys(self.sources, 0.0)
        self._lead = dict.fromkeys(self.sources, 0.0)
        self._owed = dict.fromkeys(self.sources, 0.0)
        self.updates = 0

    @property
    def weights(self) -> dict[str, float]:
        """Source -> share of the samples; they sum to 1, each at least the floor."""
        top = max(self._logits.values())
        raised = {source: math.exp(logit - top) for source, logit in self._logits.items()}
        whole, free = math.fsum(raised.values()), 1.0 - self.floor * len(self.sources)
        return {source: self.floor + free * value / whole for source, value in raised.items()}

    def update(self, figures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Move by one step and return the new weights.

        Args:
            figures: objective -> source -> value. A source without a finite value is neither ahead nor
                behind, and an objective that is the same for all moves nothing.

        Raises:
            ValueError: an objective or a source that is not there.
        """
        self._known(figures)
        for source, lead in self._leads(figures).items():
            self._lead[source] = self.smoothing * self._lead[source] + (1 - self.smoothing) * lead
            kept = (1 - self.forget) * self._logits[source]
            self._logits[source] = kept + self.rate * self._lead[source]
        self.updates += 1
        return self.weights

    def counts(self, batch: int) -> dict[str, int]:
        """Samples of each source in the next batch of `batch`.

        Fractions of a sample, owed or ahead, are carried to the next call, so counts follow the weights in
        the long run however small a batch is.

        Raises:
            ValueError: a negative batch.
        """
        if batch < 0:
            raise ValueError(f"a batch of {batch} samples")
        for source, weight in self.weights.items():
            self._owed[source] += weight * batch
        counts = {source: max(0, math.floor(owed)) for source, owed in self._owed.items()}
        while (left := batch - sum(counts.values())) != 0:
            step = 1 if left > 0 else -1
            able = [source for source in self.sources if step > 0 or counts[source] > 0]
            counts[max(able, key=lambda source: step * (self._owed[source] - counts[source]))] += step
        for source, taken in counts.items():
            self._owed[source] -= taken
        return counts

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on as if nothing had happened; fit for JSON."""
        return {
            "sources": list(self.sources),
            "logits": dict(self._logits),
            "lead": dict(self._lead),
            "owed": dict(self._owed),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a scheduler of the same sources was.

        Raises:
            ValueError: it is of other sources.
        """
        if tuple(state["sources"]) != self.sources:
            raise ValueError(f"a state of {', '.join(state['sources'])}, not of {', '.join(self.sources)}")
        self._logits, self._lead = dict(state["logits"]), dict(state["lead"])
        self._owed, self.updates = dict(state["owed"]), state["updates"]

    def _leads(self, figures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        scores = {name: self._compared(values) for name, values in sorted(figures.items())}
        return {
            source: math.fsum(self.objectives[name] * z[source] for name, z in scores.items())
            for source in self.sources
        }

    def _compared(self, values: Mapping[str, float]) -> dict[str, float]:
        """z-scores across the sources that have a value; 0 for the others."""
        known = {source: value for source, value in values.items() if math.isfinite(value)}
        lead = dict.fromkeys(self.sources, 0.0)
        if len(known) < 2:
            return lead
        finite = list(known.values())
        middle, spread = fmean(finite), pstdev(finite)
        if spread > FLAT * max(map(abs, finite)):
            for source, value in known.items():
                lead[source] = min(max((value - middle) / spread, -MOST_DEVIATIONS), MOST_DEVIATIONS)
        return lead

    def _known(self, figures: Mapping[str, Mapping[str, float]]) -> None:
        for name, values in figures.items():
            if name not in self.objectives:
                raise ValueError(f"no objective {name!r}: there are {', '.join(self.objectives)}")
            if strange := [source for source in values if source not in self.sources]:
                raise ValueError(
                    f"{name}: no source {', '.join(strange)}; there are {', '.join(self.sources)}"
                )
