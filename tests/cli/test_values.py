"""Draws of tables and texts: files for other programs, in the data's own units."""

import csv
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch
from runs import Command

import pyrovae as pv
from pyrovae.cli import values
from pyrovae.data.standardization import standardization

TABLE = """
data: {name: people.csv, label: kind}
conditional: true
program: {class_path: pyrovae.recipes.Dense, init_args: {latent: 2, hidden: [8]}}
fit: {epochs: 1, device: cpu}
"""


@pytest.fixture
def table() -> Path:
    """A table of columns far from standard units."""
    torch.manual_seed(0)
    rows = [
        f"{1000 + 10 * a:.3f},{0.001 * b:.6f},{'ab'[i % 2]}" for i, (a, b) in enumerate(torch.randn(60, 2).tolist())
    ]
    Path("people.csv").write_text("\n".join(["height,weight,kind", *rows]) + "\n")
    Path("table.yaml").write_text(TABLE)
    return Path("people.csv")


def test_a_table_from_a_csv_to_a_csv(pyrovae: Command, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pyrovae("train", "table.yaml", "--directory", "run")[0] == 0
    assert Path("run/marginals.png").exists()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")  # the config holds the whole path of the data
    assert pyrovae("sample", "../run", "-n", 50, "--given", "b", "--output", "drawn.csv")[0] == 0
    drawn = list(csv.DictReader(Path("drawn.csv").read_text().splitlines()))
    assert len(drawn) == 50 and list(drawn[0]) == ["label", "height", "weight"]
    assert {row["label"] for row in drawn} == {"b"}
    assert 900 < sum(float(row["height"]) for row in drawn) / 50 < 1100
    assert all(abs(float(row["weight"])) < 0.1 for row in drawn)
    assert pyrovae("reconstruct", "../run", "--rows", 2, "--output", "made.csv")[0] == 0
    (made,) = csv.DictReader(Path("made.csv").read_text().splitlines())
    row = [float(made[name]) for name in ("height", "weight")]
    assert row == pytest.approx(
        pv.data.load(str(Path("..", table)), label="kind", standardize=False).test.x[2].tolist()
    )
    in_file = [[float(field) for field in line.split(",")[:2]] for line in Path("..", table).read_text().split()[1:]]
    assert any(row == pytest.approx(each, rel=1e-5) for each in in_file)
    assert made["row"] == "2" and "height (reconstruction)" in made


def test_large_numbers_keep_their_digits() -> None:
    """Seconds since 1970 and rows beyond 10^7 have more than seven digits; float32 would hold the former to 64 s."""
    own = torch.tensor([[1_700_000_001], [1_700_000_777]]).double()
    units = standardization(own, ["time"])
    split = pv.data.Split(units.apply(own).float())
    data = pv.data.Data("t", split, split, split, "none", 0, "", kind="table", columns=("time",), standardization=units)
    values.write(Path("drawn.csv"), {"row": torch.tensor([20_000_001, 3]), "x": split.x}, data)
    assert Path("drawn.csv").read_text() == "row,time\n20000001,1700000001\n3,1700000777\n"


def test_a_mean_is_written_only_where_there_is_one() -> None:
    assert values.mean(dist.Bernoulli(torch.tensor([0.25]))).tolist() == [0.25]
    assert values.mean(dist.Categorical(torch.ones(2, 3))) is None  # torch says nan
    assert values.mean(dist.VonMises3D(torch.tensor([1.0, 0.0, 0.0]))) is None


def test_texts_are_written_as_text(tmp_path: Path) -> None:
    x = torch.tensor([[0, 1, 2], [2, 1, 0]])
    split = pv.data.Split(x)
    data = pv.data.Data("abc", split, split, split, "none", 0, "", kind="tokens", levels=("a", "b", "c"))
    path = values.place(None, tmp_path / "drawn", data)
    values.write(path, {"row": torch.tensor([5, 7]), "x": x}, data)
    assert path.read_text() == "=== 5 x\nabc\n=== 7 x\ncba\n"
