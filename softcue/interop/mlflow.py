"""MLflow: adapters as models of a flavour of their own, which pyfunc serves; two files, nothing pickled."""

import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softcue import __version__
from softcue.adapter import Adapter
from softcue.adapter.folder import copy_own
from softcue.adapter.remote import local_folder
from softcue.answering.answers import UNSURE
from softcue.answering.opening import open_predictor
from softcue.answering.predict import Predictor
from softcue.errors import RequestError, short
from softcue.kinds import KINDS
from softcue.kinds.base import READS_CHOICES, READS_WORDS
from softcue.readers.columns import sources_of
from softcue.readers.tables import requests_of
from softcue.training.full import Checkpoint

if TYPE_CHECKING:
    import pandas

FLAVOUR = "softcue"
IN_MODEL = "adapter"  # in the model's folder `data`
# how pyfunc opens it; mlflow.pyfunc.load_model(uri, model_config={..}) says otherwise
OPENED: Mapping[str, Any] = {"backbone": None, "precision": "auto", "device": "cpu"}
Saveable = str | Path | Adapter | Checkpoint


def save_model(
    adapter: Saveable,
    path: str | Path,
    *,
    mlflow_model: Any = None,
    signature: Any = None,
    input_example: Any = None,
    pip_requirements: Sequence[str] | str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write an adapter as an MLflow model into a folder that is not there yet.

    - adapter: an Adapter, a Checkpoint, the folder of either, or hf:OWNER/NAME.
    - signature: None writes the columns that the adapter reads and answers with.
    - pip_requirements: as MLflow takes them; None is this version of softcue.
    - mlflow_model, input_example, metadata: as mlflow.pyfunc.save_model takes them.

    Raises AdapterError for an adapter that cannot be read, RequestError if MLflow is not installed, and
    MlflowException for the folder.
    """
    mlflow = _mlflow()
    with tempfile.TemporaryDirectory(prefix="softcue-mlflow-") as place:
        folder = Path(place) / IN_MODEL
        if isinstance(adapter, Adapter | Checkpoint):
            adapter.save(folder)
        else:
            copy_own(local_folder(adapter), folder)
        header = Adapter.load(folder)
        model = mlflow_model or mlflow.models.Model()
        needs = [f"softcue=={__version__}"] if pip_requirements is None else pip_requirements
        model.add_flavor(
            FLAVOUR,
            data=f"data/{IN_MODEL}",
            softcue_version=__version__,
            method=header.method if header.tuned == "cue" else header.tuned,
            kind=header.kind,
            backbone=header.backbone,
            fingerprint=header.fingerprint,
        )
        with warnings.catch_warnings():
            # MLflow wants an example to find the signature by; ours is said
            warnings.filterwarnings("ignore", ".*input example was not provided")
            mlflow.pyfunc.save_model(
                path=str(path),
                loader_module=__name__,
                data_path=str(folder),
                mlflow_model=model,
                signature=signature or signature_of(header),
                input_example=input_example,
                pip_requirements=needs,
                model_config=dict(OPENED),
                metadata=metadata,
            )


def log_model(adapter: Saveable, name: str = IN_MODEL, **more: Any) -> Any:
    """Log an adapter as a model of the active run, and return MLflow's ModelInfo.

    more: arguments of save_model and of mlflow.models.Model.log, such as registered_model_name. Raises as
    save_model does.
    """
    mlflow = _mlflow()
    return mlflow.models.Model.log(
        artifact_path=None, name=name, flavor=sys.modules[__name__], adapter=adapter, **more
    )


def load_model(model_uri: str, dst_path: str | None = None) -> Adapter:
    """Return the adapter of a logged or saved model, as it was given.

    - model_uri: "models:/..", "runs:/.." or a folder.
    - dst_path: where MLflow puts what it downloads.

    Raises RequestError for a model of another flavour and for a fine-tuned checkpoint (open that with
    mlflow.pyfunc.load_model), AdapterError, and MlflowException for a model that is not there.
    """
    mlflow = _mlflow()
    place = Path(mlflow.artifacts.download_artifacts(artifact_uri=str(model_uri), dst_path=dst_path))
    flavours = mlflow.models.Model.load(str(place)).flavors
    if FLAVOUR not in flavours:
        raise RequestError(f"{model_uri} has the flavours {', '.join(flavours)}; expected {FLAVOUR}")
    adapter = Adapter.load(place / "data" / IN_MODEL)
    if adapter.tuned != "cue":
        raise RequestError(
            f"{model_uri} is a fine-tuned checkpoint, whose encoder lies beside it; open it with "
            "mlflow.pyfunc.load_model"
        )
    return adapter


class TableModel:
    """Answers tables, as pyfunc asks it to."""

    def __init__(self, predictor: Predictor, name: str) -> None:
        self.predictor, self.name = predictor, name

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> "pandas.DataFrame":
        """Return a table with a row for each row of the input, and the answer's fields as columns.

        model_input: a table with the columns that the adapter reads, or a text, an object, or a list of them.
        params: not read; pyfunc passes them. Raises RequestError that names the row.
        """
        import pandas

        table = isinstance(model_input, pandas.DataFrame)
        given = _listed([model_input] if isinstance(model_input, str | Mapping) else model_input)
        index = model_input.index if table else pandas.RangeIndex(len(given))
        rows = [
            {**row, "adapter": self.name, "where": f"row {at}"} for at, row in zip(index, given, strict=True)
        ]
        if not rows:  # a table without rows has its columns, too
            names = signature_of(self.predictor.adapters[self.name]).outputs.input_names()
            return pandas.DataFrame(columns=names, index=index)
        return pandas.DataFrame(self.predictor(rows), index=index)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> TableModel:
    """Open a model for pyfunc, which looks for a function of this name."""
    how = {**OPENED, **(model_config or {})}
    return TableModel(*open_predictor(path, how["backbone"], how["precision"], how["device"]))


def signature_of(adapter: Adapter) -> Any:
    """Return an MLflow signature: the columns that an adapter reads and those that it answers with."""
    _mlflow()
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Map, Schema

    text, texts, number = DataType.string, Array(DataType.string), DataType.double
    kind = KINDS[adapter.kind]
    inputs: list[Any] = [ColSpec(text, "text"), *([ColSpec(text, "text_pair")] if adapter.pair else [])]
    outputs: list[Any] = [ColSpec(number, "value")]
    if kind.reads == READS_WORDS:  # given as either of the two
        inputs = [ColSpec(text, "text", required=False), ColSpec(texts, "tokens", required=False)]
        outputs = [ColSpec(AnyType(), "entities")]
    elif kind.reads == READS_CHOICES:
        inputs.append(ColSpec(texts, "choices"))
        outputs = [ColSpec(DataType.long, "choice"), ColSpec(Array(number), "scores")]
    elif kind.activation == "sigmoid":  # several labels
        outputs = [ColSpec(texts, "labels"), ColSpec(Map(number), "scores")]
    elif kind.has_labels:
        outputs = [ColSpec(text, "label"), ColSpec(number, "score"), ColSpec(Map(number), "scores")]
    if adapter.columns:  # its own fields may come under the names that the training data had
        said = {name for source in sources_of(adapter.columns).values() for name in source.names}
        names = dict.fromkeys([*(spec.name for spec in inputs), *sorted(said)])
        inputs = [ColSpec(AnyType(), name, required=False) for name in names]
    if adapter.unsure_below and kind.calibrated:
        outputs.append(ColSpec(DataType.boolean, UNSURE))
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def _listed(given: Any) -> list[Mapping[str, Any]]:
    """Return the rows of a table or list as requests, without the cells that hold nothing."""
    rows = requests_of(given)
    if not isinstance(rows, list) or not all(isinstance(row, str | Mapping) for row in rows):
        raise RequestError(
            f"{short(given)} came as a table; expected a DataFrame with a column text, or a list of texts"
        )
    objects = [{"text": row} if isinstance(row, str) else row for row in rows]
    return [{name: value for name, value in row.items() if value is not None} for row in objects]


def _mlflow() -> Any:
    """Return mlflow with what a model takes of it. Raises RequestError that says how to install it."""
    try:
        import mlflow.artifacts
        import mlflow.models
        import mlflow.pyfunc
    except ImportError as error:
        raise RequestError(
            f"MLflow's models cannot be had ({error}); install them: pip install 'softcue[mlflow]'"
        ) from error
    return mlflow
