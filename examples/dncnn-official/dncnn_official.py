"""The published DnCNN checkpoints as a scorebench plug-in: a trained network of one's own, used from outside the package."""

from pathlib import Path
from pickle import UnpicklingError

import torch

import scorebench
from scorebench.baselines.nets.dncnn import DnCNN
from scorebench.configs.errors import RequestError


class DnCNNOfficial(scorebench.Method):
    """DnCNN-S: 17 layers, 64 channels, batch norm; ``checkpoint`` is the path of a ``net.pth`` trained for the task's noise level."""

    def __init__(self, checkpoint: str) -> None:
        super().__init__()
        self.network = DnCNN()
        self.network.load_state_dict(read(checkpoint, self.network))

    def denoise(self, request: scorebench.Request) -> torch.Tensor:
        return self.network(request.noisy)


def read(checkpoint: str, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of ``network`` in a checkpoint whose keys may carry the prefix of DataParallel; RequestError when they do not fit."""
    path = Path(checkpoint).expanduser()
    try:
        # weights_only: a checkpoint is data, and must not be able to run code
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RequestError(f"no checkpoint at {path}; give the path of net.pth with --set checkpoint=PATH.") from None
    except (OSError, RuntimeError, EOFError, UnpicklingError, ValueError, KeyError) as e:
        raise RequestError(f"{path} is not a PyTorch checkpoint of plain weights ({type(e).__name__}); give a DnCNN-S net.pth.") from None
    expected = {k: tuple(v.shape) for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise RequestError(f"{path} holds no mapping of names to tensors; give a DnCNN-S net.pth.")
    state = {k.removeprefix("module."): v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    wrong = sorted(set(expected) ^ set(state)) or sorted(k for k, v in state.items() if tuple(v.shape) != expected[k])
    if wrong:
        raise RequestError(
            f"{path} does not fit DnCNN-S (17 layers, 64 channels, keys dncnn.N.* with or without 'module.'): {len(wrong)} entries differ, "
            f"first {wrong[0]!r}; give a grey DnCNN-S net.pth."
        )
    # absent from checkpoints older than PyTorch 0.4.1; it counts training batches and plays no part in inference
    counts = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    return {**state, **counts}
