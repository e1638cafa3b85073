"""For all tests: one torch thread, set before torch is imported. Tests share cores with the workers they start, and waiting threads spin."""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
