"""Training settings: the dataclass, and the presets that fill it and a method's config."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from softcue.errors import SettingsError
from softcue.options import Options, setting
from softcue.protocol import Cue

SMALL = 1_000  # training rows below which a preset's table `small` applies


@dataclass(frozen=True)
class Training(Options):
    """How one job is trained: the command line's flags, a recipe's table and the adapter's record."""

    epochs: int = setting(10, least=1, below=100_001)
    batch: int = setting(32, least=1, below=100_001)  # examples (questions, for choice) in a step
    rate: float = setting(3e-3, least=1e-12, below=1e3)  # peak learning rate
    # the head's, as a part of `rate`: vectors in hidden space want more than a matrix
    head_rate: float = setting(1.0, least=0)
    warmup: float = setting(0.06, least=0, below=1)  # share of all steps in which the rate rises
    decay: float = setting(0.0, least=0)  # AdamW's weight decay
    clip: float = setting(1.0, least=0)  # gradient norm per job; 0 does not clip
    schedule: Literal["linear", "exponential", "constant"] = "linear"  # exponential: 0.95 an epoch
    # evaluations without a better one before the job stops; 0 never stops
    patience: int = setting(8, least=0)
    # the step that is kept: the latest at most so many standard errors below the best score
    tolerance: float = setting(0.0, least=0)
    # batches of texts of similar length: about a seventh more texts a second, and a less random order
    group_by_length: bool = False
    # PASTA's and STP's vectors are measured in the size of the rows that they are added to; false: as
    # published
    units: bool = True
    backbone_dropout: bool = True  # the frozen backbone's own dropout while training, as published
    head_dropout: float = setting(0.1, least=0, below=1)  # before the head's linear map, as published

    @property
    def shape(self) -> Any:
        """What jobs that train in one loop have in common; in all else each seat has its own."""
        return self.backbone_dropout, self.head_dropout


TRAINING = frozenset(f.name for f in fields(Training))  # the names of its settings
_BUDGET = frozenset(("examples", "fewest_epochs", "most_epochs"))  # from which a preset makes the epochs


@cache
def _presets() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("softcue").joinpath("presets.toml").read_text(encoding="utf-8"))


def preset(method: str, kind: str, rows: int, overrides: Mapping[str, Any]) -> Training:
    """Return the settings for a method, a kind of data and a number of rows, with the user's own on top.

    Tables of presets.toml from general to special: default, default.small, METHOD, METHOD.KIND,
    METHOD.KIND.small.
    """
    general, of_kind = _presets()["default"], _presets().get(method, {}).get(kind, {})
    of_all, own = (general["small"], of_kind.get("small", {})) if rows < SMALL else ({}, {})
    table = {**general, **of_all, **_table(method, kind), **own}
    epochs = min(table["most_epochs"], max(table["fewest_epochs"], round(table["examples"] / max(1, rows))))
    wrong = sorted(set(overrides) - TRAINING)
    if wrong:
        raise SettingsError(
            f"training settings have no {', '.join(wrong)}; they have {', '.join(sorted(TRAINING))}"
        )
    usual = {"epochs": epochs, **{name: value for name, value in table.items() if name in TRAINING}}
    return replace(Training(**usual), **overrides)


def preset_config(method: str, kind: str) -> dict[str, Any]:
    """Return what the tables METHOD and METHOD.KIND say of the method's own config.

    Nothing of it hangs on the number of rows.
    """
    return {name: value for name, value in _table(method, kind).items() if name not in TRAINING | _BUDGET}


def _table(method: str, kind: str) -> dict[str, Any]:
    own = _presets().get(method, {})
    return {
        name: value
        for level in (own, own.get(kind, {}))
        for name, value in level.items()
        if not isinstance(value, dict)
    }


def own_settings(methods: Mapping[str, type[Cue] | None], given: Iterable[str]) -> dict[str, set[str]]:
    """Return the names of each method's own settings; full fine-tuning (None) has none.

    SettingsError for one that neither they nor training have.
    """
    own = {
        name: set() if method is None else {f.name for f in fields(method.Config)}
        for name, method in methods.items()
    }
    wrong = sorted(set(given) - TRAINING.union(*own.values()))
    if wrong:
        known, training = ", ".join(sorted(set().union(*own.values()))) or "none", ", ".join(sorted(TRAINING))
        raise SettingsError(
            f"none of {', '.join(own)} has a setting {', '.join(wrong)}; their own are {known}, and "
            f"training has {training}"
        )
    return own


def split_settings(
    method: type[Cue] | None, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split settings into those of the method's config and those of Training.

    SettingsError names what belongs to neither.
    """
    own = {f.name for f in fields(method.Config)} if method is not None else set()
    wrong = sorted(set(given) - own - TRAINING)
    if wrong:
        name = method.method if method is not None else "full fine-tuning"
        its, training = ", ".join(sorted(own)) or "none", ", ".join(sorted(TRAINING))
        raise SettingsError(
            f"{name} has no setting {', '.join(wrong)}; its own are {its}, and training has {training}"
        )
    return {k: v for k, v in given.items() if k in own}, {k: v for k, v in given.items() if k not in own}
