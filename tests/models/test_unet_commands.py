"""Every command on a network that gives a class for every pixel: it works, or says in one line what to do instead."""

import pytest

WORDS = ["model=unet", "model.width=2", "model.depth=2", "model.input_size=16", "weights=random", "device.workers=0"]
SHAPES = ["dataset=shapes", "dataset.target=mask", "dataset.count=4"]
WORKS = [
    ["layers"],
    ["record", *SHAPES],
    [
        "rsa",
        "layer=[contract1,expand1]",
        "reference=labels",
        "dataset=shapes",
        "dataset.target=mask",
        "dataset.count=8",
    ],
    ["topk", "layer=[contract1,bottom,expand1,logits]", "k=2", *SHAPES],
    ["rf-map", "layer=[bottom,expand2,logits]", "units=0:1", "top_images=1", "patch_size=4", "stride=4", *SHAPES],
    ["gbp", "layer=[bottom,expand1,logits]", "units=0:1", "top_images=1", *SHAPES],
    ["optimize", "layer=logits", "units=1", "steps=2", *SHAPES],
    ["perturb", "layer=logits", "units=1", "limit=3", *SHAPES],
    ["cam", *SHAPES],
    ["lesion", "layer=[skip*,rise*]", *SHAPES],
]
REFUSED = [
    (["cam", "kind=scorecam", *SHAPES], "kind=scorecam needs one output per image, this network returns maps"),
    (["lesion", "layer=skip1", "measure=accuracy", *SHAPES], "say measure=iou"),
    (["train", "dataset=shapes"], "say dataset.target=mask"),
    (["tuning", "layer=bottom", *SHAPES], "tuning shows dataset=manufactured"),
]


@pytest.mark.parametrize("words", WORKS, ids=[words[0] for words in WORKS])
def test_it_works(cnnprobe, words):
    answer = cnnprobe(words[0], *WORDS, *words[1:])
    assert answer.status == 0, answer.err


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[words[0] for words, _ in REFUSED])
def test_it_says_what_to_do_instead(cnnprobe, words, said):
    given = [word for word in WORDS if words[0] != "train" or word != "weights=random"]
    answer = cnnprobe(words[0], *given, *words[1:])
    assert answer.status == 2
    assert said in answer.err
    assert len(answer.err.strip().splitlines()) == 1


@pytest.mark.slow
def test_it_learns_other_masks(cnnprobe):
    """The readout is replaced; how much is forgotten is told by the intersection over union of the old masks."""
    images = ["dataset=shapes", "dataset.target=mask", "dataset.count=8", "device.workers=0", "epochs=1"]
    taught = [word for word in WORDS if word != "weights=random"]
    assert cnnprobe("train", *taught[:-1], *images, "name=taught").status == 0
    other = ["transfer", "model=unet", "weights=outputs/train/taught/v001", "dataset.seed=5", "name=other"]
    answer = cnnprobe(*other, *images, "top_images=2")
    assert answer.status == 0, answer.err
    assert "old task" in answer.out
