"""Work that does not fit is done in smaller pieces."""

import logging

import pytest
import torch

from cnnprobe.machine import memory
from cnnprobe.machine.memory import Carried, free_memory, is_short

SHORT = [
    MemoryError(),
    MemoryError("std::bad_alloc"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
                 " to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4000000000000 bytes."),
    RuntimeError("could not create a memory object"),
    RuntimeError("could not create a primitive"),
    RuntimeError("cuBLAS error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]  # fmt: skip
OTHERS = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)"),
    RuntimeError("stack expects a non-empty TensorList"),
    ValueError("out of memory"),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", SHORT, ids=lambda error: str(error)[:30])
def test_what_means_that_memory_is_short(error):
    """F54, F57."""
    assert is_short(error)


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: str(error)[:30])
def test_what_does_not(error):
    assert not is_short(error)


def test_torch_says_it_in_these_words():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58, dtype=torch.uint8)
    assert is_short(caught.value)


def raising(error):
    raise error


@pytest.mark.parametrize("error", SHORT, ids=lambda error: str(error)[:30])
def test_half_is_tried_next(error, caplog):
    """F54."""
    carried = Carried(1000)
    with caplog.at_level(logging.WARNING):
        assert carried.attempt(256, lambda: raising(error)) is None
    assert [record.getMessage() for record in caplog.records] == ["batch 256 does not fit in memory, going on with 128"]
    assert carried.most == 128
    assert carried.attempt(128, lambda: "done") == "done"
    assert carried.most == 128 and len(caplog.records) == 1


def test_what_is_carried_has_a_name(caplog):
    carried = Carried(9, "images")
    assert carried.attempt(3, lambda: raising(MemoryError())) is None
    assert carried.most == 1 and caplog.messages == ["images 3 does not fit in memory, going on with 1"]


def test_one_that_does_not_fit_is_an_error(caplog):
    """F56."""
    carried = Carried(8)
    with pytest.raises(MemoryError, match="one"):
        carried.attempt(1, lambda: raising(MemoryError("one")))
    assert carried.most == 8 and not caplog.records


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: str(error)[:30])
def test_other_errors_pass_through(error, caplog):
    carried = Carried(8)
    with pytest.raises(type(error)):
        carried.attempt(8, lambda: raising(error))
    assert carried.most == 8 and not caplog.records


def test_a_failure_keeps_no_tensors_alive(caplog):
    import gc
    import weakref

    kept = []

    def work():
        held = torch.empty(10)
        kept.append(weakref.ref(held))
        raise MemoryError

    gc.disable()  # what is in a circle with a traceback would be freed sooner or later: too late
    try:
        assert Carried(2).attempt(2, work) is None
        assert kept[0]() is None
    finally:
        gc.enable()


def test_free_memory_is_that_of_the_machine_or_a_guess(monkeypatch):
    assert 2**20 < free_memory("cpu") < 2**50
    monkeypatch.setattr(memory.room, "available", lambda: None)
    assert free_memory("cpu") == memory.UNKNOWN


def test_free_memory_of_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (12345, 99999))
    assert free_memory(torch.device("cuda")) == 12345
