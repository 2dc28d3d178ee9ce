"""The list of data sets, and one of them in full."""

import pytest
from runs import Command

import pyrovae as pv


def test_every_data_set_has_a_line(pyrovae: Command) -> None:
    code, out, _ = pyrovae("data")
    assert code == 0
    first = [line.split()[0] for line in out.splitlines() if line]
    assert [name for name in first if name in pv.data.names()] == pv.data.names()
    digits = next(line for line in out.splitlines() if line.startswith("digits"))
    assert "1 x 8 x 8" in digits and "1,197 / 200 / 400" in digits and digits.endswith("embedded")
    assert next(line for line in out.splitlines() if line.startswith("mnist")).endswith("not here")


def test_one_that_is_not_here_says_how_to_get_it(pyrovae: Command) -> None:
    code, out, _ = pyrovae("data", "mnist")
    assert code == 0 and "http" in out and "md5:" in out and "not here" in out


@pytest.mark.parametrize("name", ["mnits", "nothing/like/it"])
def test_an_unknown_name(pyrovae: Command, name: str) -> None:
    code, _, err = pyrovae("data", name)
    assert code == 2 and f"unknown data set '{name}'" in err and ("mnist" in err)
