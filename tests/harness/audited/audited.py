"""Methods that an audit must pass, and methods that it must catch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from scorebench import Method, Request


class Halves(Method):
    """Half the observation and half its local mean: honest, and of no use."""

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        self.share = share

    def denoise(self, request: Request) -> Tensor:
        blurred = torch.nn.functional.avg_pool2d(request.noisy, 5, 1, 2)
        return self.share * request.noisy + (1 - self.share) * blurred


class Learner(Method):
    """Learns one number from noisy pictures alone."""

    level: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("level", torch.zeros(1))

    def learn(self, data: Dataset) -> None:
        self.level.fill_(float(torch.stack([data[i]["input"].mean() for i in range(8)]).mean()))

    def denoise(self, request: Request) -> Tensor:
        return 0.9 * request.noisy + 0.1 * self.level


class Peeker(Method):
    """Finds the picture among the dataset's own, and answers with it."""

    def denoise(self, request: Request) -> Tensor:
        from scorebench.tasks import registry

        task = registry.get("denoising/audit-small")
        clean = torch.stack([torch.as_tensor(task.view(task.dataset.sample("test", i)).data["image"]) for i in task.ids()])
        nearest = torch.cdist(request.noisy.flatten(1), clean.flatten(1)).argmin(1)
        return clean[nearest]


class SecretLearner(Learner):
    """Says that it learns from noisy pictures, and reads clean ones on the way."""

    def learn(self, data: Dataset) -> None:
        from scorebench.tasks import registry

        items = registry.get("denoising/audit-small").training_set("clean", 0)
        self.level.fill_(float(torch.stack([items[i]["target"].mean() for i in range(8)]).mean()))


class Parrot(Method):
    """Knows the observations of draw 0, and what hides behind them."""

    def denoise(self, request: Request) -> Tensor:
        from scorebench.tasks import registry

        task = registry.get("denoising/audit-small")
        out = request.noisy.clone()
        for i in task.ids():
            known = task.observe("test", i, 0)
            for k, noisy in enumerate(request.noisy):
                if torch.equal(noisy, known.given["noisy"]):
                    out[k] = 0.5 * noisy + 0.5 * known.target["clean"]
        return out
