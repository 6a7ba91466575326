"""softcue tunes a frozen Transformer encoder through its tokens, and serves thousands of tasks
from that one encoder.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# name -> module; loaded at first use, so that `import softcue` and `softcue --help` need no torch
_PUBLIC = {
    "Adapter": "softcue.adapter",
    "Bank": "softcue.bank",
    "Base": "softcue.base",
    "Batch": "softcue.batch",
    "Checkpoints": "softcue.training.checkpoint",
    "Cue": "softcue.cues",
    "Job": "softcue.training.job",
    "Model": "softcue.model",
    "OnnxPredictor": "softcue.interop.onnx_runner",
    "PackedGridSearch": "softcue.interop.grid",
    "Predictor": "softcue.answering.predict",
    "SoftcueClassifier": "softcue.interop.estimators",
    "SoftcueError": "softcue.errors",
    "SoftcueTagger": "softcue.interop.estimators",
    "Training": "softcue.training.settings",
    "evaluate": "softcue.api",
    "export_onnx": "softcue.interop.onnx",
    "from_peft": "softcue.interop.peft",
    "inspect_attention": "softcue.inspection.attention",
    "inspect_cell": "softcue.inspection.cell",
    "inspect_gates": "softcue.inspection.gates",
    "inspect_plan": "softcue.inspection.plan",
    "inspect_selection": "softcue.inspection.selection",
    "load_encoder": "softcue.encoder.load",
    "load_plugin": "softcue.plugins",
    "open_base": "softcue.base",
    "open_data": "softcue.tasks",
    "open_source": "softcue.bank",
    "pipeline": "softcue.interop.pipeline",
    "rank": "softcue.answering.ranking",
    "to_peft": "softcue.interop.peft",
    "train": "softcue.api",
    "train_jobs": "softcue.training.jobs",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'softcue' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
