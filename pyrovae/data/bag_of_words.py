"""A strict reader of bags of words: a line for each document, ``group word:count word:count ...``, all from 1."""

import torch
from torch import Tensor

from pyrovae.errors import PyrovaeError


def parse(raw: bytes, *, num_words: int, num_groups: int, name: str) -> tuple[Tensor, Tensor]:
    """Counts (N, num_words) float32 and groups (N,) int64, from 0; ``name`` is for the messages.

    Raises:
        PyrovaeError: an empty or cut file, a line that is not as above, a word or group outside its range, a word that
            stands twice, a count that is not positive.
    """
    if not raw or not raw.endswith(b"\n"):
        raise PyrovaeError(f"{name}: {'ends within a line' if raw else 'is empty'}; the file is cut short")
    lines = raw[:-1].split(b"\n")
    counts, groups = torch.zeros(len(lines), num_words), torch.zeros(len(lines), dtype=torch.int64)
    for number, line in enumerate(lines):
        try:
            group, words = _line(line)
        except ValueError as error:
            raise PyrovaeError(f"{name}: line {number + 1} is not 'group word:count ...' ({error})") from error
        if not (0 < group <= num_groups and all(0 < word <= num_words and n > 0 for word, n in words)):
            raise PyrovaeError(
                f"{name}: line {number + 1}: groups run from 1 to {num_groups}, words from 1 to {num_words}, counts "
                "from 1"
            )
        index = torch.tensor([word - 1 for word, _ in words])
        if len(set(index.tolist())) != len(words):
            raise PyrovaeError(f"{name}: line {number + 1}: a word stands twice")
        counts[number, index] = torch.tensor([float(n) for _, n in words])
        groups[number] = group - 1
    return counts, groups


def _line(line: bytes) -> tuple[int, list[tuple[int, int]]]:
    group, *entries = line.split(b" ")
    if not entries:
        raise ValueError("no words")
    pairs = (entry.split(b":") for entry in entries)
    return int(group), [(int(word), int(count)) for word, count in pairs]


def parse_words(raw: bytes, *, name: str) -> tuple[str, ...]:
    """The words of a vocabulary, a line for each: the word and how often it occurs.

    Raises:
        PyrovaeError: not so; a word that stands twice.
    """
    try:
        words = tuple(_word(line) for line in raw.decode("utf-8").removesuffix("\n").split("\n"))
    except ValueError as error:  # UnicodeDecodeError is one
        raise PyrovaeError(f"{name}: not a line 'word count' for every word ({error})") from error
    if len(set(words)) != len(words):
        raise PyrovaeError(f"{name}: a word stands twice")
    return words


def _word(line: str) -> str:
    word, count = line.split(" ")
    if not word or int(count) < 1:
        raise ValueError(f"the line is {line!r}")
    return word
