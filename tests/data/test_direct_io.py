"""Files past the page cache: whatever the place and the size, and where the file system refuses."""

import errno
import os
import random

import pytest

from omr.data import direct_io


@pytest.fixture(params=["direct", "refused at open", "refused at use"])
def how(request, monkeypatch):
    """Direct I/O as the file system has it, and as another one may refuse it."""
    real = {name: getattr(os, name) for name in ("open", "pwrite", "preadv")}
    straight = set()

    def refuse(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    def opened(path, flags, *mode):
        if flags & direct_io.DIRECT:
            if request.param == "refused at open":
                refuse()
            handle = real["open"](path, flags & ~direct_io.DIRECT, *mode)
            straight.add(handle)
            return handle
        return real["open"](path, flags, *mode)

    if request.param != "direct":
        monkeypatch.setattr(direct_io.os, "open", opened)
        for name in ("pwrite", "preadv"):
            monkeypatch.setattr(
                direct_io.os,
                name,
                lambda handle, *more, name=name: (
                    refuse() if handle in straight else real[name](handle, *more)
                ),
            )
    return request.param


def placed(data, place):
    """The data in memory that lies in its block as the place does."""
    room = direct_io.memory(len(data) + direct_io.BLOCK)
    start = place - direct_io.below(place)
    room[start : start + len(data)] = data
    return room[start : start + len(data)]


def test_any_place_and_size(how, tmp_path):
    dice, expected = random.Random(5), bytearray(300_000)
    file = direct_io.File(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file.plain, len(expected))
    window = direct_io.memory(len(expected) + 2 * direct_io.BLOCK)
    sizes = [0, 1, 4095, 4096, 4097, 8192, 100_000]
    for _ in range(60):
        size = dice.choice(sizes)
        place = dice.choice([0, 1, 4095, 4096, 8192, dice.randrange(len(expected) - size)])
        data = dice.randbytes(size)
        file.write(placed(data, place), place)
        expected[place : place + size] = data
        start = dice.randrange(len(expected))
        size = dice.choice([*sizes, 10**6 // 4])
        size = min(size, len(expected) - start)
        assert file.read(window, start, size) == expected[start : start + size]
    assert bytes(file.read(window, 299_990, 100)) == expected[-10:]  # what there is
    assert bytes(file.read(window, 300_000, 5)) == b""
    file.sync()
    file.close()
    assert (tmp_path / "file").read_bytes() == expected


def test_memory_is_aligned():
    import ctypes

    for size in (0, 1, 5000, 3 << 20):
        room = direct_io.memory(size)
        assert ctypes.addressof(ctypes.c_char.from_buffer(room)) % direct_io.BLOCK == 0
        assert len(room) == max(1, size)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        direct_io.File(tmp_path / "none", os.O_RDONLY)


def test_a_trial_says_how_fast_the_disk_is(how, tmp_path):
    speed = direct_io.speed(tmp_path)
    assert speed == 0 if how != "direct" else speed > 0
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_is_no_refusal(tmp_path, monkeypatch):
    file = direct_io.File(tmp_path / "file", os.O_RDWR | os.O_CREAT)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(direct_io.os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        file.write(placed(bytes(10_000), 0), 0)
