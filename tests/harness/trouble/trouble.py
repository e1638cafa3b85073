"""A plug-in that does on demand what goes wrong in practice. Every run leaves a file in $TROUBLE_MARKS, so that runs can be counted."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import uuid
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from scorebench import Method, Request


def mark(what: str) -> None:
    """Leave a file named after what ran, with the number of this process."""
    if folder := os.environ.get("TROUBLE_MARKS"):
        Path(folder, f"{what}.{uuid.uuid4().hex[:8]}").write_text(str(os.getpid()))


class Trouble(Method):
    """Random logits after ``seconds``, or what ``does`` says."""

    def __init__(self, does: str = "nothing", seconds: float = 0.0) -> None:
        super().__init__()
        self.does, self.seconds = does, seconds
        self.began = False

    def logits(self, request: Request) -> Tensor:
        if not self.began:
            self.began = True
            mark(f"run-{self.does}")
            if self.does == "tell-the-gpu":
                mark(f"gpu-{os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}")
            time.sleep(self.seconds)
        out = request.rng.at("logits").normal((10,))
        if self.does == "hang":
            while True:
                time.sleep(1)
        if self.does == "hang-holding-the-lock":  # a C call that never gives Python's lock back
            ctypes.PyDLL(None).pause()
        if self.does == "leave-a-child":
            if os.fork() == 0:
                time.sleep(600)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.does == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.does == "exit":
            sys.exit(3)
        if self.does == "end":
            os._exit(7)
        if self.does == "raise":
            raise ValueError("the method is wrong")
        if self.does == "eat":
            eaten = [torch.ones(2**24) for _ in range(400)]  # 64 MiB each
            out = out + len(eaten) * 0
        if self.does == "nan":
            out[0, 0] = float("nan")
        if self.does == "shape":
            out = out[:, :9]
        return out


class Learner(Method):
    """Fits one number in ``seconds``."""

    share: Tensor

    def __init__(self, seconds: float = 0.0, fails: bool = False) -> None:
        super().__init__()
        self.seconds, self.fails = seconds, fails
        self.register_buffer("share", torch.zeros(10))

    def learn(self, data: Dataset) -> None:
        mark("fit")
        time.sleep(self.seconds)
        if self.fails:
            raise ValueError("it cannot be learned")
        self.share.copy_(torch.arange(10.0))

    def logits(self, request: Request) -> Tensor:
        mark("run-learner")
        return self.share.expand(request.n, -1) + request.rng.at("z").normal((10,))
