"""Linear probe: a head on the frozen encoder and nothing else, the floor that every method is
compared with.
"""

from dataclasses import dataclass

from softcue.options import Options
from softcue.protocol import Cue, Dims


@dataclass(frozen=True)
class ProbeConfig(Options):
    """A probe has no options."""


class Probe(Cue, method="probe", config=ProbeConfig):
    """No numbers of its own."""

    @classmethod
    def count(cls, dims: Dims, config: ProbeConfig) -> int:
        """Count nothing: the head is all that learns."""
        return 0
