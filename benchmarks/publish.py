"""Pack a finished training for the package: the weights that `weights=published` means, and their model card.

    python benchmarks/publish.py outputs/train/mousenet-cifar10/v001

Into cnnprobe/models/weights/published/MODEL-DATASET go the best weights and some moments of learning, float32, only the
taps that exist; run.json, what the run says about itself without places on this machine; README.md, the card, every
figure of it read from the run.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import yaml

import cnnprobe
from cnnprobe.models.weights import packing
from cnnprobe.preparation import weights
from cnnprobe.store import run_json

MOMENTS = ("update=000000", "update=000128", "epoch=001", "epoch=003", "epoch=010")
LARGEST = 1_000_000, 3_000_000  # bytes: of the best weights, of all together
KEPT = [
    *("command", "status", "started", "ended", "seconds", "resumed", "seed", "device", "threads", "weights", "dataset"),
    *("batch_size", "held_out", "versions", "commit", "images_per_second", "peak_memory_bytes", "warnings", "skipped"),
    "headline",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a complete run of train")
    parser.add_argument("--images", default="as they are published", help="what its images were, for the card")
    arguments = parser.parse_args()
    run = arguments.run
    about = run_json.read(run)
    if about["command"] != "train" or about["status"] != "complete" or about["commit"].endswith("+"):
        raise SystemExit(f"{run} is not a complete training by committed code")
    config = yaml.safe_load((run / "config.yaml").read_text())
    folder = weights.PACKAGED / f"{config['model']['name']}-{config['dataset']['name']}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "weights").mkdir(parents=True)
    pack(run, folder)
    short = {key: about[key] for key in KEPT} | {"processor": about["machine"]["processor"]}
    short |= {"model": config["model"], "method": config["method"]}
    (folder / "run.json").write_text(json.dumps(short, indent=2) + "\n")
    (folder / "README.md").write_text(card(run, short, arguments.images))
    print(folder / "README.md")


def pack(run: Path, folder: Path) -> None:
    for name in ("best", *MOMENTS):
        source = run / "weights" / f"{name}.safetensors"
        weights.save(folder / "weights" / source.name, packing.packed(weights.read(source)), weights.about(source))
    sizes = [path.stat().st_size for path in (folder / "weights").iterdir()]
    if max(sizes) > LARGEST[0] or sum(sizes) > LARGEST[1]:
        raise SystemExit(f"too large: {sizes}")


def card(run: Path, about: dict, images: str) -> str:
    """Write the model card."""
    store = cnnprobe.open(run)
    epochs, confusion = store["epochs"], store["confusion"]
    matrix = np.asarray(confusion["matrix"][:])
    classes = weights.about(run / "weights" / "best.safetensors")["classes"]
    method, model, total = about["method"], about["model"], int(matrix.sum())
    right = int(np.trace(matrix))
    assert abs(right / total - about["headline"]["best val_accuracy"]) < 1e-4, "the confusion is of another epoch"
    times = [one["seconds"] for one in about["facts"]["epochs"]]
    seconds = sum(times)
    interval = 1.96 * np.sqrt(right / total * (1 - right / total) / total)
    learned, held_out = about["dataset"], about["held_out"]
    rows = zip(*(epochs[key][:] for key in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr")), times)
    lines = [
        f"# {model['name']} ({model['variant']}), trained on {learned['name']}",
        "",
        "MouseNet (Shi, Tripp, Shea-Brown, Mihalas, Buice 2022, PLOS Comput Biol 18(9): e1010427), trained with",
        "cnnprobe. `weights=published` means these weights; commands take them where `weights` is not given and there",
        f"is no run of `train`. Moments of learning are there too: `published@{MOMENTS[0]}`, {', '.join(MOMENTS[1:])};",
        "`published@*` names all of them in order.",
        "",
        f"**Accuracy on the {total:,} held-out images: {right / total:.4f}** ({right:,} right; 95 %: ± {interval:.4f})",
        "",
        "## Recipe",
        "",
        f"- {learned['images']:,} images of {learned['name']} (Krizhevsky 2009), {model['input_size']} px, {images},"
        f" the standard split; held out: the {held_out['images']:,} test images, used for nothing but these figures and"
        " for which epoch is called best.",
        f"- model: variant {model['variant']}, {model['input_size']} px instead of 64 (receptive fields cover twice as"
        f" much of the image as in the published setting), readout {model['readout']}, mask {model['mask']},"
        f" mask_seed {model['mask_seed']} (the authors' masks).",
        f"- {method['epochs']} epochs in batches of {about['batch_size']}, {method['optimizer']}, lr {method['lr']:g},"
        f" momentum {method['momentum']:g}, weight decay {method['weight_decay']:g}, {method['schedule']} schedule"
        f" after {method['warmup']:g} epochs of warm-up, augmented by {' and '.join(method['augment'])}, in"
        f" {method['precision']}.",
        f"- seed {about['seed']}; cnnprobe {about['versions']['cnnprobe']} at commit {about['commit'][:12]}, torch"
        f" {about['versions']['torch']}.",
        f"- {seconds / 3600:.1f} hours on {about['threads']} cores of an {about['processor']}, no GPU, other work"
        f" beside it: {learned['images'] * method['epochs'] / seconds:.0f} images/s, measuring included.",
        "",
        "    cnnprobe train experiment=mousenet-cifar10-short dataset.root=~/cifar10",
        "",
        "The authors' code is made for 64 px and 100 epochs: its accuracy is not to be compared with theirs.",
        "",
        "## Learning",
        "",
        "| epoch | loss | accuracy | held-out loss | held-out accuracy | learning rate at its end | minutes |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {int(n)} | {loss:.4f} | {seen:.4f} | {val_loss:.4f} | {val:.4f} | {lr:.2g} | {seconds / 60:.1f} |"
            for n, loss, seen, val_loss, val, lr, seconds in rows
        ),
        "",
        "Accuracy is that of augmented images, while learning; held-out accuracy that of whole ones, afterwards.",
        "",
        f"## Confusion (epoch {about['headline']['at epoch']}; rows: what is shown, columns: what is answered)",
        "",
        "| | " + " | ".join(classes) + " |",
        "|---" * (len(classes) + 1) + "|",
        *(f"| {name} | " + " | ".join(str(int(n)) for n in row) + " |" for name, row in zip(classes, matrix)),
        "",
        "## What it is not",
        "",
        "One training of one seed. A network for probing, not for deciding anything about pictures; CIFAR-10's ten",
        "classes are all it knows.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
