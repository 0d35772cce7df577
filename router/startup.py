"""What a process of the router sets before it imports anything else.

One thread for linear algebra: OpenBLAS splits even the product of a small matrix and a vector among all cores, and
waits for the last of them. On a machine that has other work a scan of 1,024 stored questions took 1.8 ms that way, and
takes 0.08 ms in one thread.

Rare garbage collection: hardly anything here refers to itself. Python collects after 700 new objects, which takes 7 %
of the time to start and up to 10 % of a request's.
"""

from __future__ import annotations

import gc
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
gc.set_threshold(10_000)
