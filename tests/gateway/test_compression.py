"""Packed data: what we pack, others unpack, and the other way round."""

import io
import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.compression import KINDS, PackError, packed, unpacked

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


@pytest.mark.parametrize("kind, program", [("compress", "gzip"), ("gzip", "gzip"), ("bzip2", "bzip2"), ("xz", "xz")])
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


def test_streams_that_follow_one_another():
    assert unpacked(io.BytesIO(pack(b"one", "gzip") + pack(b"two", "gzip"))).read() == b"onetwo"


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
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


MARKS = [b"\x1f\x9d\x90", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00", b""]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(MARKS), st.binary(max_size=300))
def test_any_bytes_are_unpacked_or_refused(mark, data):
    try:
        unpacked(io.BytesIO(mark + data), 100_000).read()
    except PackError:
        pass
