"""Hub: loads data sets of the Hugging Face hub, with the optional library `datasets`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from softcue.errors import DataError
from softcue.readers.tables import Table, class_names


@dataclass(frozen=True)
class Hub:
    """Names a data set of the hub.

    `splits` maps our split names to the hub's; it has only the splits with labels.
    """

    identity: str  # "owner/name", or a folder that `datasets` can load
    config: str | None = None
    revision: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)  # empty: recognised by name


def load_hub(hub: Hub) -> dict[str, Table]:
    """Load every split of a data set of the hub, under the hub's names.

    Raises RequestError if it cannot be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"hf:{hub.identity}: reading from the hub needs `datasets`; install softcue[hf]"
        ) from error
    try:
        loaded = datasets.load_dataset(hub.identity, hub.config, revision=hub.revision)
    except Exception as error:  # the library also raises errors of its storage, its parsers and the network
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise DataError(
            f"hf:{hub.identity} could not be loaded ({reason}); check the name and the connection, or give "
            "a folder of files"
        ) from error
    return {str(name): Table(str(name), rows, class_names(rows.features)) for name, rows in loaded.items()}
