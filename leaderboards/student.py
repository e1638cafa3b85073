"""Student's t with any real degrees of freedom, from its definition.

``scipy.stats`` would do; importing it (0.3 s) costs more than a whole board.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def _half(theta: float, df: float) -> float:
    """Return P(0 < T < t) for t = sqrt(df) tan(theta): the integral of cos^(df-1) over (0, theta), normalised."""
    x = 0.5 * theta * (_NODES + 1)
    log_norm = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(math.pi)
    return float(0.5 * theta * np.sum(_WEIGHTS * np.exp((df - 1) * np.log(np.cos(x)) + log_norm)))


def cdf(t: float, df: float) -> float:
    """Return P(T <= t) of Student's t with ``df`` >= 1 degrees of freedom (above 1e5 it is the normal's)."""
    df = min(df, 1e5)
    return 0.5 + math.copysign(_half(math.atan(abs(t) / math.sqrt(df)), df), t)


@lru_cache(maxsize=4096)
def _quantile(p: float, df: float) -> float:
    log_norm = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(math.pi)
    z = NormalDist().inv_cdf(p)
    start = z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df * df)  # Cornish and Fisher's first terms
    theta = math.atan(start / math.sqrt(df))
    for _ in range(100):  # after the first, Newton's steps come from the left and never pass the root, because the integral is concave
        step = (p - 0.5 - _half(theta, df)) / math.exp((df - 1) * math.log(math.cos(theta)) + log_norm)
        theta += step
        if abs(step) <= 1e-12 * theta:
            break
    return math.sqrt(df) * math.tan(theta)


def quantile(p: float, df: float) -> float:
    """Return the ``p`` quantile (0.5 <= p < 1) of Student's t with ``df`` >= 1 degrees of freedom, to about 1e-4 relative.

    Degrees of freedom are rounded to three digits, so that boards with many rows look most of them up.
    """
    return _quantile(round(p, 9), float(f"{min(df, 1e5):.3g}"))


def two_sided(t: float, df: float) -> float:
    """Return the two-sided p-value of ``t``."""
    return 2.0 * (1.0 - cdf(abs(t), df))
