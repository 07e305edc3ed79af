"""Lines of Influx's protocol to the slots of a shape, compiled: usual ones, such as Telegraf writes.

    measurement,tag=text,… field=61,field=2i,field=t,field="text" 1767571200000000000

A value is left in which a line has anything else: escapes, a comment, more blanks than one, control characters.
Sizes: D documents, each a line; S slots; W names that are wanted.
"""

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Bytes, Doubles, Int64s
from models.detection.compiling import compiled, kept
from service.input.walks.decimals import EXACT, NO_NUMBER, bits_of, decimal
from service.input.walks.kinds import ABSENT, ASCII, BOOLEAN, DECIMAL, DOUBLE, NULL, OBJECT, TEXT, WHOLE
from service.input.walks.utf8 import ALL_ASCII, NO_TEXT, kind_of_text

LINE, MEASUREMENT, TAGS, FIELDS, TIME = range(5)  # places in `about`
IN_TAGS, IN_FIELDS = 0, 1  # where a wanted name is
MOST_TAGS = 64  # of a line
MOST_DIGITS = 19  # of an integer; one that is too large comes out negative
LARGEST = 2**63 - 2  # the library takes what is one larger for too large
NOWHERE = -1


@kept
def walk(
    data: Bytes,
    begins_at: Int64s,
    ends_at: Int64s,
    names: Bytes,
    wanted: Int64s,
    about: Int64s,
    takes: Int64s,
    powers: Doubles,
    tags: Int64s,
    kinds: NDArray[np.uint8],
    begins: Int64s,
    ends: Int64s,
    of_value: Int64s,
) -> int:
    """Put what is in the lines of the values data[begins_at[n]:ends_at[n]] into slots, (S, D); returns D.

    wanted: (W, 4) where each name begins and ends in `names`, whether it is a tag's or a field's, and its slot.
    about: the slots of the whole line, its measurement, tags, fields and time, or NOWHERE.
    takes: (S,) bits of the kinds that a slot takes; a value in which another is found is left.
    powers: decimals.POWERS. tags: (MOST_TAGS, 2) to remember a line's by. of_value: (D,) which value a line is in.
    """
    count = 0
    for n in range(len(begins_at)):
        at, end, first = begins_at[n], ends_at[n], count
        text = kind_of_text(data, at, end)
        good = text != NO_TEXT
        while good and at < end:
            if data[at] == ord("\n"):
                at += 1
                continue
            kinds[:, count] = 0
            of_value[count] = n
            for slot in (about[LINE], about[TAGS], about[FIELDS]):
                if slot != NOWHERE:
                    kinds[slot, count] = OBJECT
            if about[TIME] != NOWHERE:
                kinds[about[TIME], count] = NULL
            at = _line(data, at, end, names, wanted, about, powers, tags, kinds, begins, ends, count)
            good = at >= 0 and _fits(kinds, takes, count)
            count += 1
        if good and text != ALL_ASCII:
            _mark_text(kinds, first, count)
        if not good:
            count = first
    return count


@compiled
def _line(
    data: Bytes,
    at: int,
    end: int,
    names: Bytes,
    wanted: Int64s,
    about: Int64s,
    powers: Doubles,
    tags: Int64s,
    kinds: NDArray[np.uint8],
    begins: Int64s,
    ends: Int64s,
    n: int,
) -> int:
    """Returns the place of the line's end; -1 where it is not a usual line, as below."""
    until = _word(data, at, end)
    if until <= at or data[at] == ord("#"):
        return -1
    slot = about[MEASUREMENT]
    if slot != NOWHERE:
        kinds[slot, n], begins[slot, n], ends[slot, n] = ASCII, at, until
    at = _tags(data, until, end, names, wanted, tags, kinds, begins, ends, n)
    if at >= 0:
        at = _fields(data, at, end, names, wanted, powers, kinds, begins, ends, n)
    if 0 <= at < end and data[at] == ord(" "):
        time, at = _whole(data, at + 1, _word(data, at + 1, end))
        slot = about[TIME]
        if slot != NOWHERE:
            kinds[slot, n], begins[slot, n] = WHOLE, time
    if at >= 0 and at < end and data[at] != ord("\n"):
        at = -1
    return at


@compiled
def _tags(
    data: Bytes,
    at: int,
    end: int,
    names: Bytes,
    wanted: Int64s,
    tags: Int64s,
    kinds: NDArray[np.uint8],
    begins: Int64s,
    ends: Int64s,
    n: int,
) -> int:
    """Those behind a measurement, each after a comma; returns the place behind them."""
    count = likely = 0
    while at < end and data[at] == ord(","):
        begin, equals = at + 1, _word(data, at + 1, end)
        if equals <= begin or equals == end or data[equals] != ord("=") or count == MOST_TAGS:
            return -1
        for other in range(count):
            if _same(data, begin, equals, data, tags[other, 0], tags[other, 1]):
                return -1
        tags[count, 0], tags[count, 1] = begin, equals
        count += 1
        at = _word(data, equals + 1, end)
        if at <= equals + 1:
            return -1
        place = _place(data, begin, equals, names, wanted, IN_TAGS, likely)
        if place != NOWHERE:
            likely, slot = place + 1, wanted[place, 3]
            kinds[slot, n], begins[slot, n], ends[slot, n] = ASCII, equals + 1, at
    return at


