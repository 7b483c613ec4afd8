"""Train a network on a dataset, and keep how it learned: curves, confusion matrix, weights along the way."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from torch import nn

from cnnprobe.options import Range
from cnnprobe.records import Measurement


def compute(
    *,
    model: nn.Module,
    dataset: Any,
    held_out: Any,
    device: str,
    workers: int,
    seed: int,
    batch_size: Annotated[int, Range(1)],
    epochs: Annotated[int, Range(1)],
    lr: Annotated[float, Range(above=0)],
    optimizer: Literal["sgd", "adam", "adamw"],
    momentum: Annotated[float, Range(0, below=1)],
    weight_decay: Annotated[float, Range(0)],
    schedule: Literal["cosine", "step", "constant"],
    warmup: Annotated[float, Range(0)],
    step_epochs: Annotated[int, Range(1)],
    step_factor: Annotated[float, Range(above=0, maximum=1)],
    loss: Literal["cross-entropy", "squared-error"],
    label_smoothing: Annotated[float, Range(0, below=1)],
    balance: Literal["none", "loss", "draw"],
    clip: Annotated[float, Range(above=0)] | None,
    augment: list[Literal["crop", "resized-crop", "flip", "colour"]] | Literal["none"],
    crop_padding: Annotated[int, Range(1)],
    crop_scale: Annotated[float, Range(above=0, maximum=1)],
    colour: Annotated[float, Range(above=0, below=1)],
    precision: Literal["auto", "float32", "tf32", "bfloat16"],
    channels_last: bool | Literal["auto"],
    preload: bool | Literal["auto"],
    checkpoints: list[int] | Literal["log", "all"],
    save_minutes: Annotated[float, Range(above=0)],
    start: int = 0,
    state: dict[str, Any] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Measurement:
    """Train `model` in place."""
    raise NotImplementedError
