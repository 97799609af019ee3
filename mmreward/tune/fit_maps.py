"""Maps between prompts and pictures for two rewards: PISCES's optimal transport and D2-Align's bias vector.

PISCES (arXiv:2602.01624), for rewards without annotation, has two levels. `learn_transport` fits a map from
text embeddings to where real pictures lie; closeness to it is the reward `pisces`. `partial_plan` matches the
words of one prompt with the places of one picture or clip, where some words and places have no partner.

D2-Align (arXiv:2512.24146) finds the direction in text space that a reward model likes whatever the prompt,
and takes it out of the reward before tuning on it. Stage 1, `learn_bias`, learns one vector with the
generator frozen: what raises the reward without any better picture is the model's bias. Stage 2 tunes the
generator, by any method, on the reward with that vector fixed, `d2_align`.

Plain tensors in, tensors out; `fit` feeds them.
"""

import math
from collections.abc import Callable

import torch
from torch.nn import functional as F

from ..models.maps import Transport, mlp, shifted

Draw = Callable[[int], torch.Tensor]
"""A batch size -> that many embeddings (n, D)."""


# --- PISCES, token by token ---------------------------------------------------------------------------------


def partial_plan(
    cost: torch.Tensor, *, mass: float = 0.9, epsilon: float = 0.05, iterations: int = 200
) -> torch.Tensor:
    """Entropic partial transport: which share of each row goes to each column, at least cost.

    Minimises <P, cost> - epsilon * entropy(P) over P >= 0 with row sums at most 1/n, column sums at most 1/m
    and a total of `mass`, by exact updates of one dual variable at a time (Benamou et al., arXiv:1412.5154),
    in logarithms, so that a small epsilon is safe. Differentiable.

    Args:
        cost: (..., n, m).
        mass: share that is matched, in (0, 1]; the paper takes 0.9.
        epsilon: in units of the cost; the smaller, the sharper the plan and the more iterations it takes.
        iterations: of all three updates. The total is exact after any number, the sums in the limit.

    Raises:
        ValueError: `mass`, `epsilon` or `iterations` out of range.
    """
    if not 0 < mass <= 1 or epsilon <= 0 or iterations < 1:
        raise ValueError(
            f"mass {mass} must be in (0, 1], epsilon {epsilon} above 0, iterations {iterations} at least 1"
        )
    n, m = cost.shape[-2:]
    kernel = -cost.float() / epsilon
    rows, columns = (kernel.new_zeros(*cost.shape[:-2], *shape) for shape in ((n, 1), (1, m)))
    total = kernel.new_zeros(*cost.shape[:-2], 1, 1)
    for _ in range(iterations):
        rows = (-math.log(n) - (kernel + columns + total).logsumexp(-1, keepdim=True)).clamp(max=0)
        columns = (-math.log(m) - (kernel + rows + total).logsumexp(-2, keepdim=True)).clamp(max=0)
        total = math.log(mass) - (kernel + rows + columns).logsumexp((-2, -1), keepdim=True)
    return (kernel + rows + columns + total).exp()


def token_cost(
    words: torch.Tensor,
    places: torch.Tensor,
    *,
    times: tuple[torch.Tensor, torch.Tensor] | None = None,
    points: tuple[torch.Tensor, torch.Tensor] | None = None,
    temporal: float = 0.2,
    spatial: float = 0.2,
) -> torch.Tensor:
    """1 - cosine, plus how far a word is expected from a place in time (|dt|) and in the picture (|dp|^2).

    Args:
        words: (..., n, D) embeddings.
        places: (..., m, D) embeddings of patches.
        times: expected time of each word (..., n) and time of each place (..., m), in [0, 1].
        points: the same in the picture, (..., n, 2) and (..., m, 2).
        temporal, spatial: weights of the two; the paper does not give its own.

    Returns:
        (..., n, m).
    """
    cost = 1 - F.normalize(words, dim=-1) @ F.normalize(places, dim=-1).mT
    if times is not None:
        cost = cost + temporal * (times[0].unsqueeze(-1) - times[1].unsqueeze(-2)).abs()
    if points is not None:
        cost = cost + spatial * (points[0].unsqueeze(-2) - points[1].unsqueeze(-3)).square().sum(-1)
    return cost


