"""Kinds of task, one file each.

Importing this package imports every module in it, so that adding a file is enough to register a kind. Nothing
here imports torch before a tensor is at hand: readers and the command line ask kinds too.
"""

from importlib import import_module
from pkgutil import iter_modules

from softcue.kinds.base import KINDS as KINDS
from softcue.kinds.base import Kind as Kind

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
