"""Every command on a network of capsules: it works, or says in one line what to do instead."""

import pytest

SMALL = [
    "model.width=4",
    "model.kernel=5",
    "model.types=2",
    "model.input_size=20",
    "model.decoder=[8]",
    "model.num_classes=8",
]
WORDS = ["model=capsnet", *SMALL, "weights=random", "device.workers=0"]
POSES = ["dataset=poses", "dataset.count=8"]
WORKS = [
    ["layers"],
    ["record", *POSES],
    ["topk", "layer=[types,lengths,pose]", "bottom=true", "k=2", *POSES],
    ["rf-map", "layer=[conv1,types]", "units=0:1", "top_images=1", "patch_size=4", "stride=4", *POSES],
    ["gbp", "rule=gradient", "layer=[types,logits]", "units=0:1", "top_images=1", *POSES],
    ["optimize", "units=1", "objective=class", "steps=2", *POSES],
    ["optimize", "objective=rendered", "units=0:2", *POSES],
    ["cam", *POSES],
    ["cam", "kind=votes", *POSES],
    ["perturb", "layer=logits", "units=1", "limit=3", *POSES],
    ["tuning", "layer=[pose,lengths]", *POSES],
    ["tuning", "layer=lengths", "dataset=poses", "dataset.grid=3"],
    ["rsa", "layer=[pose,lengths]", "reference=[labels,pixels]", *POSES],
    ["lesion", "layer=couplings", "how=mean", *POSES],
]
QUICK = [words for words in WORKS if words[0] in ("optimize", "tuning") or "kind=votes" in words]
"""What the network alone has, or has in another way; the others are tried among the slow tests."""
REFUSED = [
    (
        ["gbp", "layer=types", *POSES],
        "rule=guided is defined for rectifiers (ReLU, ReLU6), and the network has div, square",
    ),
    (["cam", "kind=cam", *POSES], "kind=cam needs a layer that is pooled evenly and read by one linear layer"),
    (["optimize", "objective=rendered", "model.decoder=null", *POSES], "needs a network with a decoder"),
    (["optimize", "objective=rendered", "layer=lengths", *POSES], "say layer=pose, got lengths"),
    (["tuning", "layer=lengths", "dataset.shapes=2", *POSES], "tuning shows dataset=manufactured"),
]


@pytest.mark.parametrize(
    "words",
    [pytest.param(words, marks=() if words in QUICK else pytest.mark.slow, id=" ".join(words[:2])) for words in WORKS],
)
def test_it_works(cnnprobe, words):
    answer = cnnprobe(words[0], *WORDS, *words[1:])
    assert answer.status == 0, answer.err


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[" ".join(words[:2]) for words, _ in REFUSED])
def test_it_says_what_to_do_instead(cnnprobe, words, said):
    answer = cnnprobe(words[0], *WORDS, *words[1:])
    assert answer.status == 2
    assert said in answer.err.strip().splitlines()[-1]  # behind warnings
    assert "Traceback" not in answer.err


@pytest.mark.slow
def test_it_has_no_readout_to_replace(cnnprobe):
    images = [*POSES, "device.workers=0", "epochs=1"]
    assert cnnprobe("train", "model=capsnet", *SMALL, *images, "augment=none", "name=taught").status == 0
    other = ["transfer", "model=capsnet", "weights=outputs/train/taught/v001", "dataset.seed=5"]
    answer = cnnprobe(*other, *images)
    assert answer.status == 2 and "Traceback" not in answer.err
    assert "no readout to replace" in answer.err.strip().splitlines()[-1]
