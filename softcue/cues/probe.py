"""Linear probe: a head on the frozen encoder and nothing else.

It is the floor that every method is compared with.
"""

from dataclasses import dataclass

from softcue.options import Options
from softcue.protocol import Cue, Dims


@dataclass(frozen=True)
class ProbeConfig(Options):
    """A probe has no options."""


class Probe(Cue, method="probe", config=ProbeConfig):
    """A cue that has no parameters of its own."""

    frozen_outputs = True

    def __init__(self, dims: Dims, config: ProbeConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        self.layers = dims.layers

    def first_touched(self, seat: int) -> int:
        """Return the number of layers: it touches none."""
        return self.layers

    @classmethod
    def count(cls, dims: Dims, config: ProbeConfig) -> int:
        """Return 0."""
        return 0
