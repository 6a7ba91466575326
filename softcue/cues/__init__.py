"""Tuning methods, one file each.

Importing this package imports every module in it, so that adding a file is enough to register a method.
"""

from importlib import import_module
from pkgutil import iter_modules

from softcue.protocol import Cue as Cue

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
