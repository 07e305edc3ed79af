"""Whether bytes are UTF-8, in compiled code: as Python decodes it, without surrogates or overlong forms."""

from models.data.arrays import Bytes
from models.detection.compiling import compiled

NO_TEXT, ALL_ASCII, OTHER_TEXT = 0, 1, 2


@compiled
def kind_of_text(data: Bytes, begin: int, end: int) -> int:
    """Of data[begin:end]: whether it is text, and has characters beyond ASCII."""
    at = begin
    while at < end and data[at] < 0x80:
        at += 1
    if at == end:
        return ALL_ASCII
    while at < end:
        size = _character(data, at, end)
        if size == 0:
            return NO_TEXT
        at += size
    return OTHER_TEXT


@compiled
def _character(data: Bytes, at: int, end: int) -> int:
    """How many bytes the character at a place has; 0: there is none. The table is 3-7 of the Unicode standard."""
    first = data[at]
    if first < 0x80:
        return 1
    if first < 0xC2 or first > 0xF4:
        return 0
    size = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if at + size > end:
        return 0
    second = data[at + 1]
    least = 0xA0 if first == 0xE0 else 0x90 if first == 0xF0 else 0x80
    most = 0x9F if first == 0xED else 0x8F if first == 0xF4 else 0xBF
    if second < least or second > most:
        return 0
    for place in range(at + 2, at + size):
        if data[place] < 0x80 or data[place] > 0xBF:
            return 0
    return size
