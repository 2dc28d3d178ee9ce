"""A CSV or TSV of one's own: values, labels, units, and what is refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import constraints

from pyrovae.data import Data, load, table
from pyrovae.errors import PyrovaeError

VALUES = np.random.default_rng(0).normal(size=(40, 2)) * [3.0, 0.1] + [5.0, -2.0]


def csv(path: Path, text: str | None = None, sep: str = ",") -> str:
    lines = [
        sep.join(("height", "width", "kind")),
        *(f"{a}{sep}{b}{sep}{'oak' if a > 5 else 'ash'}" for a, b in VALUES),
    ]
    path.write_text("\n".join(lines) + "\n" if text is None else text)
    return str(path)


def everything(data: Data) -> torch.Tensor:
    return torch.cat([split.x for split in data.splits.values()])


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_values_labels_and_units(tmp_path: Path, suffix: str) -> None:
    path = csv(tmp_path / f"trees{suffix}", sep="\t" if suffix == ".tsv" else ",")
    data, raw = load(path, label="kind"), load(path, label="kind", standardize=False)
    assert data.name == f"trees{suffix}" and data.columns == ("height", "width") and data.classes == ("ash", "oak")
    assert [len(split.x) for split in data.splits.values()] == [28, 4, 8]
    assert data.support is constraints.real and data.train.x.dtype == torch.float32
    found, expected = everything(raw).sort(0).values, torch.from_numpy(VALUES).float().sort(0).values
    torch.testing.assert_close(found, expected)
    assert torch.equal(torch.cat([split.labels for split in raw.splits.values()]), (everything(raw)[:, 0] > 5).long())
    torch.testing.assert_close(data.train.x.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(data.restore(everything(data)).float(), everything(raw))
    scale = raw.train.x.double().std(0, correction=0)
    assert data.log_jacobian == pytest.approx(-scale.log().sum().item(), abs=1e-6) and raw.log_jacobian == 0.0
    assert data.conditional().train.given[0].shape == (28, 2)


def test_the_test_split_does_not_depend_on_validation(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv")
    first, second = (load(path, label="kind", standardize=False, validation=n) for n in (2, 0.4))
    assert torch.equal(first.test.x, second.test.x) and len(second.validation.x) == 16


@pytest.mark.parametrize(
    ("column", "classes"),
    [
        (["7", "9", "10"], ("7", "9", "10")),
        (["1.0", "0.0", "1.0"], ("0", "1")),
        (["True", "False", "True"], ("False", "True")),
        (["b", "a", "b"], ("a", "b")),
        (["NA", "None", "null"], ("NA", "None", "null")),
        (["oak", "nan", "NaN"], ("NaN", "nan", "oak")),
    ],
)
def test_labels_of_every_form(tmp_path: Path, column: list[str], classes: tuple[str, ...]) -> None:
    rows = [f"{i},{column[i % 3]}" for i in range(12)]
    data = load(csv(tmp_path / "t.csv", "a,y\n" + "\n".join(rows) + "\n"), label="y")
    assert data.classes == classes
    for split, own in ((split, data.restore(split.x)) for split in data.splits.values()):
        names = [classes[int(label)] for label in split.labels]
        assert names == [column[round(x.item()) % 3].removesuffix(".0") for x in own]


@pytest.mark.parametrize(
    "column", [["1", "", "2"], ["oak", "", "ash"], ["0.5", "", "1"], ["1", "NA", "2"], ["1", "nan", "2"]]
)
def test_a_missing_label_is_refused(tmp_path: Path, column: list[str]) -> None:
    rows = [f"{i},{column[i % 3]}" for i in range(12)]
    with pytest.raises(PyrovaeError, match=r"t\.csv, column y: no label in row 2, and in 4 places in all"):
        load(csv(tmp_path / "t.csv", "a,y\n" + "\n".join(rows) + "\n"), label="y")


def test_the_label_of_a_row_that_is_too_short(tmp_path: Path) -> None:
    with pytest.raises(PyrovaeError, match="no label in row 3, and in 1 places"):
        load(csv(tmp_path / "t.csv", "a,y\n1,b\n2,c\n3\n4,b\n"), label="y")


def test_the_fingerprint_knows_label_and_columns(tmp_path: Path) -> None:
    text = "a,b,c\n" + "".join(f"{i},{i % 2},{i % 3}\n" for i in range(20))
    path = csv(tmp_path / "t.csv", text)
    found = [load(path, label=label, seed=seed).fingerprint for label in (None, "b", "c") for seed in (0, 1)]
    assert found[::2] == found[1::2] and len(set(found)) == 3


def test_columns_that_float32_cannot_hold(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", "a,time\n" + "".join(f"{i},{1_600_000_000 + i}\n" for i in range(40)))
    with pytest.raises(PyrovaeError, match="float32 rounds values away: time;"):
        load(path, standardize=False)
    data = load(path)
    assert sorted(data.restore(everything(data))[:, 1].round().long().tolist()) == list(range(1600000000, 1600000040))
    with pytest.raises(PyrovaeError, match="float32 rounds values away: b;"):
        load(csv(tmp_path / "u.csv", "a,b\n" + "".join(f"{i},{i}e300\n" for i in range(40))), standardize=False)


def test_a_table_by_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = csv(tmp_path / "t.csv")
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in (path, Path(path), "~/t.csv"):
        assert table(place, label="kind").name == load(place, label="kind").name == "t.csv"
    for absent in (Path("absent.csv"), "absent.csv"):
        for read in (load, table):
            with pytest.raises(PyrovaeError, match=r"absent\.csv"):
                read(absent)
    with pytest.raises(PyrovaeError, match="unknown data set 'absent'"):
        load(Path("absent"))


BAD: dict[str, tuple[str, str]] = {
    "empty": ("", "not a table"),
    "header alone": ("a,b\n", "no rows below the header"),
    "no header": ("1,2\n3,4\n", "the first line holds numbers; it must hold the columns' names"),
    "no name": (",a\n0,1\n1,2\n", r"column 1 has no name in the header.*to_csv\(index=False\)"),
    "no names": (",a,\n0,1,2\n1,2,3\n", "column 1 has no name in the header"),
    "no last name": ("a,b,\n1,2,3\n2,3,4\n", "column 3 has no name in the header"),
    "twice": ("a,a\n1,2\n", "names a twice"),
    "short row": ("a,b\n1,2\n3\n4,5\n", "no value in row 2 of the column 'b'"),
    "long row": ("a,b\n1,2\n3,4,5\n", "not a table whose rows are all as long as its header"),
    "long first row": ("a,b\n1,2,3\n4,5,6\n", "not a table whose rows are all as long as its header"),
    "missing": ("a,b\n1,2\n3,\n4,NA\n", "no value in row 2 of the column 'b', and in 2 places.*impute"),
    "text": ("a,b\n1,x\n2,y\n", "text in the column 'b'.*such as 'x'.*label='b'"),
    "decimal commas": ('a,b\n1,"2,5"\n2,"3,5"\n', "text in the column 'b'.*such as '2,5'"),
    "semicolons": ("a;b\n1;2\n2;3\n", "separated by semicolons"),
    "infinity": ("a,b\n1,2\n3,inf\n", "an infinity in row 2 of the column 'b'"),
    "constant": ("a,b\n" + "".join(f"{i},7\n" for i in range(20)), "constant in the training split: b"),
    "two rows": ("a,b\n1,2\n3,5\n", "hold out at least 1"),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_is_no_table(tmp_path: Path, fault: str) -> None:
    text, message = BAD[fault]
    with pytest.raises(PyrovaeError, match=message):
        load(csv(tmp_path / "t.csv", text))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n\xff\xfe,1\n2,3\n")
    with pytest.raises(PyrovaeError, match="not a table"):
        load(str(tmp_path / "t.csv"))
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(PyrovaeError, match="there are no images"):  # a folder, whatever its name
        load(str(tmp_path / "d.csv"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "kin"}, "column of t.csv 'kin'; did you mean 'kind'"),
        ({"label": "height"}, "holds real numbers"),
        ({}, "text in the column 'kind'"),
        ({"label": "kind", "size": 3}, "no use for the option size; it takes standardize"),
        ({"binarization": "none"}, "no use for the option binarization"),
    ],
)
def test_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PyrovaeError, match=message):
        load(csv(tmp_path / "t.csv"), **options)


def test_a_constant_column_may_stay_where_nothing_is_standardised(tmp_path: Path) -> None:
    text = "a,b\n" + "".join(f"{i},7\n" for i in range(20))
    data = load(csv(tmp_path / "t.csv", text), standardize=False)
    assert (data.train.x[:, 1] == 7).all() and math.isclose(data.log_jacobian, 0.0)
