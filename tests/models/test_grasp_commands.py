"""Every command on a network that returns courses: it works, or says in one line what to do instead."""

import pytest

WORDS = ["model=grasp", "model.units=6", "model.features=3", "model.step=0.05", "model.input_size=16"]
OBJECTS = ["dataset=grasps", "dataset.step=0.05", "dataset.count=8"]
GRATINGS = ["dataset.orientations=4", "dataset.frequencies=2", "dataset.phases=3"]
MAPPED = ["units=0:1", "top_images=1", "patch_size=8", "stride=8"]
WORKS = [
    ["record", "layer=[AIP,features,M1.memory]", "keep=maps", *OBJECTS],
    ["topk", "layer=[conv2,features,AIP,F5.memory,logits]", "k=2", *OBJECTS],
    ["rf-map", "layer=[conv2,AIP,AIP.memory,logits]", *MAPPED, *OBJECTS],
    ["gbp", "layer=[conv2,AIP,AIP.memory,logits]", "rule=gradient", *MAPPED[:2], *OBJECTS],
    ["optimize", "layer=[AIP.memory,M1,logits]", "units=0:1", "steps=2", *OBJECTS],
    ["optimize", "layer=AIP", "objective=neuron", "position=[12]", "units=0:1", "steps=2", *OBJECTS],
    ["perturb", "layer=[conv2,AIP,AIP.memory]", "units=0:1", *OBJECTS],
    ["tuning", "layer=[AIP.visual,M1.movement]", *GRATINGS],
    ["tuning", "layer=[AIP.visual,AIP.memory,M1.movement]", *OBJECTS],
    ["rsa", "layer=[AIP.*,M1.*]", "reference=labels", *OBJECTS],
    ["lesion", "layer=[features,AIP,AIP-F5]", "share=[0.5,1]", "draws=2", *OBJECTS],
]
REFUSED = [
    (["gbp", "layer=AIP", "top_images=1", *OBJECTS], "tanh"),
    (["cam", *OBJECTS], "cam needs classes or maps, this network returns courses; gbp rule=gradient layer=logits"),
    (["lesion", "layer=AIP", "how=swap", *OBJECTS], "AIP acts at every step of a recurrence: how=zero"),
    (
        ["record", "dataset=grasps", "dataset.show=labels", "dataset.hold_out=kinds"],
        "a label never learned says nothing",
    ),
    (["optimize", "layer=AIP", "objective=neuron", "position=[36]", *OBJECTS], "is not on the map of AIP, which is 36"),
    (["train", "dataset=grasps", "augment=none"], "the courses of grasps have 8 x 55 (channel x time)"),
    (["train", "augment=[crop]", *OBJECTS], "augment of images with courses is none"),
    (["train", "dataset=shapes"], "it gives courses"),
]


@pytest.mark.slow
@pytest.mark.parametrize("words", WORKS, ids=[words[0] for words in WORKS])
def test_it_works(cnnprobe, words):
    answer = cnnprobe(words[0], *WORDS, "weights=random", "device.workers=0", *words[1:])
    assert answer.status == 0, answer.err


@pytest.mark.slow
def test_it_learns_other_objects(cnnprobe):
    taught = ["train", *WORDS, *OBJECTS, "device.workers=0", "augment=none", "epochs=1", "dataset.hold_out=kinds"]
    assert cnnprobe(*taught, "name=taught").status == 0
    other = ["transfer", "model=grasp", "weights=outputs/train/taught/v001", *OBJECTS, "dataset.seed=5", "name=other"]
    answer = cnnprobe(*other, "device.workers=0", "augment=none", "epochs=1", "top_images=2")
    assert answer.status == 0, answer.err
    assert "old task" in answer.out


def test_its_layers_are_listed(cnnprobe):
    answer = cnnprobe("layers", *WORDS, "weights=random", *OBJECTS)
    assert answer.status == 0 and "AIP.memory" in answer.out and "readout" in answer.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"), REFUSED, ids=[f"{words[0]} {place}" for place, (words, _) in enumerate(REFUSED)]
)
def test_it_says_what_to_do_instead(cnnprobe, words, said):
    given = [*WORDS, "device.workers=0"] + ["weights=random"] * (words[0] != "train")
    answer = cnnprobe(words[0], *given, *words[1:])
    assert answer.status == 2
    assert said in answer.err
    assert len(answer.err.strip().splitlines()) == 1
