from typing import get_args

from cnnprobe.methods.transfer.comparison import columns


def test_whatever_has_two_sides_has_a_column_for_either():
    for part in get_args(columns.FeaturePart):
        assert [columns.feature_column(part, side) for side in columns.SIDES] == [f"{part}_before", f"{part}_after"]
    for part in get_args(columns.UnitPart):
        assert [columns.unit_column(part, side) for side in columns.SIDES] == [f"{part}_before", f"{part}_after"]
    sided = [name for name in get_args(columns.UnitColumn) if name.endswith(("_before", "_after"))]
    assert len(sided) == 2 * len(get_args(columns.UnitPart))
