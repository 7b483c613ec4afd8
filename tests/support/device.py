"""Where tests over devices measure: on the device that `CNNPROBE_TEST_DEVICE` names, else on the pretend one."""

import os

import torch

from tests.support import pretend

ASKED = os.environ.get("CNNPROBE_TEST_DEVICE", "")
GPU = ASKED.startswith("cuda")
WHERE = ASKED or pretend.NAME


def missing() -> str:
    """Return why the device cannot be used, "" where it can; a pretend one is made known to torch."""
    if not GPU:
        return pretend.missing()
    return "" if torch.cuda.is_available() else f"CNNPROBE_TEST_DEVICE={ASKED} asks for a GPU; there is none"
