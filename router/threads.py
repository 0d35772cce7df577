"""One thread for linear algebra. Import this before anything that imports numpy.

OpenBLAS splits even the product of a small matrix and a vector among all cores, and waits for the last of them. On a
machine that has other work a scan of 1,024 stored questions took 1.8 ms that way, and takes 0.08 ms in one thread.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
