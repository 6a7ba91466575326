"""Training settings: the dataclass, and the presets for it and for a method's config."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from softcue.errors import SettingsError
from softcue.kinds import KINDS
from softcue.options import Options, setting
from softcue.protocol import Cue

SMALL = 1_000  # training rows below which a preset's table `small` applies


@dataclass(frozen=True)
class Training(Options):
    """Holds the settings with which one job is trained.

    The command line's --set, a recipe's table and the adapter's header all use these names.
    """

    epochs: int = setting(10, least=1, below=100_001)
    batch: int = setting(32, least=1, below=100_001)  # examples (questions, for choice) in a step
    rate: float = setting(3e-3, least=1e-12, below=1e3)  # peak learning rate
    # the head's learning rate as a share of `rate`: the head's matrix needs a lower rate than a cue's vectors
    head_rate: float = setting(1.0, least=0)
    warmup: float = setting(0.06, least=0, below=1)  # share of all steps in which the rate rises
    decay: float = setting(0.0, least=0)  # AdamW's weight decay
    clip: float = setting(1.0, least=0)  # gradient norm per job; 0 does not clip
    schedule: Literal["linear", "exponential", "constant"] = "linear"  # exponential: 0.95 an epoch
    # the job stops after this many evaluations without a better one; 0: it never stops early
    patience: int = setting(8, least=0)
    # the latest step is kept whose score is at most this many standard errors below the best
    tolerance: float = setting(0.0, least=0)
    # put texts of similar length into a batch: about a seventh more texts a second, in a less random order
    group_by_length: bool = False
    # true: PASTA's and STP's vectors are scaled by the size of the rows that they are added to
    # false: they are not scaled, as published
    units: bool = True
    backbone_dropout: bool = True  # the frozen backbone's own dropout while training, as published
    head_dropout: float = setting(0.1, least=0, below=1)  # before the head's linear map, as published
    # how much an example of a label counts in the loss; "balanced": rows / (labels * rows of the label)
    class_weight: Literal["balanced"] | dict[str, float] | None = None
    # exponent of the focal loss (Lin et al., 2017, use 2): examples that are already right count less
    focal: float = setting(0.0, least=0, below=101)

    @property
    def shape(self) -> Any:
        """The settings that must be equal for jobs to train in one loop; the others may differ by seat."""
        return self.backbone_dropout, self.head_dropout

    def problems(self) -> list[str]:
        """Say which labels have a weight that is not a positive number."""
        own = self.class_weight if isinstance(self.class_weight, dict) else {}
        wrong = [label for label, weight in own.items() if weight <= 0]
        return [f"class_weight of {', '.join(wrong)} is not above 0; expected positive numbers"] * bool(wrong)


TRAINING = frozenset(f.name for f in fields(Training))  # the names of its settings
# the entries of a preset from which its number of epochs is computed
_BUDGET = frozenset(("examples", "fewest_epochs", "most_epochs"))


@cache
def _presets() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("softcue").joinpath("presets.toml").read_text(encoding="utf-8"))


def preset(method: str, kind: str, rows: int, overrides: Mapping[str, Any]) -> Training:
    """Return the settings for a method and data of this kind and size, overridden by the user's own.

    kind: the data's kind. rows: the number of training rows. The tables of presets.toml apply in this order,
    and later ones override: default, default.small, METHOD, METHOD.KIND, METHOD.KIND.small.
    """
    general = _presets()["default"]
    of_kind = _presets().get(method, {}).get(_presets_of(kind), {})
    if rows < SMALL:
        table = {**general, **general["small"], **_table(method, kind), **of_kind.get("small", {})}
    else:
        table = {**general, **_table(method, kind)}
    epochs = round(table["examples"] / max(1, rows))
    epochs = min(table["most_epochs"], max(table["fewest_epochs"], epochs))
    wrong = sorted(set(overrides) - TRAINING)
    if wrong:
        raise SettingsError(
            f"training settings have no {', '.join(wrong)}; they have {', '.join(sorted(TRAINING))}"
        )
    usual = {"epochs": epochs, **{name: value for name, value in table.items() if name in TRAINING}}
    return replace(Training(**usual), **overrides)


def preset_config(method: str, kind: str) -> dict[str, Any]:
    """Return the settings of the method's own config in the tables METHOD and METHOD.KIND.

    It does not depend on the number of rows.
    """
    return {name: value for name, value in _table(method, kind).items() if name not in TRAINING | _BUDGET}


def _presets_of(kind: str) -> str:
    """Return the kind whose presets this kind uses."""
    return (KINDS[kind].presets if kind in KINDS else None) or kind


def _table(method: str, kind: str) -> dict[str, Any]:
    of_method = _presets().get(method, {})
    table = {**of_method, **of_method.get(_presets_of(kind), {})}
    return {name: value for name, value in table.items() if not isinstance(value, dict)}


def steps_settings(method: type[Cue] | None) -> frozenset[str]:
    """Return the settings of Training that a method uses; a head that is fitted needs none of the steps'.

    method: None means full fine-tuning.
    """
    return frozenset() if method is not None and method.frozen_outputs else TRAINING


def own_settings(methods: Mapping[str, type[Cue] | None], given: Iterable[str]) -> dict[str, set[str]]:
    """Return the names of each method's own settings.

    methods: None means full fine-tuning, which has no settings of its own. Raises RequestError for a setting
    that neither a method nor Training has.
    """
    own = {name: _own_names(method) for name, method in methods.items()}
    steps = frozenset[str]().union(*map(steps_settings, methods.values()))
    wrong = sorted(set(given) - steps.union(*own.values()))
    if wrong:
        known = ", ".join(sorted(set().union(*own.values()))) or "none"
        training = _told_steps(steps)
        raise SettingsError(
            f"none of {', '.join(own)} has a setting {', '.join(wrong)}; their own settings are {known}, and "
            f"those of training are {training}"
        )
    return own


def split_settings(
    method: type[Cue] | None, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the given settings into those of the method's config and those of Training.

    Raises RequestError that names every setting that belongs to neither.
    """
    own, steps = _own_names(method), steps_settings(method)
    wrong = sorted(set(given) - own - steps)
    if wrong:
        name = method.method if method is not None else "full fine-tuning"
        its = ", ".join(sorted(own)) or "none"
        training = _told_steps(steps)
        raise SettingsError(
            f"{name} has no setting {', '.join(wrong)}; its own settings are {its}, and those of training "
            f"are {training}"
        )
    of_method = {name: value for name, value in given.items() if name in own}
    of_training = {name: value for name, value in given.items() if name not in own}
    return of_method, of_training


def _own_names(method: type[Cue] | None) -> set[str]:
    return set() if method is None else {f.name for f in fields(method.Config)}


def _told_steps(steps: frozenset[str]) -> str:
    return ", ".join(sorted(steps)) or "none: it is fitted, not trained in steps"
