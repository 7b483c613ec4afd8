"""Whether the memory of topk grows with the number of images.

    python benchmarks/memory.py

Runs the command on 1,000 and on 10,000 drawn images and prints the peak memory that each run notes, and their ratio.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def peak(count: int, out: str) -> int:
    words = [
        "topk",
        "model=convnet",
        "layer=all",
        "criterion=[max,mean,area]",
        "dataset=shapes",
        f"dataset.count={count}",
    ]
    command = [sys.executable, "-m", "cnnprobe", *words, f"out={out}", f"name=n{count}"]
    subprocess.run(command, check=True, capture_output=True)
    return json.loads((Path(out) / "topk" / f"n{count}" / "v001" / "run.json").read_text())["peak_memory_bytes"]


def main() -> None:
    with tempfile.TemporaryDirectory() as out:
        small, large = peak(1_000, out), peak(10_000, out)
    print(f"peak memory over  1,000 images {small / 2**20:8.1f} MiB")
    print(f"peak memory over 10,000 images {large / 2**20:8.1f} MiB, {large / small:.3f} of that")


if __name__ == "__main__":
    main()
