"""A record batch's bytes, decompressed piece by piece: a megabyte of them may stand for gigabytes.

Only the piece that is asked for is held. Pieces are about `size` bytes long and only depend on the batch: read again,
it comes in the same pieces.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping

import snappy
import zstandard
from lz4.frame import LZ4FrameDecompressor

Pieces = Callable[[memoryview, int], Iterator[bytes | memoryview]]

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_WINDOW = 1 << 27  # what a reader must be able to hold of a stream: as much as zstd itself grants
XERIAL_MAGIC = b"\x82SNAPPY\x00"  # what the JVM's clients put before blocks of snappy
XERIAL_HEADER = 16
SNAPPY_RATIO = 22  # three bytes of snappy say at most: copy 64


class BadCompression(Exception):
    """The bytes are not what the codec says."""


def plain(data: memoryview, size: int) -> Iterator[memoryview]:
    """As they are."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def gzip(data: memoryview, size: int) -> Iterator[bytes]:
    """Members one after another. What follows the last and is none is not looked at, as in the JVM's clients."""
    rest: bytes | memoryview = data
    while bytes(rest[: len(GZIP_MAGIC)]) == GZIP_MAGIC or rest is data:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            try:
                piece = member.decompress(rest, size)
            except zlib.error as error:
                raise BadCompression(f"gzip: {error}") from error
            rest = member.unconsumed_tail
            if piece:
                yield piece
            elif not member.eof:
                raise BadCompression("gzip: the stream does not end")
        rest = member.unused_data


def lz4(data: memoryview, size: int) -> Iterator[bytes]:
    """One frame. What follows it is not looked at, as in the JVM's clients."""
    frame = LZ4FrameDecompressor()
    some: bytes | memoryview = data
    while not frame.eof:
        try:
            piece = frame.decompress(some, size)
        except RuntimeError as error:
            raise BadCompression(f"lz4: {error}") from error
        some = b""
        if piece:
            yield piece
        elif not frame.eof:
            raise BadCompression("lz4: the frame does not end")


def zstd(data: memoryview, size: int) -> Iterator[bytes]:
    """Frames one after another."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    with decompressor.stream_reader(data, read_across_frames=True) as reader:
        try:
            while piece := reader.read(size):
                yield piece
        except zstandard.ZstdError as error:
            raise BadCompression(f"zstd: {error}") from error


def snappy_blocks(data: memoryview, size: int) -> Iterator[bytes | memoryview]:
    """Blocks as the JVM's clients write them, or one without their header, as others do. A block is held whole."""
    held: list[bytes] = []
    held_bytes = 0
    for block in _blocks(data):
        held.append(_snappy_block(block))
        held_bytes += len(held[-1])
        if held_bytes >= size:
            yield from plain(memoryview(b"".join(held)), size)
            held, held_bytes = [], 0
    if held:
        yield b"".join(held)


def _snappy_block(block: memoryview) -> bytes:
    length = _snappy_length(block)
    if length > SNAPPY_RATIO * len(block):
        raise BadCompression(f"snappy: {len(block)} bytes say that they stand for {length}")
    try:
        return bytes(snappy.uncompress(bytes(block)))
    except snappy.UncompressError as error:
        raise BadCompression(f"snappy: {error.__cause__ or error}") from error


def _blocks(data: memoryview) -> Iterator[memoryview]:
    if bytes(data[: len(XERIAL_MAGIC)]) != XERIAL_MAGIC:
        yield data
        return
    start = 0
    while start < len(data):
        if bytes(data[start : start + len(XERIAL_MAGIC)]) == XERIAL_MAGIC:  # several streams may lie behind each other
            start += XERIAL_HEADER
            continue
        if start + 4 > len(data):
            raise BadCompression(f"snappy: {len(data) - start} bytes after the last block")
        (length,) = struct.unpack_from(">i", data, start)
        end = start + 4 + length
        if length < 0 or end > len(data):
            raise BadCompression(f"snappy: a block of {length} bytes, {len(data) - start - 4} are left")
        if length:
            yield data[start + 4 : end]
        start = end


def _snappy_length(block: memoryview) -> int:
    """What a block says that it stands for, in bytes."""
    length = shift = 0
    for byte in block[:5]:
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return length
        shift += 7
    raise BadCompression("snappy: a block without a length")


CODECS: Mapping[int, Pieces] = {0: plain, 1: gzip, 2: snappy_blocks, 3: lz4, 4: zstd}
