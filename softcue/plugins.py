"""Plugins: the user's own Python files with methods, kinds or tasks; they run only if the user names them."""

import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from re import fullmatch
from traceback import walk_tb

from softcue.cues import Cue
from softcue.errors import RequestError, SoftcueError
from softcue.kinds import KINDS, Kind
from softcue.scoring.metrics import METRICS
from softcue.tasks import all_tasks, forget

PREFIX = "softcue_plugin_"  # begins the module name of every plugin
_LOADED: dict[str, list[str]] = {}  # module -> what it registered


def load_plugin(path: str | Path) -> list[str]:
    """Run a plugin's file once, and return the names of the methods, kinds and tasks that it registers.

    The file runs with all rights of this process, like any program. Raises RequestError if the file does not
    exist, registers nothing or raises an exception; the message names the file, the line and the exception.
    """
    file = Path(path).resolve()
    name = PREFIX + sha256(str(file).encode()).hexdigest()[:12]
    if name not in _LOADED:
        if not file.is_file():
            raise RequestError(
                f"plugin {path} does not exist; expected a Python file that registers a method, a kind or a "
                "task"
            )
        methods, kinds = dict(Cue.registry), dict(KINDS)
        tasks = {task.name for task in all_tasks()}
        try:
            _execute(name, file)
            added = [*_added_methods(methods), *_added_kinds(kinds)]
            added += [task.name for task in all_tasks() if task.name not in tasks]
            if not added:
                raise RequestError(
                    "it registers nothing; expected a subclass of softcue.Cue, or a call of "
                    "softcue.kinds.base.register_kind or of softcue.tasks.register"
                )
        except (Exception, SystemExit) as error:
            sys.modules.pop(name, None)
            Cue.registry.clear()
            Cue.registry.update(methods)
            KINDS.clear()
            KINDS.update(kinds)
            for task in all_tasks():
                if task.name not in tasks:
                    forget(task.name)
            raise RequestError(f"plugin {path}{_where(error, name)}: {_what(error)}") from error
        _LOADED[name] = added
    return _LOADED[name]


def fault(error: BaseException) -> str | None:
    """Describe an exception that a plugin's code raised after it was loaded.

    Returns None if the exception came through no plugin's code.
    """
    for frame, _ in walk_tb(error.__traceback__):
        name = frame.f_globals.get("__name__", "")
        if name in _LOADED:
            return f"plugin {frame.f_code.co_filename}{_where(error, name)}: {_what(error)}"
    return None


def loaded_files() -> tuple[str, ...]:
    """Return the files of all loaded plugins, so that other processes can load them too."""
    return tuple(str(sys.modules[name].__file__) for name in _LOADED)


def source_digest(method: type[Cue]) -> str | None:
    """Return the SHA-256 of the plugin that a method comes from; None for softcue's own methods."""
    file = sys.modules[method.__module__].__file__
    return sha256(Path(file).read_bytes()).hexdigest() if method.__module__ in _LOADED and file else None


def _execute(name: str, file: Path) -> None:
    loader = SourceFileLoader(name, str(file))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    loader.exec_module(module)


def _added_methods(before: dict[str, type[Cue]]) -> Iterator[str]:
    """Check that new methods have what the rest of softcue relies on, and yield their names."""
    for name, method in Cue.registry.items():
        if before.get(name) is method:
            continue
        if name in before:
            raise RequestError(f"there already is a method {name!r}; give the new one another name")
        _check_name(name, "method")
        if not is_dataclass(method.Config):
            raise RequestError(
                f"the config of method {name!r} is not a dataclass; expected one with defaults for all fields"
            )
        method.Config()
        if getattr(method.count, "__func__", None) is Cue.count.__func__:  # type: ignore[attr-defined]
            raise RequestError(f"method {name!r} does not define count(dims, config), its parameter formula")
        yield name


def _added_kinds(before: dict[str, Kind]) -> Iterator[str]:
    """Check that new kinds have what the rest of softcue relies on, and yield their names."""
    for name, kind in KINDS.items():
        if before.get(name) is kind:
            continue
        if name in before:
            raise RequestError(f"there already is a kind {name!r}; give the new one another name")
        _check_name(name, "kind")
        wrong = [metric for metric in kind.metrics if metric not in METRICS]
        if wrong or not kind.metrics:
            raise RequestError(
                f"kind {name!r} has the metrics {', '.join(kind.metrics) or 'none'}; expected some of "
                f"{', '.join(METRICS)}"
            )
        yield name


def _check_name(name: str, what: str) -> None:
    if not fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise RequestError(f"{name!r} cannot be a {what}'s name; expected small letters, digits, - and _")


def _where(error: BaseException, name: str) -> str:
    """Return the line of the plugin that raised an exception, or "" if it is not known."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_globals.get("__name__") == name]
    if isinstance(error, SyntaxError) and not lines:
        lines = [error.lineno] if error.lineno else []
    return f", line {lines[-1]}" if lines else ""


def _what(error: BaseException) -> str:
    if isinstance(error, SoftcueError):
        return str(error)
    message = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"
