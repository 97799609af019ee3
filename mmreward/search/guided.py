"""Noise-level reward guidance: a generator whose velocity leans up the gradient of a differentiable reward.

Source: Flow-NRG of VideoAlign (Liu et al. 2025, arXiv:2501.13918). Adding w grad r to the score of the
marginal at noise level s changes the velocity by -w s / (1 - s) grad r.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch

from ..generator import Conditioning, Generator
from ..media import Media
from ..tune.backprop_steps import PixelReward, rowwise

PROMPT = "nrg_prompt"
"""Key of a conditioning for the number of each row's prompt; taken out before the generator sees it."""


class PixelTerm(NamedTuple):
    """A reward of decoded x0_hat: float pixels (N, 3, H, W) in [0, 1] and N prompts to (N,), such as
    `Reward.score_tensor`."""

    reward: PixelReward
    weight: float = 1.0


class LatentTerm(NamedTuple):
    """A reward trained on noisy latents: latents (N, ...), noise levels (N,) and N prompts to (N,)."""

    reward: Callable[[torch.Tensor, torch.Tensor, Sequence[str]], torch.Tensor]
    weight: float = 1.0


class RewardGuided:
    """A `Generator` guided by rewards; everything that samples from a generator samples from it.

    The velocity is v - s / (1 - s) * sum_k w_k grad r_k, the gradient taken with respect to the noisy
    latents: through decoder, x0_hat and network for a `PixelTerm`. With r(x_s, s) = ln E[exp(l r(x0)) | x_s]
    it is the exact velocity of the tilted distribution. A row whose reward or gradient is not finite goes on
    unguided, and is counted in `unguided`.

    `encode` notes each row's prompt, so conditionings must come from this object. Each guided
    velocity costs a backward pass through what the reward sees, about two forwards more per forward.
    Gradients to parameters flow through v, not through the guidance.

    Args:
        generator: any family.
        terms: rewards and weights; weights may be negative.
        highest: noise level above which s / (1 - s) is not trusted, in (0, 1).
        above: treatment of those levels: "clamp" takes s / (1 - s) at `highest`, "skip" does not guide.

    Raises:
        ValueError: no terms, or an argument out of its range.
    """

    def __init__(
        self,
        generator: Generator,
        terms: Sequence[PixelTerm | LatentTerm],
        *,
        highest: float = 0.9,
        above: Literal["clamp", "skip"] = "clamp",
    ) -> None:
        if not terms:
            raise ValueError("there is no reward to be guided by: give at least one term")
        if not 0 < highest < 1:
            raise ValueError(f"highest is a noise level between 0 and 1, not {highest}")
        if above not in ("clamp", "skip"):
            raise ValueError(f"above is clamp or skip, not {above!r}")
        self.generator, self.terms, self.highest, self.above = generator, tuple(terms), highest, above
        self.unguided = 0
        """Rows whose guidance was not finite, over all calls."""
        self._numbers: dict[str, int] = {}

    @property
    def network(self) -> torch.nn.Module:
        return self.generator.network

    @property
    def lora_targets(self) -> tuple[str, ...]:
        return self.generator.lora_targets

    @property
    def steps(self) -> int:
        return self.generator.steps

    @property
    def guidance(self) -> float:
        return self.generator.guidance

    @property
    def fps(self) -> float | None:
        return self.generator.fps

    @property
    def device(self) -> torch.device:
        return self.generator.device

    @property
    def dtype(self) -> torch.dtype:
        return self.generator.dtype

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return self.generator.parts

    def at(self, height: int, width: int) -> "RewardGuided":
        """The same guidance of the generator at another size; it counts its own `unguided`."""
        other = self.generator.at(height, width)
        return RewardGuided(other, self.terms, highest=self.highest, above=self.above)

    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """As the generator's, with the number of each row's prompt beside it."""
        plain = self.generator.encode(prompts, inputs)
        numbers = [self._numbers.setdefault(prompt, len(self._numbers)) for prompt in prompts]
        rows = torch.tensor(numbers, device=self.generator.device)
        return Conditioning({**plain.given, PROMPT: rows}, plain.blank)

    def noise(self, seeds: Sequence[int], steps: int | None = None) -> torch.Tensor:
        return self.generator.noise(seeds, steps)

    def sigmas(self, steps: int) -> torch.Tensor:
        return self.generator.sigmas(steps)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.generator.decode(latents)

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.generator.to_latents(pixels)

    def velocity(
        self,
        latents: torch.Tensor,
        sigma: torch.Tensor | float,
        conditioning: Conditioning,
        guidance: float = 1.0,
    ) -> torch.Tensor:
        """The guided velocity.

        Raises:
            ValueError: a conditioning that another generator made.
        """
        plain, prompts = self._separated(conditioning)
        levels = torch.as_tensor(sigma, dtype=torch.float32, device=latents.device).expand(len(latents))
        factors = self._factors(levels)
        if not factors.any():
            return self.generator.velocity(latents, sigma, plain, guidance)
        outer = torch.is_grad_enabled()
        with torch.enable_grad():
            x = latents if outer and latents.requires_grad else latents.detach().requires_grad_()
            v = self.generator.velocity(x, sigma, plain, guidance)
            rewards = self._rewards(x, v, levels, prompts)
            (gradient,) = torch.autograd.grad(rewards.sum(), x, retain_graph=outer)
        kept = self._finite(rewards, gradient)
        shift = torch.where(rowwise(kept, x), rowwise(factors, x) * gradient, 0.0)
        return (v if outer else v.detach()) - shift

    def _separated(self, conditioning: Conditioning) -> tuple[Conditioning, list[str]]:
        """The generator's own conditioning, and the prompts of its rows."""
        given = dict(conditioning.given)
        if PROMPT not in given:
            raise ValueError("this conditioning does not name its prompts: make it with RewardGuided.encode")
        texts = list(self._numbers)
        prompts = [texts[number] for number in given.pop(PROMPT).tolist()]
        return Conditioning(given, conditioning.blank), prompts

    def _factors(self, levels: torch.Tensor) -> torch.Tensor:
        """s / (1 - s), (N,), bounded above the highest level."""
        bounded = levels.clamp(max=self.highest)
        factors = bounded / (1 - bounded)
        return factors if self.above == "clamp" else torch.where(levels > self.highest, 0.0, factors)

    def _rewards(
        self, x: torch.Tensor, v: torch.Tensor, levels: torch.Tensor, prompts: Sequence[str]
    ) -> torch.Tensor:
        """Weighted sum of the rewards, (N,)."""
        total = torch.zeros(len(x), device=x.device)
        pixels: torch.Tensor | None = None
        for term in self.terms:
            if isinstance(term, LatentTerm):
                total = total + term.weight * term.reward(x, levels, prompts)
                continue
            if pixels is None:
                pixels = self.generator.decode(x - rowwise(levels, x) * v)
            total = total + term.weight * term.reward(pixels, prompts)
        return total

    def _finite(self, rewards: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Rows whose reward and gradient are finite; the others are counted."""
        kept = rewards.detach().isfinite() & gradient.flatten(1).isfinite().all(dim=1)
        self.unguided += int((~kept).sum())
        return kept
