"""Kinds of task, one file each.

Importing this package imports every module in it, so adding a file is enough to register a kind. Its modules
import torch only in functions that get a tensor: readers and the command line use kinds without torch.
"""

from importlib import import_module
from pkgutil import iter_modules

from softcue.kinds.base import KINDS as KINDS
from softcue.kinds.base import Kind as Kind

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
