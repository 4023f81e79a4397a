"""Batches made ahead on a second stream, with a model of streams that tracks the order of work."""

import contextlib
import weakref

import pytest
import torch

from iqa.data.cutting import made_ahead


class Stream:
    """A queue of work; `before` is all work that precedes the next item."""

    def __init__(self):
        self.before, self.free_memory, self.device = set(), [], torch.device("cpu")

    def record_event(self) -> set:
        return set(self.before)

    def wait_event(self, event: set) -> None:
        self.before |= event

    def do(self, work) -> frozenset:
        """Enqueue work; returns all work that precedes it."""
        before = frozenset(self.before)
        self.before.add(work)
        return before


class Item:
    """A batch, whose memory returns to its stream when nothing refers to it."""

    def __init__(self, number: int, memory: int):
        self.number, self.memory = number, memory


class Device:
    """A GPU with two streams, whose allocator reuses memory in the order of one stream, as torch does."""

    def __init__(self, monkeypatch):
        self.main, self.side, self.blocks = Stream(), Stream(), 0
        self.current = self.main
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: self.current)
        monkeypatch.setattr(torch.cuda, "stream", self.entered)
        self.log = []  # (what, number, memory, what must be done before it)

    @contextlib.contextmanager
    def entered(self, stream: Stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def items(self, count: int):
        for number in range(count):
            free = self.current.free_memory
            memory = free.pop() if free else self.blocks
            self.blocks += memory == self.blocks
            item = Item(number, memory)
            weakref.finalize(item, free.append, memory)
            self.log.append(("make", number, memory, self.current.do(("make", number))))
            yield item

    def consume(self, item: Item) -> None:
        self.log.append(("use", item.number, item.memory, self.current.do(("use", item.number))))


@pytest.fixture
def device(monkeypatch):
    return Device(monkeypatch)


def test_every_item_is_made_during_the_work_on_the_one_before_in_memory_that_is_free(device):
    device.main.do("preparation")
    for item in made_ahead(device.items(9), device.side):
        device.consume(item)
    before = {(what, number): done for what, number, _, done in device.log}
    for number in range(9):
        assert ("make", number) in before["use", number]
        assert number == 0 or ("use", number - 1) not in before["make", number]
    assert device.current is device.main and device.blocks <= 3
    for place, (what, _, memory, done) in enumerate(device.log):
        if what == "make":
            assert "preparation" in done
            assert {(kind, number) for kind, number, block, _ in device.log[:place] if block == memory} <= done


def test_two_passes_share_the_memory_of_their_stream(device):
    for _ in range(2):
        device.log.clear()
        for item in made_ahead(device.items(4), device.side):
            device.consume(item)
            break
        assert device.log[-1][0] == "use"
    assert device.blocks <= 3


def test_an_error_leaves_the_current_stream_as_it_was(device):
    def broken():
        yield from device.items(1)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(made_ahead(broken(), device.side))
    assert device.current is device.main
    assert list(made_ahead(iter("abc"), None)) == list("abc")
