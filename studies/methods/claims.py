"""What the papers claim, each as a comparison of two arms of the study."""

from dataclasses import dataclass

from studies.methods.plan import METHODS


@dataclass(frozen=True)
class Claim:
    """One arm is said to do better than another."""

    paper: str
    said: str  # what the paper says, in our words
    arm: str
    other: str

    @property
    def is_of_methods(self) -> bool:
        """Whether it compares two methods, not two variants of one."""
        return self.arm in METHODS and self.other in METHODS


CLAIMS = (
    Claim("PASTA", "close to full fine-tuning", "pasta", "full"),
    Claim("PASTA", "better than BitFit with fewer parameters", "pasta", "bitfit"),
    Claim("PASTA", "better than P-tuning v2", "pasta", "ptuning"),
    Claim("PASTA", "worse without [CLS]", "pasta", "pasta-no-cls"),
    Claim("PASTA", "worse without [SEP]", "pasta", "pasta-no-sep"),
    Claim("PASTA", "worse with one vector for all special tokens", "pasta", "pasta-shared"),
    Claim("STP (reconstruction)", "as good as PASTA with fewer parameters", "stp", "pasta"),
    Claim("STP (reconstruction)", "better than random layers of the same number", "stp", "stp-random"),
    Claim("SPT", "better than P-tuning v2", "spt", "ptuning"),
    Claim("SPT", "worse without the selective loss", "spt", "spt-no-diversity"),
    Claim("GPC (reconstruction)", "better than prompt tuning", "gpc", "prompt"),
    Claim("GPC (reconstruction)", "the plain cell against one with tanh", "gpc", "gpc-tanh"),
    Claim("GPC (reconstruction)", "the plain cell against a convex gate", "gpc", "gpc-gate"),
    Claim("GPC (reconstruction)", "memory of the last output against the first", "gpc", "gpc-initial"),
    Claim("GPC (reconstruction)", "one cell against one for each layer", "gpc", "gpc-per-layer"),
    Claim("APT (partly a reconstruction)", "better than P-tuning v2", "apt", "ptuning"),
    Claim("APT (partly a reconstruction)", "worse without the token gate", "apt", "apt-no-token-gate"),
    Claim("APT (partly a reconstruction)", "worse without the layer scale", "apt", "apt-no-layer-scale"),
)
