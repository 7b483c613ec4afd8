import pytest

from cnnprobe.datasets.base.labels.class_tables import class_table
from cnnprobe.errors import UserError


@pytest.fixture
def table(tmp_path):
    def write(content, name="table.csv"):
        data = content if isinstance(content, bytes) else content.encode("utf-8")
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize(
    "text",
    [
        "index;folder;name\n3;n03;goldfish\n1;n01;tench\n",
        ",index,wnid,name\n0,3,n03,goldfish\n1,1,n01,tench\n",
        "n03\t3\tgoldfish\nn01\t1\ttench\n",
        "class_id,wnid,words\n3,n03,goldfish\n1,n01,tench\n",
    ],
)
def test_tables_of_classes_are_read_alike(table, text):
    """F92."""
    classes, index = class_table(table(text), ["n01", "n03"])
    assert classes == ("", "tench", "", "goldfish") and index == {"n03": 3, "n01": 1}


def test_a_table_that_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("x.csv", "y.csv"):
        with pytest.raises(UserError, match=f"cannot read the table .*{name}"):
            class_table(str(tmp_path / name))
