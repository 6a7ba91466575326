"""Class weights and the focal loss: how much each example of a job counts in its loss."""

from collections import Counter

import torch
from torch import Tensor

from softcue.errors import SettingsError, short
from softcue.heads import Head
from softcue.kinds import KINDS
from softcue.training.job import Prepared


def emphasise(head: Head, seat: int, prepared: Prepared) -> None:
    """Set a seat's class weights and focal exponent from the job's settings. Raises SettingsError."""
    if emphasises(prepared):
        head.emphasise(seat, class_weights(prepared), prepared.training.focal)
    elif head.class_weight is not None:  # the job that had the seat before set it
        head.emphasise(seat, torch.ones(head.bias.shape[1]), 0.0)


def emphasises(prepared: Prepared) -> bool:
    """Say whether some examples of the job count more than others."""
    return prepared.training.class_weight is not None or prepared.training.focal > 0


def class_weights(prepared: Prepared) -> Tensor:
    """Return the weight of each label in the loss: (C,).

    "balanced" is as in scikit-learn: rows / (number of labels that occur * rows of the label). For tags,
    words count instead of rows. Raises SettingsError for data without labels, and for weights of labels that
    no training row has.
    """
    labels, given = prepared.reading.labels, prepared.training.class_weight
    kind = KINDS[prepared.reading.kind]
    if not kind.has_labels or kind.has_threshold:  # an example with several labels has no single class
        raise SettingsError(
            f"class_weight or focal came for data of kind {prepared.reading.kind}; expected one label for a "
            "text, or tags"
        )
    weight = torch.ones(len(labels))
    if given == "balanced":
        counts = Counter(kind.numbers([item.targets for item in prepared.items]))
        for number, count in counts.items():
            weight[number] = counts.total() / (len(counts) * count)
    elif isinstance(given, dict):
        unknown = ", ".join(sorted(set(given) - set(labels)))
        if unknown:
            raise SettingsError(
                f"class_weight has {short(unknown)}, which no training row has; its labels are "
                f"{short(', '.join(labels))}"
            )
        for label, own in given.items():
            weight[labels.index(label)] = own
    return weight
