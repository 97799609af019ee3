"""Maps between prompts and pictures for two rewards: PISCES's optimal transport and D2-Align's bias vector.

PISCES (arXiv:2602.01624) is for rewards without annotation: `learn_transport` fits a map from text embeddings
to where real pictures lie; closeness to it is the reward `pisces`. Its second level, which steers the
attention of a network that reads text and clip together, is not here.

D2-Align (arXiv:2512.24146) finds the direction in text space that a reward model likes whatever the prompt,
and takes it out of the reward before tuning on it. Stage 1, `learn_bias`, learns one vector with the
generator frozen: what raises the reward without any better picture is the model's bias. Stage 2 tunes the
generator, by any method, on the reward with that vector fixed, `d2_align`.

Plain tensors in, tensors out; `fit` feeds them.
"""

from collections.abc import Callable

import torch

from ..models.maps import Transport, mlp, shifted

Draw = Callable[[int], torch.Tensor]
"""A batch size -> that many embeddings (n, D)."""


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
