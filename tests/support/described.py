"""One description per command: what the tests that run over all commands need to know of each.

A new command has an entry here, or `tests/promises/test_every_method.py` says that it has none.
"""

from dataclasses import dataclass, field
from typing import Any

LAYERS = ["conv1", "conv2"]


@dataclass(frozen=True)
class Description:
    """What is known of a command.

    Args:
        words: overrides of a quick run on the command line, beside the model and the images.
        options: of a quick call from Python, beside the network and the images.
        refused: options that cannot be, with the words that the one line must have.
        answers: tests in which a planted network or a closed formula knows the answer.
        many: options that ask for more images than a handful; None where no images are chosen.
        spared: tests over all commands that have no meaning for this one, each with the reason.
        stimuli: the dataset of the command's own stimuli; "" where it takes any.
        learns: it teaches the network that it is given, and asks for held-out images.
        exact: largest difference that rounding may make, as a share of the largest number of a column.
        stepwise: options, beside those of a quick call, that make it take many steps until a row is done.
    """

    words: tuple[str, ...]
    options: dict[str, Any]
    refused: tuple[tuple[dict[str, Any], str], ...]
    answers: tuple[str, ...]
    many: dict[str, Any] | None = None
    spared: dict[str, str] = field(default_factory=dict)
    stimuli: str = ""
    learns: bool = False
    exact: float = 1e-5
    stepwise: dict[str, Any] = field(default_factory=dict)


TEACHES = "it teaches the network that it is given"
OWN_STIMULI = "its stimuli are manufactured, no images are given"
UNSEEN = "it shows the network one image of noise and stores no response"
UNCHOSEN = "no images are chosen by their response"
OF_TEACHING = {
    "test_a_network_comes_back_as_it_was": TEACHES,
    "test_also_after_an_error_or_an_interrupt_inside": TEACHES,
    "test_also_when_the_reader_stops_half_way": TEACHES,
    "test_a_network_in_train_mode_is_probed_as_in_eval_mode": TEACHES,
    "test_the_batch_size_changes_nothing_beyond_rounding": "how many images make an update is part of what is learned",
    "test_an_image_that_is_not_a_number_changes_nothing_of_the_others": "images are learned in an order of their own",
}

