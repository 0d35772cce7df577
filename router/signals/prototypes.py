"""How near a prompt is to several examples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from triton_router.config.prototypes import PrototypeScoring


def nearness(scoring: PrototypeScoring, similarities: NDArray[np.float32]) -> float:
    """One number for the ``similarities`` to all examples, FP32 [examples], of which there is at least one."""
    best = float(similarities.max())
    if not scoring.enabled:
        return best
    support = float(np.sort(similarities)[-scoring.top_m :].mean())
    return scoring.best_weight * best + (1 - scoring.best_weight) * support
