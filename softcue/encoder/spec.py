"""Spec: an encoder's sizes and constants, whatever its family calls them."""

from dataclasses import dataclass

from softcue.protocol import Dims


@dataclass(frozen=True)
class Spec:
    """An encoder's sizes and constants, whatever its family calls them."""

    vocabulary: int
    layers: int
    hidden: int
    heads: int
    ff: int
    embed: int  # width of word vectors
    positions: int  # longest example, reserved rows and shift included
    offset: int = 0  # id of the first absolute position (RoBERTa: pad + 1)
    absolute: bool = True  # whether there is a table of absolute positions
    segments: int = 2  # 0: the family has no segment vectors
    activation: str = "gelu"
    epsilon: float = 1e-12
    dropout: float = 0.1  # of hidden states
    attention_dropout: float = 0.1  # of attention probabilities
    pooler: bool = True  # whether the checkpoint has one
    # the embedding's projection comes before its norm (DeBERTa), not after (ALBERT, ELECTRA)
    norm_last: bool = False

    @property
    def dims(self) -> Dims:
        """What a cue may know."""
        embed_norm = self.hidden if self.norm_last else self.embed
        return Dims(self.layers, self.hidden, self.heads, self.embed, self.ff, self.pooler, embed_norm)
