"""A round of training through the gradient of a reward: ReFL, DRaFT-K and -LV, AlignProp, direct alignment
(SRPO), Ctrl-U.

Chooses the method of `backprop`, hands it conditioning and seeds, adds the KL penalty and steps the
optimiser.
"""

import time
from collections.abc import Mapping, Sequence

import torch
from accelerate.utils import gather_object

from ..generator import Conditioning
from ..registry import Reward
from ..sampling import encoded, solve
from ..types import Sample
from .backprop import align_prop, ctrl_u, direct_align, draft, draft_lv, refl, relative
from .backprop_steps import Outcome, PixelReward
from .config import GradientConfig, TuneConfig
from .data import KnownLatents, Row, draw_rows, seed_of, share_out
from .grading import TooManyFailuresError
from .journal import Timeline
from .learner import Learner
from .losses import velocity_mse
from .online import Metrics, averaged


class Gradient:
    """Rounds of back-propagation; a round is one optimiser step on rollout.prompts x rollout.group samples.

    Args:
        config: of the run.
        method: which way, with its constants.
        learner: weights and optimiser.
        rewards: differentiable ones; their weighted sum is what rises.
        prompts: of the training data.
        timeline: notes when what was under way.

    Raises:
        ValueError: a reward that is not differentiable, a round that does not divide evenly, or ctrl_u on
            data without pictures.
    """

    def __init__(
        self,
        config: TuneConfig,
        method: GradientConfig,
        learner: Learner,
        rewards: Mapping[str, Reward],
        prompts: Sequence[Sample],
        timeline: Timeline,
    ) -> None:
        self._config, self._method, self._learner = config, method, learner
        self._prompts, self._timeline = prompts, timeline
        blunt = [name for name, reward in rewards.items() if reward.tensor_fn is None]
        if blunt:
            raise ValueError(
                f"{method.name} needs differentiable rewards, and {', '.join(blunt)} is none; "
                "`mmreward list` shows which are"
            )
        if method.name == "ctrl_u":
            if bare := [sample.id for sample in prompts if sample.shown is None]:
                raise ValueError(
                    f"ctrl_u noises real pictures, and {len(bare)} rows of prompts.data have none, first "
                    f"{bare[0]!r}: give a folder of pictures with prompts"
                )
            self._known = KnownLatents(learner.generator, method.cache_bytes)
        self._rewards = rewards
        self._shares(0)

    def round(self, number: int) -> Metrics:
        """One optimiser step. Returns what the round's line in the journal says."""
        begun = time.perf_counter()
        batches = self._shares(number)[0]
        outcomes = [self._learn(rows, number) for rows in batches]
        rewards = torch.cat([outcome.rewards for outcome in outcomes])
        failed, total = self._counts(rewards)
        if failed > self._config.failures.budget * total:
            raise TooManyFailuresError(f"{failed} of {total} samples have no reward (it is not a number)")
        metrics = averaged([dict(outcome.metrics) for outcome in outcomes])
        metrics["reward/total"] = float(rewards.nanmean())
        metrics["scores/ok"], metrics["scores/error"] = float(total - failed), float(failed)
        metrics["grad_norm"] = self._learner.step()
        self._timeline.add("update", begun, time.perf_counter())
        return metrics

    def _learn(self, rows: Sequence[Row], number: int) -> Outcome:
        """Back-propagate one micro-batch."""
        with self._learner.autocast():
            outcome = self._outcome(rows, number)
            loss = torch.where(outcome.rewards.isnan(), torch.zeros_like(outcome.loss), outcome.loss)
            if self._method.kl:
                loss = loss + self._method.kl * self._divergence(outcome)
        rollout = self._config.rollout
        torch.autograd.backward(loss.sum() / (rollout.prompts * rollout.group))
        return outcome

    def _outcome(self, rows: Sequence[Row], number: int) -> Outcome:
        method, generator, rollout = self._method, self._learner.generator, self._config.rollout
        samples = [self._prompts[row.prompt] for row in rows]
        prompts = [sample.prompt for sample in samples]
        conditioning: Conditioning = encoded(generator, samples)
        start = generator.noise([row.start for row in rows], rollout.steps)
        sigmas = generator.sigmas(rollout.steps)
        guidance = generator.guidance if rollout.guidance is None else rollout.guidance
        seeds = [seed_of(self._config.seed, method.name, number, row.index) for row in rows]
        low, high = method.range or (None, None)
        given = (generator, conditioning, start, sigmas, self._total, prompts)
        match method.name:
            case "draft":
                return draft(*given, last=method.last, guidance=guidance, recompute=method.checkpointing)
            case "draft_lv":
                return draft_lv(*given, seeds=seeds, copies=method.copies, guidance=guidance)
            case "align_prop":
                return align_prop(
                    *given,
                    seed=seed_of(self._config.seed, "truncation", number),
                    low=low or 1,
                    high=high,
                    guidance=guidance,
                    recompute=method.checkpointing,
                )
            case "refl":
                return refl(
                    *given,
                    seed=seed_of(self._config.seed, "truncation", number),
                    low=low,
                    high=high,
                    margin=method.margin,
                    scale=1.0,  # Adam does not mind the scale, and the gradient's clip should
                    guidance=guidance,
                    recompute=method.checkpointing,
                )
            case "ctrl_u":
                return ctrl_u(
                    generator,
                    conditioning,
                    self._known.of([sample.shown for sample in samples if sample.shown is not None]),
                    self._total,
                    prompts,
                    seeds=seeds,
                    highest=method.highest,
                    gap=method.gap,
                    guidance=guidance,
                    recompute=method.checkpointing,
                )
            case "srpo":
                with torch.no_grad():
                    clean = solve(generator, start, conditioning, sigmas, guidance)
                return direct_align(
                    generator,
                    conditioning,
                    clean,
                    relative(self._total, method.positive, method.negative),
                    prompts,
                    seeds=seeds,
                    guidance=guidance,
                    recompute=method.checkpointing,
                )

    @property
    def _total(self) -> PixelReward:
        def total(pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
            terms = [
                self._config.weights[name] * reward.score_tensor(pixels, prompts)
                for name, reward in self._rewards.items()
            ]
            return torch.stack(terms).sum(0)

        return total

    def _divergence(self, outcome: Outcome) -> torch.Tensor:
        """Mean over the visited levels of the squared distance to the reference's velocity, (N,)."""
        generator = self._learner.generator
        guidance = self._config.rollout.guidance
        scale = generator.guidance if guidance is None else guidance
        parts = []
        for visit in outcome.visits:
            with torch.no_grad(), self._learner.weights.reference():
                first = generator.velocity(visit.latents, visit.sigma, visit.conditioning, scale)
            parts.append(velocity_mse(visit.velocity, first))
        return torch.stack(parts).mean(0)

    def _shares(self, number: int) -> list[list[list[Row]]]:
        rollout, accelerator = self._config.rollout, self._learner.accelerator
        rows = draw_rows(
            len(self._prompts),
            prompts=rollout.prompts,
            group=rollout.group,
            round=number,
            seed=self._config.seed,
        )
        return share_out(
            rows,
            micro_batch=rollout.micro_batch,
            updates=1,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )

    def _counts(self, rewards: torch.Tensor) -> tuple[int, int]:
        """(failed, all) over every process."""
        own = (int(rewards.isnan().sum()), len(rewards))
        if self._learner.accelerator.num_processes == 1:
            return own
        failed, total = zip(*gather_object([own]), strict=True)
        return sum(failed), sum(total)
