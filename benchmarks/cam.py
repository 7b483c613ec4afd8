"""What class activation maps cost: Grad-CAM and Score-CAM beside pytorch-grad-cam and beside the bare network.

    python benchmarks/cam.py                       # about four minutes on two cores
    python benchmarks/cam.py --images 8 --masked 1

Grad-CAM: the maps of the five classes that rank first, of all images. *theirs* is pytorch_grad_cam.GradCAM, called
once for each rank with all images; their maps end with max(., 0), are brought to the size of the image and stretched
from 0 to 1, so ours are for the comparison. *bare* is one forward pass without gradients. Score-CAM: the same five
classes of a few images; theirs passes all masked images once for each class. ResNet-18 with random weights, noise
images, float32; shortest of interleaved repetitions.
"""

import argparse
import contextlib
import io
import warnings

import numpy as np
import torch
import torchvision
from clock import shortest
from torch import Tensor, nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.cam.class_choice import Choice
from cnnprobe.methods.cam.maps import ClassMaps, Found

SIZE = (3, 224, 224)
CLASSES = 5


def network() -> nn.Module:
    """Return ResNet-18 with BatchNorm statistics of noise, so that its maps are not all alike."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None)
    with torch.no_grad():
        model.train()(torch.randn(16, *SIZE))
    return model.eval()


def theirs(model: nn.Module, kind: str, images: Tensor, classes: np.ndarray) -> np.ndarray:
    """Return maps (image, class, y, x) of the images' size, 0 to 1."""
    from pytorch_grad_cam import GradCAM, ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    found = []
    make = GradCAM if kind == "gradcam" else ScoreCAM
    quiet = contextlib.redirect_stderr(io.StringIO())  # no bars among the figures
    with quiet, warnings.catch_warnings(), make(model=model, target_layers=[model.layer4]) as engine:
        warnings.simplefilter("ignore")
        for rank in range(classes.shape[1]):
            targets = [ClassifierOutputTarget(int(c)) for c in classes[:, rank]]
            found.append(engine(input_tensor=images.clone(), targets=targets))
    return np.stack(found, 1)


def published(maps: np.ndarray) -> np.ndarray:
    """Return maps as pytorch-grad-cam shows them: positive part, 0 to 1, bilinear at the size of the image."""
    import cv2

    def stretched(values: np.ndarray) -> np.ndarray:
        values = values - values.min()
        return values / (1e-7 + values.max())

    positive = np.maximum(maps, 0).reshape(-1, *maps.shape[2:])
    large = [stretched(cv2.resize(np.float32(stretched(one)), SIZE[:0:-1])) for one in positive]
    return np.stack(large).reshape(*maps.shape[:2], *SIZE[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64, help="of Grad-CAM; 0: none")
    parser.add_argument("--masked", type=int, default=1, help="images of Score-CAM; 0: none")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    try:
        import pytorch_grad_cam  # noqa: F401
    except ImportError as error:
        print(f"pytorch-grad-cam is not there ({error})")
        print("pip install --no-deps grad-cam ttach; pip install opencv-python-headless")
        return
    model = network()
    layer = find(model, "layer4", SIZE)[0]
    print(f"ResNet-18, {CLASSES} classes, {asked.threads} threads; seconds")
    print(f"{'':10}{'images':>7}{'ours':>9}{'theirs':>9}{'ratio':>8}{'bare':>8}{'difference':>12}")
    for kind, count in (("gradcam", asked.images), ("scorecam", asked.masked)):
        if not count:
            continue
        images = torch.randn(count, *SIZE, generator=torch.Generator().manual_seed(1))
        labels = torch.full((count,), -1)

        def ours() -> Found:
            with ClassMaps(model, layer, SIZE, kind, filling="zero") as engine:
                return engine.maps(images, labels, Choice(CLASSES))

        def bare() -> None:
            with torch.inference_mode():
                model(images)

        found = ours()
        peer = theirs(model, kind, images, found.classes)
        difference = np.abs(published(found.maps) - peer).max()
        times = asked.repetitions if kind == "gradcam" else 1
        spent = shortest(ours, lambda: theirs(model, kind, images, found.classes), bare, times=times)
        print(f"{kind:10}{count:7}{spent[0]:9.2f}{spent[1]:9.2f}{spent[1] / spent[0]:8.1f}{spent[2]:8.2f}"
              f"{difference:12.1e}", flush=True)  # fmt: skip
    print("Score-CAM: theirs enlarges maps with the corners aligned, ours does not, hence the difference")


if __name__ == "__main__":
    main()
