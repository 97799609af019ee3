"""Row arithmetic of the losses: means over everything but the rows, one number per row, sums over groups."""

import torch

Rowwise = torch.Tensor | float
"""One number for all rows, or (N,)."""


def row_mean(tensor: torch.Tensor) -> torch.Tensor:
    """(N, ...) to its mean over all dimensions but the first, (N,) float32."""
    return tensor.float().reshape(len(tensor), -1).mean(1)


def per_row(value: Rowwise, like: torch.Tensor, name: str) -> torch.Tensor:
    """`value` as float32 (N,), N being the rows of `like`.

    Raises:
        ValueError: neither one number nor one per row.
    """
    tensor = torch.as_tensor(value, dtype=torch.float32, device=like.device).reshape(-1)
    if len(tensor) not in (1, len(like)):
        raise ValueError(f"{name} has {len(tensor)} numbers for {len(like)} rows; give one, or one per row")
    return tensor.expand(len(like))


def positive(value: Rowwise, like: torch.Tensor, name: str, reason: str) -> torch.Tensor:
    """As `per_row`, and above 0.

    Raises:
        ValueError: a number that is not; `reason` says why it must be.
    """
    tensor = per_row(value, like, name)
    if not bool((tensor > 0).all()):
        raise ValueError(f"{name} is {float(tensor.min())} in some row; {reason}")
    return tensor


def broadcast(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(N,) to (N, 1, ..., 1), to be multiplied with `like`."""
    return value.reshape(-1, *[1] * (like.ndim - 1))


def check_rows(**tensors: torch.Tensor) -> None:
    """Refuses tensors that would broadcast against each other: (N,) with (N, 1) makes (N, N) without a word.

    Raises:
        ValueError: any that is not (N,), with the same N.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1 or len(next(iter(shapes.values()))) != 1:
        raise ValueError(f"one number per row is needed, (N,) each, not {shapes}")


def check_shapes(**tensors: torch.Tensor) -> None:
    """Raises:
    ValueError: tensors of unequal shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"shapes differ: {shapes}")


def group_index(groups: torch.Tensor) -> torch.Tensor:
    """Integer ids (N,) to 0, 1, ... in the order of the ids.

    Raises:
        ValueError: ids that are not integers.
    """
    if groups.is_floating_point() or groups.is_complex() or groups.ndim != 1:
        raise ValueError(f"groups are {groups.dtype} {tuple(groups.shape)}; give integers, (N,)")
    index: torch.Tensor = torch.unique(groups, return_inverse=True)[1]
    return index


def group_sum(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The sum over its group, for every row, (N,)."""
    number = int(index.max()) + 1 if len(index) else 0
    sums: torch.Tensor = values.new_zeros(number).index_add(0, index, values)
    return sums[index]


def group_softmax(logits: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """softmax within each group, (N,): the weights of a group sum to 1."""
    number = int(index.max()) + 1 if len(index) else 0
    highest = logits.new_full((number,), -torch.inf).scatter_reduce(0, index, logits, "amax")
    weights = (logits - highest[index]).exp()
    return weights / group_sum(weights, index)
