"""cryoloom: thousands of noisy pictures in, a moving molecule out."""

import os
from importlib.metadata import version

# Torch and the compiled loops take turns: idle threads of the one must not keep spinning while the other works.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = version("cryoloom")