COMMANDS = {
    "train": Description(
        words=("epochs=2", "batch_size=8", "checkpoints=all", "precision=float32"),
        options={"epochs": 2, "batch_size": 8, "precision": "float32"},
        refused=(
            ({"lr": 0.0}, "lr must be a finite number, above 0, got 0.0"),
            ({"batch_size": 1}, "batch_size must be 2 or more for a network with BatchNorm, got 1"),
            ({"optimizer": "sdg"}, "optimizer must be sgd, adam or adamw, got 'sdg'"),
            ({"layer": "conv1"}, "no option 'layer'"),
        ),
        answers=("tests/methods/train/test_loop.py::test_equals_a_loop_written_by_hand",),
        spared=OF_TEACHING | {"test_more_places_than_images_stay_empty": UNCHOSEN},
        learns=True,
    ),
    "transfer": Description(
        words=("mode=scratch", "epochs=2", "batch_size=8", "precision=float32", "layer=[conv1,conv2]", "compared=8"),
        options={
            "epochs": 2,
            "batch_size": 8,
            "precision": "float32",
            "layer": LAYERS,
            "forgetting": "new",
            "compared": 16,
            "top_images": 3,
            "most_changed": 1,
        },
        refused=(
            ({"mode": "staged", "stage_epochs": 2}, "stage_epochs must be less than the 2 epochs of staged, got 2"),
            ({"forgetting": "old"}, "forgetting=old needs an old task; name a run by old_task=RUN"),
            ({"layer": "logits"}, "layer logits is the readout"),
            ({"fraction": 0.0}, "fraction must be a finite number, above 0 and at most 1, got 0.0"),
        ),
        answers=("tests/methods/transfer/test_method.py::test_a_probe_reaches_what_the_closed_form_does",),
        many={"top_images": 999},
        spared=OF_TEACHING,
        learns=True,
    ),
    "layers": Description(
        words=(),
        options={"size": (3, 32, 32)},
        refused=(
            ({"size": (3, 2, 2)}, "cannot take an image of 3x2x2"),
            ({"kind": "some"}, "kind must be main or all, got 'some'"),
        ),
        answers=(
            "tests/instruments/network/test_receptive_field.py::test_gathering_windows_gives_the_formula",
            "tests/instruments/layers/test_naming.py::test_alexnet_has_61_million_parameters_and_costs_714_million_products",
        ),
        spared={
            "test_also_after_an_error_or_an_interrupt_inside": "the network runs once",
            "test_also_when_the_reader_stops_half_way": "all rows come at once",
            "test_the_batch_size_changes_nothing_beyond_rounding": UNSEEN,
            "test_an_image_that_is_not_a_number_changes_nothing_of_the_others": UNSEEN,
            "test_a_network_that_answers_nan_is_told": UNSEEN,
            "test_an_image_that_the_network_answers_with_nan_never_ranks": UNSEEN,
            "test_one_image_is_measured_or_refused": UNSEEN,
            "test_images_of_one_class_are_measured_or_refused": UNSEEN,
            "test_more_places_than_images_stay_empty": UNCHOSEN,
        },
    ),
    "record": Description(
        words=("layer=[conv1,conv2]", "batch_size=8"),
        options={"layer": LAYERS, "batch_size": 8, "keep": "maps"},
        refused=(
            ({"layer": "conv9"}, "no layer 'conv9'"),
            ({"keep": "all"}, "keep must be summary or maps, got 'all'"),
        ),
        answers=("tests/methods/record/test_method.py::test_maps_summaries_and_predictions_are_those_of_the_network",),
        spared={"test_more_places_than_images_stay_empty": UNCHOSEN},
    ),
    "topk": Description(
        words=("layer=[conv1,conv2]", "k=3", "batch_size=8", "criterion=[max,mean,area]"),
        options={"layer": LAYERS, "batch_size": 8, "criterion": ["max", "mean", "area"], "k": 3},
        refused=(
            ({"k": 0}, "k must be a whole number, from 1 to 1000, got 0"),
            ({"units": [77]}, "conv1 has units 0 to 5, got 77"),
            ({"pages": [77]}, "pages=77: that unit is not among those ranked"),
            ({"criterion": "min"}, "criterion must be max, mean, area or a list of"),
        ),
        answers=(
            "tests/methods/test_topk.py::test_three_images_are_ordered_by_each_criterion_as_the_known_answer_says",
            "tests/methods/test_topk.py::test_a_gabor_answers_most_to_the_grating_of_its_own_orientation",
        ),
        many={"k": 9},
        stepwise={"batch_size": 2},
    ),
    "rf-map": Description(
        words=("layer=[conv1,conv3]", "top_images=2", "patch_size=6", "stride=6", "draws=2", "batch_size=8"),
        options={"layer": LAYERS, "batch_size": 8, "top_images": 2, "patch_size": 8, "stride": 8},
        refused=(
            ({"patch_size": 99}, "patch_size must be from 1 to 32 (the image's side), got 99"),
            ({"units": [77]}, "conv1 has units 0 to 5, got 77"),
            ({"pages": [77]}, "pages=77: that unit is not among those mapped"),
            ({"filling": "ones"}, "filling must be noise, mean, zero or blur, got 'ones'"),
        ),
        answers=(
            "tests/methods/rf_map/test_method.py::test_a_planted_template_is_found_where_it_is",
            "tests/methods/rf_map/test_method.py::test_planted_fields_are_found_in_place_and_size_also_at_borders",
        ),
        many={"top_images": 9},
    ),
    "gbp": Description(
        words=("layer=[conv1,conv3]", "top_images=4", "keep=2", "batch_size=8", "sanity=true"),
        options={"layer": LAYERS, "batch_size": 8, "top_images": 4, "sanity": True},
        refused=(
            ({"layer": None}, "needs layer=… (or target=class); layers of the model: conv1, conv2"),
            ({"target": "class"}, "target=class maps the logits: leave out layer="),
            ({"units": "best:9"}, "units=best:9 asks for 9 units, a layer has 4"),
            ({"top_images": 0}, "top_images must be a whole number, from 1 to 100000 or null, got 0"),
        ),
        answers=("tests/methods/gbp/test_method.py::test_a_gabor_is_found_exactly",),
        many={"top_images": 9},
    ),
    "cam": Description(
        words=("top_classes=2", "layer=conv4", "batch_size=8"),
        options={"batch_size": 8, "top_classes": 3},
        refused=(
            ({"class": 8}, "the network has classes 0 to 7, got class=8"),
            ({"layer": "conv9"}, "no layer 'conv9'"),
            ({"images": [99]}, "there are images 0 to 23, got 99"),
            ({"images": "best:3"}, "images=best:3 are those of one class; say class=…"),
        ),
        answers=("tests/methods/cam/test_method.py::test_maps_of_a_detector_point_at_the_object",),
        many={"images": "best:9", "class": 0},
        stepwise={"batch_size": 2},
    ),
    "optimize": Description(
        words=("layer=[conv1,conv3]", "steps=4", "preset=[standard,yosinski-4]", "starts=2", "batch_size=8"),
        options={"layer": LAYERS, "batch_size": 8, "steps": 4, "top_images": 2},
        refused=(
            ({"layer": None}, "needs layer=…; layers of the model: conv1"),
            ({"diversity": 1.0}, "starts must be 2 or more"),
            ({"preset": "lucidd"}, "did you mean 'lucid'"),
            ({"objective": "neuron", "position": [99, 0]}, "is not on the map of conv1"),
        ),
        answers=(
            "tests/methods/optimize/ascent/test_rows.py::test_l2_gives_half_the_template_by_its_weight",
            "tests/methods/optimize/ascent/test_rows.py::test_in_a_box_a_linear_unit_wants_its_corners",
        ),
        many={"top_images": 9},
        stepwise={"batch_size": 2},
    ),
    "perturb": Description(
        words=(
            "layer=[conv1,conv3]",
            "kind=both",
            "bands=2",
            "draws=2",
            "permutations=9",
            "gradient_images=4",
            "batch_size=8",
        ),
        options={"layer": LAYERS, "batch_size": 8, "kind": "both", "draws": 2, "permutations": 9, "gradient_images": 4},
        refused=(
            ({"bands": [0.2, 0.1]}, "bands must be edges that rise"),
            ({"pages": 77}, "pages=77: that unit is not among those measured"),
            ({"noise": "additive"}, "noise=additive has noise for each channel: it is for signals"),
        ),
        answers=("tests/methods/perturb/test_perturbation.py::test_a_unit_that_is_an_amplitude_is_found",),
        spared={"test_more_places_than_images_stay_empty": UNCHOSEN},
        exact=2e-4,  # it correlates changes of a response, some per cent of what is rounded; partial ones are larger
        stepwise={"permutations": 3, "draws": 2},
    ),
    "lesion": Description(
        words=("layer=[conv1,conv2]", "units=[0,1]", "how=[swap,mean,zero]", "share=[0.5,1]", "batch_size=8"),
        options={
            "layer": LAYERS,
            "batch_size": 8,
            "units": [0, 1],
            "how": ["swap", "mean", "zero"],
            "share": [0.5, 1],
            "controls": 2,
        },
        refused=(
            ({"layer": "conv9"}, "no layer 'conv9'"),
            ({"units": [77]}, "conv1 has units 0 to 5, got 77"),
            ({"units": "best:2"}, "units=best:2 needs localizer=CLASS_A>CLASS_B"),
            ({"localizer": "a>b"}, "localizer=a>b finds units=best:N"),
            ({"controls": 9, "units": "all"}, "controls=9 are lesions of as many other units"),
        ),
        answers=(
            "tests/methods/lesion/test_method.py::"
            "test_a_class_is_lost_with_the_one_unit_that_finds_it_and_with_no_other",
            "tests/methods/lesion/test_lesioning.py::test_deep_networks_with_parts_that_pass_beside_are_those_with_hooks",
        ),
        spared={
            "test_more_places_than_images_stay_empty": UNCHOSEN,
            "test_an_image_that_is_not_a_number_changes_nothing_of_the_others": "its activation is another image's",
        },
        stepwise={"batch_size": 2},
    ),
    "rsa": Description(
        words=("layer=[conv1,conv2]", "batch_size=8", "bootstrap=9", "permutations=9"),
        options={"layer": LAYERS, "batch_size": 8, "bootstrap": 4, "permutations": 4},
        refused=(
            ({"layer": "conv9"}, "no layer 'conv9'"),
            ({"metric": "manhattan"}, "metric must be correlation, spearman"),
            ({"mask": "brain.nii"}, "mask= is of the volumes of searchlight=…, which is missing"),
        ),
        answers=(
            "tests/methods/rsa/test_rsa_brain.py::test_the_pixels_are_found_in_space_and_time_where_they_were_planted",
        ),
        spared={"test_more_places_than_images_stay_empty": UNCHOSEN},
        stepwise={"bootstrap": 6, "permutations": 8},
    ),
    "tuning": Description(
        words=(
            "layer=[conv1,conv2]",
            "batch_size=32",
            "units=0:2",
            "pages=0",
            "dataset.orientations=4",
            "dataset.frequencies=2",
            "dataset.phases=4",
        ),
        options={"layer": LAYERS, "batch_size": 8},
        refused=(
            ({"strength": "f1", "reading": "max"}, "strength=f1 follows one neuron through the phases"),
            ({"pages": 77}, "pages=77: that unit is not among those measured"),
            ({"gabor": True}, "they are fitted to square filters of 5 px and more, got 3 x 3"),
        ),
        answers=("tests/methods/tuning/test_method.py::test_bandwidths_of_a_gabor_layer_are_those_of_the_formula",),
        spared={
            "test_an_image_that_is_not_a_number_changes_nothing_of_the_others": OWN_STIMULI,
            "test_one_image_is_measured_or_refused": OWN_STIMULI,
            "test_images_of_one_class_are_measured_or_refused": OWN_STIMULI,
            "test_more_places_than_images_stay_empty": OWN_STIMULI,
        },
        stimuli="manufactured",
        stepwise={"batch_size": 8},
    ),
}


def taking(test: str) -> list[str]:
    """Return the commands that a test over all commands is for."""
    return [command for command, one in COMMANDS.items() if test not in one.spared]
