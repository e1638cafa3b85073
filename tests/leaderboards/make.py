"""Simulated records and stores for the tests of the leaderboards."""

from __future__ import annotations

import zlib

import numpy as np

from scorebench.leaderboards import record as R

META = {
    "id": "denoising/toy", "version": 1, "title": "Toy denoising", "family": "denoising", "dataset": "toy", "primary": "psnr",
    "metrics": {"psnr": {"margin": 0.05}, "ssim": {"margin": 0.001}, "lpips": {"margin": 0.003}},
    "reference": "dncnn", "do_nothing": "noisy-input", "budgets": {"default": {}}, "pixels": "redistribute",
}  # fmt: skip
N = 12


def picture(seed, size=24):
    y, x = np.mgrid[0:size, 0:size] / size
    rng = np.random.default_rng(seed)
    image = 0.5 + 0.4 * np.sin(6 * x * rng.uniform(0.5, 2) + rng.uniform(0, 6)) * np.cos(5 * y * rng.uniform(0.5, 2))
    return (255 * image[None]).round().astype(np.uint8)


def unit(variant="dncnn", seed=0, draw=0, level=29.0, *, meta=META, n=N, stochastic="none", seed_sd=0.05, draw_sd=0.01, rng=None, **over):
    """Return (record, samples) of one unit whose PSNR is about ``level``."""
    rng = rng or np.random.default_rng(zlib.crc32(f'{variant}|{seed}|{draw}'.encode()))
    scene = np.random.default_rng(5).normal(0, 2, n)
    shift = np.random.default_rng(1000 + seed).normal(0, seed_sd) if stochastic == "fit" else 0.0
    psnr = level + scene + shift + np.random.default_rng(draw).normal(0, 0.1, n) + rng.normal(0, draw_sd * np.sqrt(n), n)
    ssim = np.clip(0.02 * psnr + 0.2, 0, 1)
    samples = {
        "ids": np.array([f"photo{k}" for k in range(n)]), "clusters": np.array([f"p{k // 2}" for k in range(n)]),
        "metric/psnr": psnr, "metric/ssim": ssim,
    }  # fmt: skip
    for k in range(2):
        clean = picture(k)
        samples |= {f"preview/photo{k}/clean": clean, f"preview/photo{k}/answer": clean, f"preview/photo{k}/given": 255 - clean}
    samples |= {"previews": np.array(["photo0", "photo1"]), "preview_reasons": np.array(["fixed", "best"])}
    fields = dict(
        unit_id=f"{variant}-{seed}-{draw}".replace("[", "_").replace("]", "_").replace("=", "_") + over.pop("suffix", ""),
        spec_id=f"spec-{variant}-{seed}-{draw}", task=meta["id"], task_version=meta["version"], method=variant.split("[")[0], variant=variant,
        seed=seed, draw=draw, environment_key="env", observation_hash=f"obs{draw}", stochastic=stochastic, code="code1",
        facts={"clean_images": True} if stochastic == "fit" else {},
    )  # fmt: skip
    status, error = over.pop("status", "ok"), over.pop("error", ("timeout", "it took longer than 60 s"))
    metrics = {
        "psnr": R.metric(psnr.mean(), n, "psnr|grey|crop=0|range=1|per-image", "sample", higher_is_better=True, unit="dB"),
        "ssim": R.metric(ssim.mean(), n, "ssim|grey|win=11", "sample", higher_is_better=True),
        "lpips": R.unavailable("the AlexNet weights are not on this machine", "scorebench data fetch lpips"),
    } | over.pop("metrics", {})
    cost = {"nfe": 1.0, "params": 100_000, "train_s": 12.5, "sample_s_median": 0.012, "sample_s_p95": 0.02, "peak_mb": 300.0, "exclusive": True}
    cost |= over.pop("cost", {})
    record = R.blank(**{**fields, **over})
    if status == "failed":
        return R.fail(record, *error), None
    return R.succeed(record, metrics, cost), samples


def fill(store, draws=(0, 1, 2), trained=(0, 1, 2)):
    """Put a small board into ``store``: a trained reference, two classical rows, the do-nothing row."""
    for draw in draws:
        for seed in trained:
            store.append(*unit("dncnn", seed, draw, 29.2, stochastic="fit"))
        store.append(*unit("nlm", 0, draw, 27.5))
        store.append(*unit("tv[weight=0.1]", 0, draw, 27.49))
        store.append(*unit("noisy-input", 0, draw, 20.2))
    return store
