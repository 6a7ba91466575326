"""What attention adds to a logit for how far apart two rows of an example stand."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from softcue.attention.layout import Bucket, bucket_columns


@dataclass(frozen=True)
class ByDistance:
    """A bias between text rows by head and by the key's position less the query's, of one forward pass."""

    table: Tensor  # (H|1, 2 T - 1) float32, of distances 1 - T to T - 1
    hides: bool = False  # whether it is minus infinity at some distances

    @cached_property
    def square(self) -> Tensor:
        """(1, H|1, T, T) by query and key."""
        most = (self.table.shape[-1] + 1) // 2
        place = torch.arange(most, device=self.table.device)
        return self.table[:, place - place[:, None] + most - 1].unsqueeze(0)

    def __call__(self, query: Tensor, key: Tensor, bucket: Bucket) -> Tensor:
        """Return the bias of a bucket's rows: (b|1, H|1, t, t)."""
        count = query.shape[-2]
        if bucket.pad is None or not self.hides:
            return self.square[..., :count, :count]
        # Padding takes the place of its example's last row: where it stands it may see no row of the text,
        # which is NaN.
        place = bucket.row - bucket.row[:, :1]
        return self.square[0, :, :, :count][:, place].transpose(0, 1)


def distances(longest: int, device: torch.device) -> Tensor:
    """Return the distances that a batch can have, padding included: (2 T - 1,).

    T is the rows of its longest example.
    """
    most = bucket_columns(longest)
    return torch.arange(1 - most, most, device=device)
