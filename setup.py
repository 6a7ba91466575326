"""The kernels' part of a wheel; all else is in pyproject.toml.

They are plain shared libraries that softcue opens by their path. They know nothing of Python, so that one
wheel serves every version of it.
"""

import os

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext


class BuildKernels(build_ext):
    """Name a kernel without Python's version."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"


class BuildWheel(bdist_wheel):
    """Name the processor and the system in the wheel's name, and no version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(cmdclass={"build_ext": BuildKernels, "bdist_wheel": BuildWheel})
