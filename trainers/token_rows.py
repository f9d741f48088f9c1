"""Which trajectory of a packed micro-batch each predicted token belongs to."""

from collections.abc import Sequence

import torch


def token_rows(predicted: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Row numbers (N,) int64 of flat positions (N,), for trajectories of these lengths laid end to end.

    >>> token_rows(torch.tensor([1, 2, 3, 6]), (3, 4)).tolist()
    [0, 0, 1, 1]
    """
    ends = torch.as_tensor(lengths, device=predicted.device).cumsum(0)
    return torch.bucketize(predicted, ends, right=True)
