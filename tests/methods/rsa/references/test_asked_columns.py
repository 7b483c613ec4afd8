"""The column of a table that is named behind the colon, reference=FILE:COLUMN."""

from itertools import combinations

import pytest

from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.references.named import load


@pytest.mark.parametrize("kind", ["features", "pairs", "numbers"])
def test_of_two_columns_of_one_name_none_is_taken(tmp_path, kind):
    """F95: the first was."""
    names = [f"im{number}" for number in range(4)]
    pairs = list(combinations(range(4), 2))
    rows = {
        "features": [f"{name},{place},{place * place}" for place, name in enumerate(names)],
        "pairs": [f"{names[a]},{names[b]},{a + b},{a * b}" for a, b in pairs],
        "numbers": [f"{a},{b},{a + b + 0.5},{a * b + 0.5}" for a, b in pairs],
    }[kind]
    head = "image,size,size" if kind == "features" else "i,j,size,size"
    (tmp_path / "a.csv").write_text("\n".join([head, *rows]) + "\n")
    with pytest.raises(UserError, match=r"2 columns of .*a.csv are called 'size': .*; give each a name of its own$"):
        load(f"{tmp_path}/a.csv:size", conditions=names)
    with pytest.raises(UserError, match=r"no column 'siz' in .*a.csv; did you mean 'size'\? columns: "):
        load(f"{tmp_path}/a.csv:siz", conditions=names)


def test_features_with_a_large_mean_keep_their_distances(tmp_path):
    """F90: times in seconds since 1970 were all alike, or as far apart as rounding."""
    seconds = [0, 3, 10, 14]
    (tmp_path / "a.csv").write_text("image,time\n" + "".join(f"im{at},{17e8 + at:.0f}\n" for at in seconds))
    (one,) = load(f"{tmp_path}/a.csv:time", conditions=[f"im{at}" for at in seconds])
    assert one.matrices.ravel().tolist() == [3, 10, 14, 7, 11, 4]
