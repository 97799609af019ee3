"""D2-Align (arXiv:2512.24146): find the direction in text space that a reward model likes whatever the
prompt, and take it out of the reward before tuning on it.

Stage 1 learns one vector with the generator frozen: what raises the reward without any better picture is the
model's bias. Stage 2 tunes the generator, by any method, on the reward with that vector fixed, `d2_align`.
"""

import torch

from ..models.maps import shifted


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
