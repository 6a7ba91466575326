"""Tuning methods, one file each; importing this imports every sibling, so that a file is enough
to register a method.
"""

from importlib import import_module
from pkgutil import iter_modules

from softcue.protocol import Cue as Cue

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
