"""Reading ahead: a thread reads, converts and moves the next batches while a step runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import torch

from pyrovae import trees
from pyrovae.training.batches import Batch

AHEAD = 4  # batches that are read before they are asked for

Arrival = Callable[[], Batch]  # called where and when the batch is used


def prefetched(batches: Iterator[Batch], device: torch.device) -> Generator[Batch]:
    """The same batches on ``device``, in the same order, read ahead by one thread.

    What the thread raises is raised here, in its turn. The thread ends with the generator: close it where the last
    batch may not be reached.
    """
    reader = ThreadPoolExecutor(1, thread_name_prefix="pyrovae-prefetch")
    send = _sender(device)

    def read() -> Arrival | None:
        batch = next(batches, None)
        return None if batch is None else send(batch)

    try:
        waiting = deque(reader.submit(read) for _ in range(AHEAD))
        while (arrival := waiting.popleft().result()) is not None:
            waiting.append(reader.submit(read))
            yield arrival()
    finally:
        reader.shutdown(cancel_futures=True)


def prefetched_where_repeatable(batches: Iterator[Batch], device: torch.device) -> Generator[Batch]:
    """``prefetched`` for batches that others make; in turn where making them draws from torch's global generator.

    Else the thread and the step would draw from it in an order that no seed decides. The first batch, before which a
    DataLoader seeds its order, and the second, which tells, are read in turn.
    """
    for batch in islice(batches, 1):
        yield trees.to(batch, device)
    before = torch.get_rng_state()
    second = list(islice(batches, 1))
    repeatable = torch.equal(before, torch.get_rng_state())
    for batch in second:
        yield trees.to(batch, device)
    if repeatable:
        yield from prefetched(batches, device)
    else:
        yield from (trees.to(batch, device) for batch in batches)


def _sender(device: torch.device) -> Callable[[Batch], Arrival]:
    """What moves a batch in the thread that reads; calling the result gives the batch to the thread that computes."""
    if device.type != "cuda":
        return lambda batch: _delivered(trees.to(batch, device))
    stream = torch.cuda.Stream(device)  # copies overlap with the computation on another stream

    def send(batch: Batch) -> Arrival:
        with torch.cuda.stream(stream):
            moved = trees.tree_map(lambda leaf: leaf.pin_memory().to(device, non_blocking=True), batch)
            arrived = stream.record_event()

        def arrival() -> Batch:
            current = torch.cuda.current_stream(device)
            current.wait_event(arrived)
            for leaf in trees.leaves(moved):
                leaf.record_stream(current)  # else its memory would be reused when the copying stream allows
            return moved

        return arrival

    return send


def _delivered(batch: Batch) -> Arrival:
    return lambda: batch
