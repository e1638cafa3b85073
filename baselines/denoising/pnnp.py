"""PNNP: the sensor's dark noise learned from dark frames alone by two small generators, then a denoiser on clean frames with that noise.

Feng, Wang, Huang, Wang, Zhu and Huang, "Physics-guided Noise Neural Proxy for Practical Low-light Raw Image Denoising", arXiv:2310.09126.
Three parts: physics-guided noise decoupling (PND), physics-guided proxy model (PPM), differentiable distribution loss (DDL). The training
code of the paper was never released; what is inferred is said in the card.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...tasks import noise_raw
from ...tasks.requests import Request
from ..nets.optimise import adamw
from .raw import CalibratedDenoiser
from .sensor import SensorCalibration, read_law, split_rows

GRID = np.clip(np.linspace(0, 1, 4001), 1e-9, 1 - 1e-9)


# ---------------------------------------------------------------------- DDL
def cdf(values: Tensor, x: Tensor) -> Tensor:
    """Return the linearly interpolated empirical distribution function of ``values`` (n,) at x; differentiable in the values."""
    v = values.sort().values
    at = torch.searchsorted(v.detach(), x).clamp(1, len(v) - 1)
    low, high = v[at - 1], v[at]
    return (at - 1 + ((x - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)) / (len(v) - 1)


def ddl(made: Tensor, real: Tensor, points: int = 256) -> Tensor:
    """Return the distribution loss of two samples (n,): mean distance of quantiles plus mean distance of distribution functions.

    Quantiles are taken at the normal distribution function of a jittered uniform grid in [-4, 4], so the tails count; the functions are
    compared on a grid over the real values.
    """
    z = torch.linspace(-4, 4, points, device=made.device) + (torch.rand(points, device=made.device) - 0.5) * 8 / points
    u = torch.special.ndtr(z)
    quantiles = (torch.quantile(made, u) - torch.quantile(real, u)).abs().mean()
    x = torch.linspace(float(real.min()), float(real.max()), points, device=made.device)
    return quantiles + (cdf(made, x) - cdf(real, x)).abs().mean()


# ---------------------------------------------------------------------- PPM
class Proxy(nn.Module):
    """n = exp(a log K + b) (z + f(z, log K)): the physics' scale, then a residual network for the shape, alike for every value.

    ``forward(z, log_gain)``: two tensors (..., 1) that broadcast; no value sees another, so independence is built in.
    """

    def __init__(self, width: int = 16, blocks: int = 2) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 0.0]))
        layers: list[nn.Module] = [nn.Linear(2, width), nn.SiLU()]
        for _ in range(blocks):
            layers += [nn.Linear(width, width), nn.SiLU()]
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.shape = nn.Sequential(*layers, last)

    def forward(self, z: Tensor, log_gain: Tensor) -> Tensor:
        log_gain = log_gain.expand_as(z)
        return torch.exp(self.scale[0] * log_gain + self.scale[1]) * (z + self.shape(torch.cat([z, log_gain], -1)))


class PNNP(CalibratedDenoiser):
    """The two proxies and the denoiser learn in the same steps: the proxies by DDL from dark frames, the network by L1 from what they make."""

    kl_gauss: Tensor
    kl_proxy: Tensor
    started: Tensor

    def __init__(
        self, calibration: SensorCalibration, width: int = 16, levels: int = 4, lr: float = 2e-3, batch_size: int = 4, dark: str = "map",
        least: float = 100.0, most: float = 300.0, proxy_width: int = 16, proxy_lr: float = 5e-3, samples: int = 4096, held_out: int = 10,
    ) -> None:  # fmt: skip
        super().__init__(calibration, width, levels, lr, batch_size, dark, least, most)
        self.pixel, self.band = Proxy(proxy_width), Proxy(proxy_width)
        self.proxy_lr, self.samples, self.held_out = proxy_lr, samples, held_out
        self.register_buffer("kl_gauss", torch.tensor(0.0))
        self.register_buffer("kl_proxy", torch.tensor(0.0))
        self.register_buffer("started", torch.tensor(False))  # so that a training taken up again keeps its proxies
        self._darks: list[dict[str, Any]] | None = None

    def darks(self) -> list[dict[str, Any]]:
        """Decouple the dark frames of each ISO (PND): dark shading is off already; row means are the band noise, the rest pixel noise."""
        if self._darks is None:
            sensor, self._darks = self.calibration, []
            for iso in sensor.isos:
                frames = sensor.residual[sensor.residual_iso == iso].double().cpu().numpy()
                rows, pixels = split_rows(frames)
                lam, scale = read_law(pixels[: -self.held_out])
                self._darks.append({
                    "log_gain": float(torch.log(sensor.gain_per_iso * iso)),
                    "rows": torch.from_numpy(rows[: -self.held_out].ravel()).float(),
                    "pixels": torch.from_numpy(pixels[: -self.held_out].ravel()).float(),
                    "held": pixels[-self.held_out :].ravel(),
                    "quantiles": scale * noise_raw.tukey_lambda(GRID, lam),
                })  # fmt: skip
            first, last = self._darks[0], self._darks[-1]
            for proxy, what in ((self.pixel, "pixels"), (self.band, "rows")):  # the physics' scale to start from: a line through two ISOs
                if self.started:
                    break
                a = float(torch.log(last[what].std() / first[what].std())) / (last["log_gain"] - first["log_gain"])
                proxy.scale.data = torch.tensor([a, float(torch.log(first[what].std())) - a * first["log_gain"]], device=proxy.scale.device)
            self.started.fill_(True)
        return self._darks

    def recovered(self, values: Tensor, dark: Mapping[str, Any]) -> Tensor:
        """Make rounded values continuous (high-bit recovery): F^-1(u) with u uniform in [F(v - 1/2), F(v + 1/2)], F the fitted law."""
        low, high = (np.interp(values.numpy() + d, dark["quantiles"], GRID) for d in (-0.5, 0.5))
        u = low + (high - low) * torch.rand(len(values)).numpy()
        return torch.from_numpy(np.interp(u, GRID, dark["quantiles"])).to(values.dtype)

    # ------------------------------------------------------------------ training
    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int = 0) -> Tensor:
        darks = self.darks()
        return self.loss(self.synthetic(batch["target"]), batch["target"]) + self.proxy_loss(darks[batch_idx % len(darks)])

    def proxy_loss(self, dark: Mapping[str, Any]) -> Tensor:
        """Return the DDL of both proxies on fresh draws from one ISO's frames, each in units of its own spread."""
        device = self.pixel.scale.device
        log_gain = torch.tensor([dark["log_gain"]], device=device)
        out = torch.zeros((), device=device)
        for proxy, what in ((self.pixel, "pixels"), (self.band, "rows")):
            real = dark[what][torch.randint(len(dark[what]), (self.samples,))]
            real = (self.recovered(real, dark) if what == "pixels" else real).to(device)
            spread = real.std()
            out = out + ddl(proxy(torch.randn(self.samples, 1, device=device), log_gain)[:, 0] / spread, real / spread)
        return out

    def corrupted(self, signal: Tensor, gain: Tensor) -> Tensor:
        """( Poisson(x / K) K + G_pixel + G_band ), the band noise one value per row of the mosaic."""
        log_gain = gain.log()
        pixel = self.pixel(torch.randn(*signal.shape, 1, device=signal.device), log_gain[..., None])[..., 0]
        rows = self.band(torch.randn(len(signal), 2, signal.shape[2], 1, device=signal.device), log_gain[:, 0, :, :, None].reshape(-1, 1, 1, 1))
        band = torch.cat([rows[:, :1], rows[:, :1], rows[:, 1:], rows[:, 1:]], 1)
        return gain * torch.poisson(signal.clamp_min(0) / gain) + pixel + band

    def configure_optimizers(self) -> Any:
        out = adamw(self.network.parameters(), self.lr, self.total_steps)
        out["optimizer"].add_param_group({"params": [*self.pixel.parameters(), *self.band.parameters()], "lr": self.proxy_lr})
        schedule = out["lr_scheduler"]["scheduler"]
        schedule.base_lrs.append(self.proxy_lr)
        schedule.lr_lambdas.append(schedule.lr_lambdas[0])
        return out

    def on_train_end(self) -> None:
        """Measure on held-out dark frames how far the pixel proxy and a fitted Gaussian are from them."""
        generator = torch.Generator().manual_seed(0)
        gauss, proxy = [], []
        for dark in self.darks():
            held, spread = dark["held"], float(dark["pixels"].std())
            z = torch.randn(len(held), 1, generator=generator)
            with torch.no_grad():
                made = self.pixel.to("cpu")(z, torch.tensor([dark["log_gain"]]))[:, 0].numpy()
            gauss.append(divergence(held, spread * z[:, 0].numpy(), spread))
            proxy.append(divergence(held, made, spread))
        self.kl_gauss.fill_(float(np.mean(gauss)))
        self.kl_proxy.fill_(float(np.mean(proxy)))

    def denoise(self, request: Request) -> Tensor:
        self.diagnose("kl-gauss", self.kl_gauss.item())
        self.diagnose("kl-proxy", self.kl_proxy.item())
        self.diagnose("kl-gained", self.kl_gauss.item() - self.kl_proxy.item())
        return super().denoise(request)


def divergence(real: np.ndarray, made: np.ndarray, spread: float, bins: int = 101) -> float:
    """Return the Kullback-Leibler divergence of the histogram of ``real`` from that of ``made``, in nats, over +-6 spreads (ends open)."""
    edges = np.linspace(-6 * spread, 6 * spread, bins - 1)
    p, q = (np.bincount(np.searchsorted(edges, v), minlength=bins) + 0.5 for v in (real, made))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p * np.log(p / q)))


