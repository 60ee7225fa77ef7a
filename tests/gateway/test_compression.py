"""Packed data: what we pack, others unpack, and the other way round."""

import io
import lzma
import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import compression
from gateway.compression import KINDS, NoLibrary, PackError, packed, require, unpacked

TEXT = b"".join(b"Line %d of a text, as mail is; %d.\n" % (number, number * number) for number in range(9_000))
SAMPLES = [b"", b"a", b"aaaaaaaaaaaaaaaaaaaa", bytes(range(256)) * 9, TEXT, os.urandom(120_000)]


def pack(data, kind, size=7000):
    return b"".join(packed([data[at : at + size] for at in range(0, len(data), size)], kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", SAMPLES, ids=lambda data: str(len(data)))
def test_there_and_back(kind, data):
    assert unpacked(io.BytesIO(pack(data, kind))).read() == data


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([b"a", b"b", b"ab", b"\0", b"abcabc" * 300]), max_size=400), st.integers(1, 50))
def test_compress_of_anything(words, size):
    data = b"".join(words)
    assert unpacked(io.BytesIO(pack(data, "compress", size))).read() == data


@pytest.mark.parametrize("kind, program", [("compress", "gzip"), ("gzip", "gzip"), ("bzip2", "bzip2"), ("xz", "xz"),
                                           ("zstd", "zstd")])
@pytest.mark.parametrize("data", SAMPLES[1:], ids=lambda data: str(len(data)))
def test_other_programs_read_it(kind, program, data):
    if not shutil.which(program):
        pytest.skip(f"no {program} here")
    assert subprocess.run([program, "-dc"], input=pack(data, kind), stdout=subprocess.PIPE).stdout == data


@pytest.mark.parametrize("data", SAMPLES[1:], ids=lambda data: str(len(data)))
@pytest.mark.parametrize("options", [[], ["-b12"]])
def test_what_compress_made(data, options):
    if not shutil.which("compress"):
        pytest.skip("no compress(1) here")
    made = subprocess.run(["compress", "-cf", *options], input=data, stdout=subprocess.PIPE).stdout
    assert unpacked(io.BytesIO(made)).read() == data


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_streams_that_follow_one_another(kind):
    assert unpacked(io.BytesIO(pack(b"one", kind) + pack(b"two", kind))).read() == b"onetwo"


@pytest.mark.parametrize("kind, program, options", [
    ("zstd", "zstd", ["-q"]), ("zstd", "zstd", ["-q", "--ultra", "-22"]), ("xz", "xz", ["-9e"]),
])
def test_the_largest_windows_that_are_usual(kind, program, options):
    if not shutil.which(program):
        pytest.skip(f"no {program} here")
    made = subprocess.run([program, "-c", *options], input=TEXT, stdout=subprocess.PIPE).stdout
    assert unpacked(io.BytesIO(made)).read() == TEXT


@pytest.mark.parametrize("head", [
    b"\x28\xb5\x2f\xfd\x00\xa8",  # zstd: a window of 2 GB
    b"\x28\xb5\x2f\xfd\xc0" + (1 << 40).to_bytes(8, "little"),  # no window, but so much content
], ids=["window", "content"])
def test_a_window_that_would_fill_the_memory(head):
    with pytest.raises(PackError, match="broken packed data|cut off"):
        unpacked(io.BytesIO(head + bytes(70_000))).read()


def test_an_xz_window_that_would_fill_the_memory():
    data = lzma.compress(b"x" * 1000, lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    with pytest.raises(PackError, match="[Mm]emory"):
        unpacked(io.BytesIO(data)).read()


def test_without_the_library(monkeypatch):
    def missing(name):
        raise ImportError(name)

    data = pack(b"one", "zstd")
    monkeypatch.setattr(compression.importlib, "import_module", missing)
    with pytest.raises(NoLibrary, match="backports.zstd"):
        require("zstd")
    with pytest.raises(NoLibrary):
        unpacked(io.BytesIO(data)).read()
    require("xz")


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_cut_off(kind):
    with pytest.raises(PackError, match="cut off"):
        unpacked(io.BytesIO(pack(TEXT, kind)[:-9])).read()


@pytest.mark.parametrize(
    "data", [b"\x1f\x8bnonsense", b"\x1f\x9d", b"\x1f\x9d\x1f", b"\x1f\x9d\x90\xff\xff\xff", b"BZhx"]
)
def test_broken(data):
    with pytest.raises(PackError):
        unpacked(io.BytesIO(data)).read()


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_than_the_limit(kind):
    bomb = pack(bytes(5_000_000), kind, 100_000)
    with pytest.raises(PackError, match="more than 100000 bytes"):
        unpacked(io.BytesIO(bomb), 100_000).read()
    assert len(unpacked(io.BytesIO(bomb), 5_000_000).read()) == 5_000_000


MARKS = [b"\x1f\x9d\x90", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b""]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(MARKS), st.binary(max_size=300))
def test_any_bytes_are_unpacked_or_refused(mark, data):
    try:
        unpacked(io.BytesIO(mark + data), 100_000).read()
    except PackError:
        pass
