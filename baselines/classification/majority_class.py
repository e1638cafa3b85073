"""The majority class: the share of each class among the training labels, whatever the picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..method import DataSpec, Method, Request


class MajorityClass(Method):
    """Logits are the logarithms of the class shares, so its negative log-likelihood is that of the best constant answer.

    Shares have one added to each count, so that a class that does not occur has a finite logit.
    """

    log_share: Tensor

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.register_buffer("log_share", torch.zeros(data.classes))

    def learn(self, data: Dataset) -> None:
        label = torch.stack([torch.as_tensor(data[i]["label"]) for i in range(len(data))])  # type: ignore[arg-type]
        counts = torch.bincount(label, minlength=len(self.log_share)).double() + 1
        self.log_share.copy_((counts / counts.sum()).log())

    def logits(self, request: Request) -> Tensor:
        return self.log_share.expand(request.n, -1).clone()
