"""cryoloom: thousands of noisy pictures in, a moving molecule out."""

from importlib.metadata import version

__version__ = version("cryoloom")
