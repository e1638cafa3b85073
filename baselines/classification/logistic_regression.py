"""Multinomial logistic regression on standardised pixels, fitted to the optimum by L-BFGS."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..method import DataSpec, Method, Request


class LogisticRegression(Method):
    """Minimises the mean cross-entropy plus |W|^2 / (2 C n); the intercept is not penalised (scikit-learn's objective, divided by C n)."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, data: DataSpec, inverse_penalty: float = 1.0, iterations: int = 500) -> None:
        """``inverse_penalty`` is C."""
        super().__init__()
        if data.shape is None:
            raise ValueError("logistic-regression needs pictures of one shape")
        size = math.prod(data.shape)
        self.inverse_penalty, self.iterations = inverse_penalty, iterations
        for name, shape in {"weight": (data.classes, size), "bias": (data.classes,), "mean": (size,), "scale": (size,)}.items():
            self.register_buffer(name, torch.zeros(shape))

    def learn(self, data: Dataset) -> None:
        items = [data[i] for i in range(len(data))]  # type: ignore[arg-type]
        x = torch.stack([item["input"].flatten() for item in items]).double()
        label = torch.stack([torch.as_tensor(item["label"]) for item in items])
        self.mean.copy_(x.mean(0))
        self.scale.copy_(x.std(0).clamp_min(1e-3))  # pixels that never change get weight 0, not a division by 0
        x = (x - self.mean) / self.scale
        weight = torch.zeros(self.weight.shape, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(self.bias.shape, dtype=torch.float64, requires_grad=True)
        penalty = 1 / (2 * self.inverse_penalty * len(x))
        optimiser = torch.optim.LBFGS(
            [weight, bias], max_iter=self.iterations, history_size=20, line_search_fn="strong_wolfe", tolerance_grad=1e-7
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(x @ weight.T + bias, label) + penalty * weight.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimiser.step(closure)
        self.weight.copy_(weight.detach())
        self.bias.copy_(bias.detach())

    def logits(self, request: Request) -> Tensor:
        x = (request.image.flatten(1) - self.mean) / self.scale
        return x @ self.weight.T + self.bias
