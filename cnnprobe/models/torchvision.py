"""Any classifier of torchvision, by its name there."""

from typing import Annotated

from torch import nn

from cnnprobe.config.options import Range
from cnnprobe.errors import UserError, listing, unknown
from cnnprobe.instruments.network.about import About
from cnnprobe.models.parts.inputs import Input
from cnnprobe.models.parts.normalisation import IMAGENET, normalise

SIZES = {"squeezenet1_0": (227, 256), "inception_v3": (299, 342)}
"""Side and shorter side before cropping, px, where they are not 224 and 256."""


def needs(*, arch: str, input_size: Annotated[int, Range(1)] | None) -> Input:
    """Say which images the network was made for: 224 px out of 256, unless `input_size` says otherwise."""
    check_known(arch)
    return image_size(arch, input_size)


def build(
    *, num_classes: Annotated[int, Range(1)] | None, arch: str, input_size: Annotated[int, Range(1)] | None
) -> nn.Module:
    """Build a classifier of torchvision, see `classifier`."""
    return classifier(arch, num_classes, input_size)


def architecture(*, arch: str, input_size: int | None) -> str:
    """Return torchvision's name of the network."""
    return arch


def check_known(arch: str) -> None:
    """Raise UserError where torchvision has no classifier of that name."""
    from torchvision import models

    names = models.list_models(module=models)
    if arch not in names:
        if arch in models.list_models():
            raise UserError(f"{arch} of torchvision is no classifier of images; archs: {listing(names)}")
        raise unknown("arch", arch, names, of="torchvision")


def image_size(arch: str, input_size: int | None) -> Input:
    """Return the images an architecture is shown; another side keeps the share of the image that is cropped."""
    size, resize = SIZES.get(arch, (224, 256))
    side = input_size or size
    return Input(channels=3, size=side, resize=round(side * resize / size))


def classifier(arch: str, num_classes: int | None, input_size: int | None) -> nn.Module:
    """Build a network of torchvision in eval() mode, with random weights and the normalisation of ImageNet inside.

    Args:
        arch: a name of `torchvision.models.list_models()`, classifiers only.
        num_classes: None is 1000.
        input_size: side of the images, px; None is what the network was made for.

    Returns:
        A network of (image, 3, y, x), 0 to 1, to (image, class); module paths and state dict are torchvision's.

    Raises:
        UserError: torchvision has no such classifier, or it takes no images of that side.
    """
    from torchvision import models

    check_known(arch)
    options = {}
    if arch.startswith("vit_") and input_size:
        options["image_size"] = input_size
    if arch in ("googlenet", "inception_v3"):  # published weights want -1 to 1, which transform_input makes
        options = {"aux_logits": False, "init_weights": True, "transform_input": True}
    try:
        model = models.get_model(arch, weights=None, num_classes=num_classes or 1000, **options)
    except (AssertionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{arch} cannot be built for images of {input_size} px: {reason}") from None
    side = image_size(arch, input_size).size
    model.cnnprobe = About(input_size=(3, side, side))
    return normalise(model, *IMAGENET).eval()