def fused(attention: torch.Tensor, plan: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Cross-attention (..., n, m) steered by a plan: rows proportional to (attention + eps) (plan + eps)."""
    return ((attention + eps).log() + (plan + eps).log()).softmax(-1)


# --- PISCES, as a whole -------------------------------------------------------------------------------------


def learn_transport(
    texts: Draw,
    images: Draw,
    *,
    hidden: int = 256,
    steps: int = 1000,
    inner: int = 5,
    batch: int = 128,
    lr: float = 1e-3,
    seed: int = 0,
) -> Transport:
    """Neural optimal transport for the cost |y - x|^2 / 2 (arXiv:2201.12220).

    max over potentials f of min over maps T of E[|y - T(y)|^2 / 2 - f(T(y))] + E[f(x)]: the map carries the
    texts to where pictures are as gently as it can, without pairs of a picture and a text.

    Args:
        texts, images: draw embeddings of one width; the two need not belong together.
        hidden: width of both networks.
        steps: updates of the potential.
        inner: updates of the map before each of them.
        batch: embeddings drawn for an update.
        lr: of both Adams.
        seed: of the weights; the draws have their own.

    Raises:
        ValueError: the two have different widths.
    """
    width, other = texts(1).shape[-1], images(1).shape[-1]
    if width != other:
        raise ValueError(f"texts are {width} wide and images {other}: project them into one space first")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transport, potential = Transport(width, hidden), mlp(width, hidden, 1)
    transport.to(texts(1).device)
    potential.to(texts(1).device)
    slow = torch.optim.Adam(potential.parameters(), lr=lr, betas=(0.5, 0.9))
    fast = torch.optim.Adam(transport.parameters(), lr=lr, betas=(0.5, 0.9))
    for _ in range(steps):
        for _ in range(inner):
            given = texts(batch)
            moved = transport(given)
            effort = (given - moved).square().sum(-1, keepdim=True) / 2
            _descend(fast, (effort - potential(moved)).mean())
        with torch.no_grad():
            moved = transport(texts(batch))
        _descend(slow, (potential(moved) - potential(images(batch))).mean())
    return transport.requires_grad_(False)


def _descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    optimiser.step()


# --- D2-Align -----------------------------------------------------------------------------------------------


def learn_bias(
    images: torch.Tensor,
    texts: torch.Tensor,
    *,
    weight: float = 1.5,
    radius: float = 0.5,
    steps: int = 2000,
    batch: int = 64,
    lr: float = 1e-2,
    seed: int = 0,
) -> torch.Tensor:
    """Stage 1: the vector (D,) that raises the mean reward of a frozen generator's pictures the most.

    Args:
        images: (N, D) unit embeddings of samples of the untuned generator.
        texts: (N, D) unit embeddings of their prompts.
        weight: as for `shifted`.
        radius: longest vector allowed; without a limit it outgrows the prompt. Our own: the paper's
            regulariser is not known here.
        steps, batch, lr: of Adam; 2000 steps are the paper's.
        seed: of the batches.

    Raises:
        ValueError: shapes that disagree, or a radius outside (0, 1): at 1, e- may be nothing.
    """
    if images.shape != texts.shape or images.ndim != 2 or not len(images):
        raise ValueError(
            f"images and texts are row by row (N, D), not {tuple(images.shape)} and {tuple(texts.shape)}"
        )
    if not 0 < radius < 1:
        raise ValueError(f"radius must be between 0 and 1, not {radius}")
    source = torch.Generator().manual_seed(seed)
    images, texts = images.detach().float(), texts.detach().float()
    bias = torch.zeros(texts.shape[1], device=texts.device, requires_grad=True)
    adam = torch.optim.Adam([bias], lr=lr)
    for _ in range(steps):
        rows = torch.randint(len(texts), (batch,), generator=source).to(texts.device)
        loss = -(images[rows] * shifted(texts[rows], bias, weight)).sum(-1).mean()
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        with torch.no_grad():
            bias.mul_(radius / bias.norm().clamp(min=radius))
    return bias.detach()
