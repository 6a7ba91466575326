"""Opening an adapter over the encoder that it names, and data that it can answer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from softcue.adapter import OWN_ENCODER, Adapter
from softcue.adapter.remote import local_folder
from softcue.answering.predict import Predictor
from softcue.base import Base, open_base
from softcue.errors import BackboneError, RequestError
from softcue.kinds import KINDS
from softcue.kinds.base import READS_TEXTS
from softcue.readers import Data, as_columns
from softcue.readers.columns import Said
from softcue.readers.encoding import as_encoding
from softcue.tasks import data_root, open_data


def open_predictor(
    adapter: str | Path | Adapter, backbone: str | Base | None, precision: str, device: str
) -> tuple[Predictor, str]:
    """Return a predictor of one adapter, and the adapter's name in it."""
    folder: Path | None = None
    if isinstance(adapter, Adapter):
        loaded, name = adapter, adapter.task
    else:
        folder = local_folder(adapter)
        loaded, name = Adapter.load(folder), str(adapter)
    base = (
        backbone if isinstance(backbone, Base) else _open_named(backbone, loaded, folder, precision, device)
    )
    return Predictor(base, {name: loaded}), name


def backbone_of(adapter: Adapter, folder: Path | None) -> str:
    """Return what to load for an adapter: the backbone that it names, or a checkpoint's own."""
    if adapter.backbone != OWN_ENCODER:
        return adapter.backbone
    if folder is None:
        raise RequestError("the adapter belongs to a fine-tuned checkpoint; give the checkpoint's folder")
    return str(folder / OWN_ENCODER)


def _open_named(
    backbone: str | None, adapter: Adapter, folder: Path | None, precision: str, device: str
) -> Base:
    with named_by_the_adapter(backbone):
        return open_base(backbone or backbone_of(adapter, folder), precision, device)


@contextmanager
def named_by_the_adapter(backbone: Any) -> Iterator[None]:
    """Say of a backbone that cannot be had who named it, where the caller gave none."""
    try:
        yield
    except BackboneError as error:
        if backbone is not None:
            raise
        raise BackboneError(
            f"{error}. The adapter names that backbone; say with backbone (--backbone) where it is now"
        ) from error


def open_for(
    adapter: Adapter,
    data: Any,
    splits: Sequence[str],
    columns: Said | None,
    root: str | Path | None,
    encoding: str | None = None,
) -> Data:
    """Open data that an adapter can answer, or check those that are read already.

    At least one of the splits is there. A single file is split as it was for training, by the adapter's
    seed. The columns and the encoding that it was trained with are known; those that are given stand over
    them. Raises RequestError.
    """
    if isinstance(data, Data):
        refuse_reading(columns=columns, root=root, encoding=encoding)
    else:
        data = open_data(
            data,
            kind=adapter.kind,
            columns=as_columns(columns, adapter.columns),
            encoding=as_encoding(encoding, adapter.encoding),
            data_root=data_root(root),
            seed=adapter.seed,
            splits=splits,
        )
    if data.kind != adapter.kind:
        raise RequestError(f"{data.name} is of kind {data.kind}; the adapter answers {adapter.kind}")
    if not set(splits) & set(data.splits):
        raise RequestError(
            f"{data.name} has no {' or '.join(splits)} split; it has {', '.join(data.splits) or 'none'}"
        )
    if data.pair != adapter.pair and KINDS[adapter.kind].reads == READS_TEXTS:
        raise RequestError(
            f"{data.name} has {_texts(data.pair)}; the adapter was trained on {_texts(adapter.pair)}"
        )
    return data


def refuse_reading(**given: Any) -> None:
    """Refuse what says how to read data where the data are read already."""
    useless = [name for name, value in given.items() if value is not None]
    if useless:
        raise RequestError(
            f"{', '.join(useless)} came with data that are read already; give them to open_data, or a path "
            "here"
        )


def _texts(pair: bool) -> str:
    return "pairs of texts" if pair else "single texts"
