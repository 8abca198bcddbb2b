"""The one part of the package that is compiled; the rest stands in pyproject.toml. Where it cannot be, views are run again instead of
being suspended."""

from setuptools import Extension, setup

setup(ext_modules=[Extension("tarry.runs._threads", ["tarry/runs/_threads.c"], optional=True)])