@compiled
def _fields(
    data: Bytes,
    at: int,
    end: int,
    names: Bytes,
    wanted: Int64s,
    powers: Doubles,
    kinds: NDArray[np.uint8],
    begins: Int64s,
    ends: Int64s,
    n: int,
) -> int:
    """Those behind a blank, with commas between them; returns the place behind them."""
    separator, likely = ord(" "), 0
    while at < end and data[at] == separator:
        begin, equals = at + 1, _word(data, at + 1, end)
        if equals <= begin or equals == end or data[equals] != ord("="):
            return -1
        kind, value, until, at = _field(data, equals + 1, end, powers)
        if at < 0:
            return -1
        place = _place(data, begin, equals, names, wanted, IN_FIELDS, likely)
        if place != NOWHERE:
            likely, slot = place + 1, wanted[place, 3]
            if kinds[slot, n] != ABSENT:  # it is there twice
                return -1
            kinds[slot, n], begins[slot, n], ends[slot, n] = kind, value, until
        separator = ord(",")
    return at if separator == ord(",") else -1


@compiled
def _word(data: Bytes, at: int, end: int) -> int:
    """Where the name or text at a place ends: at a comma, an equals sign, a blank or a line's end; -1 if unusual."""
    while at < end:
        sign = data[at]
        if sign in (ord(","), ord("="), ord(" "), ord("\n")):
            return at
        if sign < 0x20 or sign == ord('"') or sign == ord("\\"):
            return -1
        at += 1
    return at


@compiled
def _field(data: Bytes, at: int, end: int, powers: Doubles) -> tuple[int, int, int, int]:
    """A field's kind, its number or where its text begins, where that ends, and what is behind it."""
    if at < end and data[at] == ord('"'):
        until = _quoted(data, at + 1, end)
        return ASCII, at + 1, until, until + 1 if until >= 0 else -1
    until = _word(data, at, end)
    if until <= at:
        return ABSENT, 0, 0, -1
    if data[until - 1] == ord("i"):
        negative = data[at] == ord("-")
        value, behind = _whole(data, at + 1 if negative else at, until - 1)
        return WHOLE, -value if negative else value, 0, until if behind >= 0 else -1
    found, number = decimal(data, at, until, powers)
    if found == EXACT:
        return DOUBLE, bits_of(number), 0, until
    if found != NO_NUMBER:
        return DECIMAL, at, until, until
    truth = _truth(data, at, until)
    return BOOLEAN, truth, 0, until if truth >= 0 else -1


@compiled
def _quoted(data: Bytes, at: int, end: int) -> int:
    """Where the text behind a quotation mark ends."""
    while at < end and data[at] != ord('"'):
        if data[at] < 0x20 or data[at] == ord("\\"):
            return -1
        at += 1
    return at if at < end else -1


@compiled
def _truth(data: Bytes, at: int, end: int) -> int:
    """1 of t, T, true, True or TRUE, 0 of their contraries, -1 of others."""
    size = end - at
    true, upper = data[at] in (ord("t"), ord("T")), data[at] < ord("a")
    if not true and data[at] not in (ord("f"), ord("F")):
        return -1
    if size != 1:
        if size != (4 if true else 5):
            return -1
        lower = 0x20 if upper and data[at + 1] < ord("a") else 0  # what the other letters lack
        for n in range(1, size):
            letter = (0x727565 >> (8 * (3 - n))) & 0xFF if true else (0x616C7365 >> (8 * (4 - n))) & 0xFF
            if data[at + n] + lower != letter:
                return -1
    return 1 if true else 0


@compiled
def _whole(data: Bytes, begin: int, end: int) -> tuple[int, int]:
    """The number that data[begin:end] is, of digits alone, and the end."""
    value = 0
    if end - begin < 1 or end - begin > MOST_DIGITS:
        return value, -1
    for place in range(begin, end):
        if data[place] < ord("0") or data[place] > ord("9"):
            return value, -1
        value = value * 10 + (int(data[place]) - ord("0"))
    return value, end if 0 <= value <= LARGEST else -1


@compiled
def _same(one: Bytes, begin: int, end: int, other: Bytes, from_: int, until: int) -> bool:
    """Whether the bytes at two places are the same."""
    size, n = end - begin, 0
    if size != until - from_:
        return False
    while n < size and one[begin + n] == other[from_ + n]:
        n += 1
    return n == size


@compiled
def _place(data: Bytes, begin: int, end: int, names: Bytes, wanted: Int64s, section: int, likely: int) -> int:
    """Which wanted name one is, or NOWHERE. Looked for from a likely place on: lines have an order."""
    count = len(wanted)
    for n in range(count):
        place = likely + n
        if place >= count:
            place -= count
        if wanted[place, 2] == section and _same(data, begin, end, names, wanted[place, 0], wanted[place, 1]):
            return place
    return NOWHERE


@compiled
def _fits(kinds: NDArray[np.uint8], takes: Int64s, n: int) -> bool:
    """Whether each slot has a kind that it takes."""
    slot = 0
    while slot < len(takes) and (takes[slot] >> kinds[slot, n]) & 1:
        slot += 1
    return slot == len(takes)


@compiled
def _mark_text(kinds: NDArray[np.uint8], first: int, count: int) -> None:
    """Of a value in which not all is ASCII."""
    for slot in range(len(kinds)):
        for n in range(first, count):
            if kinds[slot, n] == ASCII:
                kinds[slot, n] = TEXT
