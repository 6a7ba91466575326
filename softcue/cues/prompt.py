"""Prompt tuning: learnt vectors in front of the text, treated by the model as words.

Lester, Al-Rfou and Constant, 2021.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from softcue.options import LONGEST_PREFIX, Options, setting
from softcue.protocol import Context, Cue, Dims
from softcue.rows import copies, set_rows


@dataclass(frozen=True)
class PromptConfig(Options):
    """A re-interpretation for encoders; grades as in docs/methods/prompt.md."""

    length: int = setting(16, least=1, below=LONGEST_PREFIX)  # vectors (code: 100 for T5)
    # words: before position, segment and norm, as published; layer: at the first layer's input
    enter: Literal["words", "layer"] = "words"


class Prompt(Cue, method="prompt", config=PromptConfig):
    """Rows in front of [CLS], written once; positions count from the first prompt row."""

    def __init__(self, dims: Dims, config: PromptConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        self.enter = config.enter
        self.reserve = self.shift = config.length
        width = dims.embed if config.enter == "words" else dims.hidden
        vectors = torch.empty(adapters, config.length, width).normal_(std=0.02)
        self.vectors = nn.Parameter(vectors)  # (A, P, E or D)

    @classmethod
    def count(cls, dims: Dims, config: PromptConfig) -> int:
        """Return P * E, or P * D at the first layer's input."""
        width = dims.embed if config.enter == "words" else dims.hidden
        return config.length * width

    def on_words(self, word: Tensor, ctx: Context) -> Tensor:
        """Write the vectors among the word vectors, if they enter there: (N, E) -> (N, E)."""
        return self.write(word, ctx) if self.enter == "words" else word

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """Write the vectors at the first layer's input, if they enter there: (N, D) -> (N, D)."""
        return self.write(hidden, ctx) if self.enter == "layer" and layer == 0 else hidden

    def write(self, rows: Tensor, ctx: Context) -> Tensor:
        """Write each example's vectors in its reserved rows.

        (N, D) -> (N, D).
        """
        reserved = ctx.batch.reserved[:, : self.reserve]
        return set_rows(rows, reserved, copies(self.vectors, ctx.batch, rows.dtype))
