"""Small made copies of the official layouts of COCO 2017, Places365 and Open Images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RED = (220, 30, 30)
GREY = (90, 90, 90)


def picture(path: Path, height: int, width: int, boxes: tuple[tuple[int, int, int, int], ...] = ()) -> None:
    """Save a grey picture with red rectangles (top, left, bottom, right), px."""
    pixels = np.full((height, width, 3), GREY, np.uint8)
    for top, left, bottom, right in boxes:
        pixels[top:bottom, left:right] = RED
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({} if path.suffix == ".png" else {"quality": 100, "subsampling": 0}))


def around(top: int, left: int, bottom: int, right: int) -> dict[str, Any]:
    """Return box, outline and area of a rectangle as COCO writes them."""
    return {
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        "area": float((bottom - top) * (right - left)),
        "iscrowd": 0,
    }


def coco(root: Path) -> dict[str, Any]:
    """Write three images each of val2017 and train2017, two of unlabeled2017; return the annotations of val2017.

    Image 9 holds a small person (id 1) and a large dog (id 18); 25 two cats (id 17) and a crowd over all; 4 nothing.
    Of the images to train 100 holds a person, 102 a dog, 101 nothing.
    """
    sizes = {9: (60, 80), 25: (40, 40), 4: (30, 50)}
    objects = [
        {"image_id": 25, "category_id": 17, **around(2, 3, 12, 23)},
        {"image_id": 9, "category_id": 1, **around(0, 0, 10, 10)},
        {"image_id": 9, "category_id": 18, **around(20, 20, 50, 60)},
        {"image_id": 25, "category_id": 1, **around(0, 0, 40, 40), "iscrowd": 1},
        {"image_id": 25, "category_id": 17, **around(30, 30, 38, 40)},
    ]
    objects[3]["segmentation"] = {"counts": [0, 1600], "size": [40, 40]}
    drawn = {9: ((20, 20, 50, 60),), 25: ((2, 3, 12, 23), (30, 30, 38, 40)), 4: ()}
    for number, (height, width) in sizes.items():
        picture(root / "val2017" / f"{number:012d}.jpg", height, width, drawn[number])
    about = {
        "info": {"year": 2017},
        "licenses": [],
        "images": [
            {"id": number, "file_name": f"{number:012d}.jpg", "height": height, "width": width}
            for number, (height, width) in sizes.items()
        ],
        "annotations": objects,
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 17, "name": "cat"}],
    }
    annotate(root, about)
    for number in (100, 101, 102):
        picture(root / "train2017" / f"{number:012d}.jpg", 30, 30)
    train = about | {
        "images": [
            {"id": number, "file_name": f"{number:012d}.jpg", "height": 30, "width": 30} for number in (100, 101, 102)
        ],
        "annotations": [
            {"image_id": 100, "category_id": 1, **around(1, 1, 9, 9)},
            {"image_id": 102, "category_id": 18, **around(1, 1, 9, 9)},
        ],
    }
    annotate(root, train, "train2017")
    for number in (7, 3):
        picture(root / "unlabeled2017" / f"{number:012d}.jpg", 20, 30)
    return about


def annotate(root: Path, about: Any, part: str = "val2017") -> Path:
    """Write a file of annotations of COCO."""
    path = root / "annotations" / f"instances_{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(about if isinstance(about, str) else json.dumps(about))
    return path


def places(root: Path) -> None:
    """Write three classes with four small images to train and three held out, one of them large as well."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "categories_places365.txt").write_text("/a/airfield 0\n/s/swimming_pool/indoor 1\n/z/zen_garden 2\n")
    train = ["/s/swimming_pool/indoor/00000001.jpg 1", "/a/airfield/00000002.jpg 0", "/a/airfield/00000001.jpg 0",
             "/z/zen_garden/00000001.jpg 2"]  # fmt: skip
    (root / "places365_train_standard.txt").write_text("\n".join(train) + "\n")
    for line in train:
        picture(root / "data_256_standard" / line.split()[0][1:], 32, 32)
    held = [f"Places365_val_{number:08d}.jpg" for number in (1, 2, 3)]
    (root / "places365_val.txt").write_text("".join(f"{name} {2 - i}\n" for i, name in enumerate(held)))
    for name in held:
        picture(root / "val_256" / name, 32, 32)
        picture(root / "val_large" / name, 60, 64)


IDS = ("000595fe6fee6369", "0001eeaf4aed83f9", "f000000000000001", "00075905539074f2")
BOX_COLUMNS = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)


def openimages(root: Path) -> None:
    """Write four images of validation/, with boxes of three classes, and labels of four.

    In order of their names the largest boxes are of Tortoise (one of two), Magpie, none (a group alone), Container.
    """
    for name in IDS:
        picture(root / "validation" / f"{name}.jpg", 40, 80, ((10, 20, 30, 60),))
    root.joinpath("class-descriptions-boxable.csv").write_text(
        '/m/011k07,Tortoise\n/m/011q46kg,Container\n/m/012074,"Magpie, common"\n'
    )
    root.joinpath("oidv7-class-descriptions.csv").write_text(
        "LabelName,DisplayName\n/m/0a,Sky\n/m/011k07,Tortoise\n/m/0b,Sea\n/m/0c,Snow\n"
    )
    folder = root / "annotations"
    folder.mkdir()
    (folder / "validation-annotations-bbox.csv").write_text(
        BOX_COLUMNS
        + "0001eeaf4aed83f9,xclick,/m/011k07,1,0.25,0.75,0.25,0.75,0,0,0,0,0\n"
        + "0001eeaf4aed83f9,xclick,/m/011q46kg,1,0.1,0.2,0.1,0.2,0,0,0,0,0\n"
        + "0001eeaf4aed83f9,xclick,/m/011k07,1,0,0.1,0.5,1,0,0,0,0,0\n"
        + "000595fe6fee6369,xclick,/m/012074,1,0.25,0.75,0.25,0.75,0,0,0,0,0\n"
        + "00075905539074f2,xclick,/m/012074,1,0,1,0,1,0,0,1,0,0\n"
        + "aaaaaaaaaaaaaaaa,xclick,/m/012074,1,0,1,0,1,0,0,0,0,0\n"
        + "f000000000000001,xclick,/m/011q46kg,1,0.3,0.4,0.3,0.4,1,1,-1,-1,-1\n"
    )
    (folder / "oidv7-val-annotations-human-imagelabels.csv").write_text(
        "ImageID,Source,LabelName,Confidence\n"
        "0001eeaf4aed83f9,verification,/m/0a,0\n"
        "0001eeaf4aed83f9,verification,/m/0c,1\n"
        "0001eeaf4aed83f9,verification,/m/0b,1\n"
        "f000000000000001,crowdsource-verification,/m/0b,1\n"
        "00075905539074f2,verification,/m/0not-listed,1\n"
    )
