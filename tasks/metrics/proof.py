"""Proof of the metrics: each beside an independent implementation or a closed form, as a table and as tests.

``python -m scorebench.tasks.metrics.proof --out docs/metrics.md`` computes every difference again and writes the table. The tests run
the same comparisons and fail where a difference exceeds its tolerance.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ...configs.loader import write_atomic
from . import registry

LIBRARIES = ("numpy", "scipy", "torch", "scikit-image", "scikit-learn", "torchmetrics", "clean-fid", "lpips", "pystoi")


@dataclass(frozen=True)
class Proof:
    """One comparison: ``run`` returns the largest absolute difference between the metric and ``beside`` on ``inputs``."""

    metric: str
    beside: str
    inputs: str
    tolerance: float
    run: Callable[[], float]
    slow: bool = False

    @property
    def id(self) -> str:
        """A short name for test reports."""
        return f"{self.metric}-{self.beside}-{self.inputs}".replace(" ", "_")


def proofs() -> Iterator[Proof]:
    """Yield every comparison, in the order of the table."""
    from . import proofs_images, proofs_labels, proofs_sets, proofs_signals

    yield from proofs_images.PROOFS
    yield from proofs_sets.PROOFS
    yield from proofs_labels.PROOFS
    yield from proofs_signals.PROOFS


def table(measured: Sequence[tuple[Proof, float]]) -> str:
    """Return docs/metrics.md: the metrics with their protocols, and the largest difference of every comparison."""
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    lines = [
        "# Metrics",
        "",
        "Written by `python -m scorebench.tasks.metrics.proof --out docs/metrics.md`; do not edit.",
        "",
        "## Proof",
        "",
        "Largest absolute difference between a metric and an independent implementation, or a case whose answer is known in closed form. "
        "The tests run the same comparisons and fail above the tolerance. Where a network's weights are not shipped, both sides run on "
        "the same stand-in weights: what is compared is everything but the weights.",
        "",
        f"Computed with {versions}.",
        "",
        "| metric | compared with | inputs | largest difference | tolerance |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {p.metric} | {p.beside} | {p.inputs} | {difference:.1e} | {p.tolerance:.0e} |" for p, difference in measured]
    lines += ["", "## Protocols", ""]
    for name in registry.known():
        cls = registry.load(name)
        best = "higher is better" if cls.higher_is_better else "lower is better"
        level = "one value per sample" if cls.level == "sample" else "one value per set"
        unit = f", {cls.unit}" if cls.unit else ""
        lines += [f"### {name}", "", f"{cls.title}; {level}, {best}{unit}.", "", " ".join(cls.protocol.split()), ""]
        if cls.paper:
            lines += [" ".join(cls.paper.split()), ""]
    return "\n".join(lines).rstrip() + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparisons, print them, and write the table; 1 when a difference exceeds its tolerance."""
    parser = argparse.ArgumentParser(prog="python -m scorebench.tasks.metrics.proof", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="the Markdown file to write")
    parser.add_argument("--metric", help="only this metric")
    args = parser.parse_args(argv)
    measured = []
    for proof in proofs():
        if args.metric in (None, proof.metric):
            difference = proof.run()
            measured.append((proof, difference))
            mark = "" if difference <= proof.tolerance else "   ABOVE THE TOLERANCE"
            print(
                f"{proof.metric:24} {proof.beside:44} {proof.inputs:52} {difference:9.2e} (tolerance {proof.tolerance:.0e}){mark}", flush=True
            )
    if args.out:
        write_atomic(args.out, table(measured).encode())
    return int(any(difference > proof.tolerance for proof, difference in measured))


if __name__ == "__main__":
    raise SystemExit(main())
