"""The registry of datasets: ids to classes, loaded on first use."""

from __future__ import annotations

from functools import cache

from ..configs.errors import unknown
from ..configs.loader import load_object
from .base import Dataset

TARGETS: dict[str, str] = {
    "photos": ".datasets.photos:Photos",
    "photos-grey": ".datasets.photos:PhotosGrey",
    "photos-scenes": ".datasets.photos_scenes:PhotosScenes",
    "photos-frames": ".datasets.photos_frames:PhotosFrames",
    "digits": ".datasets.digits:Digits",
    "gmm2d": ".datasets.gmm2d:GMM2D",
    "gmm2d-uneven": ".datasets.gmm2d:GMM2DUneven",
    "gauss-lin": ".datasets.gauss_lin:GaussLin",
    "phantom": ".datasets.phantom:Phantom",
    "cubes": ".datasets.cubes:Cubes",
    "eeg": ".datasets.eeg:EEG",
    "c-alpha1": ".datasets.c_alpha:CAlpha1",
    "c-alpha2": ".datasets.c_alpha:CAlpha2",
    "c-alpha4": ".datasets.c_alpha:CAlpha4",
    "shapes": ".datasets.shapes:Shapes",
    "pages": ".datasets.pages:Pages",
    "speech": ".datasets.speech:Speech",
    "folder": ".datasets.local:OwnFolder",
}
"""Dataset id to ``.module:Class``. Local datasets (read from ``$SCOREBENCH_DATA``) are added by datasets.local; ``folder`` is the user's."""


def known() -> list[str]:
    """Return all dataset ids, embedded ones first."""
    from .local import LOCAL

    return [*TARGETS, *LOCAL]


@cache
def get(dataset_id: str) -> Dataset:
    """Return the dataset ``dataset_id`` (or ``folder:PATH`` for any folder of images or audio); RequestError when unknown."""
    if dataset_id.startswith("folder:"):
        from .local import folder_dataset

        return folder_dataset(dataset_id.removeprefix("folder:"))
    if dataset_id in TARGETS:
        return load_object(TARGETS[dataset_id])()
    from .local import LOCAL, local_dataset

    if dataset_id in LOCAL:
        return local_dataset(dataset_id)
    raise unknown("dataset", dataset_id, known())
