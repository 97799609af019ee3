"""One round of training on preference pairs that are there already: Diffusion-DPO, Flow-DPO, IPO, hinge, RPO.

Nothing is drawn and nothing is scored between two evaluations. The two pictures of a pair are noised alike,
and their denoising errors are compared with those of the frozen reference.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate.utils import gather_object

from ..data.pair_folder import PreferencePair
from ..generator import Conditioning
from ..sampling import encoded
from .config import AdvantageConfig, PreferenceConfig, RolloutConfig, TuneConfig
from .data import KnownLatents, Row, draw_rows, seed_of, share_out
from .forward_process import time_sampler
from .journal import Timeline
from .learner import Learner
from .losses import denoising_error, dpo, hinge, ipo, rpo, velocity_mse
from .losses.preference import margin
from .online import Metrics, averaged

BETAS = {"diffusion_dpo": 2500.0, "flow_rpo": 1.0}
BETA = 100.0
"""Of the other methods."""


@dataclass(frozen=True)
class Batch:
    """P pairs: their rows in the round, latents (2 P, ...) and conditioning, the chosen ones first; and
    `preferred` (P,) in [0, 1], the probability that the chosen one is better."""

    rows: Sequence[Row]
    latents: torch.Tensor
    conditioning: Conditioning
    preferred: torch.Tensor


class Offline:
    """Rounds on preference pairs; a round is one optimiser step on `method.batch` of them.

    All pairs are gone through in a new order each time around; those that no longer fill a batch wait for
    the next.

    Args:
        config: of the run.
        method: the loss and its constants.
        learner: weights and optimiser.
        pairs: of the training data.
        timeline: notes when what was under way.

    Raises:
        ValueError: fewer pairs than a batch, a batch that does not divide evenly, or settings of `rollout` or
            `advantages`, which have no meaning here.
    """

    def __init__(
        self,
        config: TuneConfig,
        method: PreferenceConfig,
        learner: Learner,
        pairs: Sequence[PreferencePair],
        timeline: Timeline,
    ) -> None:
        self._config, self._method, self._learner = config, method, learner
        self._pairs, self._timeline = pairs, timeline
        self._known = KnownLatents(learner.generator, method.cache_bytes)
        self._beta = BETAS.get(method.name, BETA) if method.beta is None else method.beta
        self._space = method.space or ("epsilon" if method.name == "diffusion_dpo" else "velocity")
        self._sampler = time_sampler(method.times, learner.generator.sigmas(learner.generator.steps))
        _check_unused(config)
        check_batches(method, len(pairs), learner.accelerator.num_processes)

    def round(self, number: int) -> Metrics:
        """One optimiser step. Returns what the round's line in the journal says."""
        begun = time.perf_counter()
        levels = self._levels(number)
        collected: list[Metrics] = []
        for rows in self._share(number):
            batch = self._encoded(rows)
            collected += [self._learn(batch, number, term, sigma) for term, sigma in enumerate(levels)]
        metrics = self._over_processes(averaged(collected))
        metrics["grad_norm"] = self._learner.step()
        self._timeline.add("update", begun, time.perf_counter())
        return metrics

    def _share(self, number: int) -> list[list[Row]]:
        """This process's micro-batches; `Row.prompt` is the number of the pair."""
        method, accelerator = self._method, self._learner.accelerator
        rows = draw_rows(
            len(self._pairs), prompts=method.batch, group=1, round=number, seed=self._config.seed
        )
        (batches,) = share_out(
            rows,
            micro_batch=method.micro_batch,
            updates=1,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )
        return batches

    def _levels(self, number: int) -> torch.Tensor:
        """Noise levels of the whole round, (times, batch): the same in every process."""
        draws = torch.Generator().manual_seed(seed_of(self._config.seed, "times", number))
        times = range(self._method.times.number)
        return torch.stack([self._sampler.sample(self._method.batch, draws) for _ in times])

    def _encoded(self, rows: Sequence[Row]) -> Batch:
        pairs = [self._pairs[row.prompt] for row in rows]
        with self._learner.autocast():
            conditioning = encoded(self._learner.generator, pairs)
        latents = self._known.of([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs])
        margins = torch.tensor([score_margin(pair) for pair in pairs], device=latents.device)
        preferred = torch.sigmoid(margins / self._method.temperature)
        return Batch(rows, latents, Conditioning.join([conditioning, conditioning]), preferred)

    def _learn(self, batch: Batch, number: int, term: int, levels: torch.Tensor) -> Metrics:
        """Back-propagate one micro-batch at one noise level per pair."""
        method, x0 = self._method, batch.latents
        noise = torch.stack([self._noise(row, number, term, x0) for row in batch.rows] * 2).to(x0.device)
        sigma = levels[[row.index for row in batch.rows]].repeat(2).to(x0.device)
        level = sigma.view(-1, *(1,) * (x0.ndim - 1))
        x, target = (1 - level) * x0 + level * noise, noise - x0
        generator = self._learner.generator
        with self._learner.autocast():
            with torch.no_grad(), self._learner.weights.reference():
                first = generator.velocity(x, sigma, batch.conditioning, method.guidance)
            v = generator.velocity(x, sigma, batch.conditioning, method.guidance)
        d_w, d_l = denoising_error(v, target, sigma, self._space).chunk(2)
        ref_w, ref_l = denoising_error(first, target, sigma, self._space).chunk(2)
        loss = self._loss(d_w, ref_w, d_l, ref_l, batch.preferred)
        total = loss + method.sft * d_w if method.sft else loss
        torch.autograd.backward(total.sum() / (method.batch * method.times.number))
        z = margin(d_w, ref_w, d_l, ref_l).detach()
        return {
            "preference/loss": float(loss.detach().mean()),
            "preference/accuracy": float(((z > 0) + 0.5 * (z == 0)).mean()),
            "preference/margin": float(z.mean()),
            "chosen_error": float(d_w.detach().mean()),
            "rejected_error": float(d_l.detach().mean()),
            "deviation": float(velocity_mse(v.detach(), first).mean()),
        }

    def _noise(self, row: Row, number: int, term: int, x0: torch.Tensor) -> torch.Tensor:
        seed = seed_of(self._config.seed, "noise", number, row.index, term)
        return torch.randn(x0.shape[1:], generator=torch.Generator().manual_seed(seed))

    def _loss(
        self,
        d_w: torch.Tensor,
        ref_w: torch.Tensor,
        d_l: torch.Tensor,
        ref_l: torch.Tensor,
        preferred: torch.Tensor,
    ) -> torch.Tensor:
        errors = (d_w, ref_w, d_l, ref_l)
        match self._method.name:
            case "diffusion_dpo":
                return dpo(*errors, self._beta, half=False)
            case "flow_dpo":
                return dpo(*errors, self._beta)
            case "ipo":
                return ipo(*errors, self._beta)
            case "hinge":
                return hinge(*errors, self._beta)
            case "flow_rpo":
                return rpo(*errors, preferred, self._beta)

    def _over_processes(self, own: Metrics) -> Metrics:
        if self._learner.accelerator.num_processes == 1:
            return own
        return averaged(gather_object([own]))


