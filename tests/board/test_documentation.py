"""What is written about the board is what the board is."""

from __future__ import annotations

from pathlib import Path

from pyrovae import board
from pyrovae.cli import main

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_holds_the_generated_table() -> None:
    """After a change of the board: python -c "import pyrovae; print(pyrovae.board.markdown())"."""
    assert board.markdown() in README.read_text()


def test_the_command_lists_every_part(capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["board"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for parts in board.SLOTS.values() for name in parts)
    assert all(cell in shown for slot in board.SLOTS for row in board.table(slot) for cell in row)


def test_every_part_says_where_it_comes_from_and_what_it_is_of() -> None:
    parts = [part for parts in board.SLOTS.values() for part in parts.values()]
    assert all(part.equation and part.source and part.values in board.KINDS for part in parts)