def score_margin(pair: PreferencePair) -> float:
    """chosen_score - rejected_score of a pair; infinite where it has no such columns: the preference is
    certain."""
    scores = [pair.facts.get(name) for name in ("chosen_score", "rejected_score")]
    chosen, rejected = (float(score) if isinstance(score, int | float) else math.nan for score in scores)
    return chosen - rejected if math.isfinite(chosen - rejected) else math.inf


def check_batches(method: PreferenceConfig, pairs: int, world: int) -> None:
    """Raise ValueError where `pairs` pairs and `world` processes do not go with the batches."""
    if method.batch > pairs:
        raise ValueError(f"a batch has {method.batch} pairs and the data {pairs}: lower method.batch")
    if method.batch % (method.micro_batch * world):
        raise ValueError(
            f"method.batch is {method.batch}; it must be a multiple of method.micro_batch "
            f"({method.micro_batch}) x processes ({world})"
        )


def _check_unused(config: TuneConfig) -> None:
    defaults = {"rollout": RolloutConfig(), "advantages": AdvantageConfig()}
    unused = [name for name, default in defaults.items() if getattr(config, name) != default]
    if unused:
        raise ValueError(
            f"{config.method.name} draws no samples, so {' and '.join(unused)} would say nothing: leave it "
            "out; what evaluations draw with is under evaluation"
        )
