"""How fields of Protobuf are read: constants of what makes tables of a schema's messages and of what reads by them."""

# Columns of a message: the first of its fields, how many it has, the slot that says that it is there, and what it says.
FIELDS, FIELD_COUNT, OWN_SLOT, OWN_KIND = range(4)
# Columns of a field: its tag; how what is behind it is read; the slot of that and its kind there; the message that it
# is; which bit says that it was there, where it may be there once; and of an enumeration the first symbol and how many.
TAG, HOW, SLOT, KIND, BELOW, ONCE, FIRST, SYMBOLS = range(8)
# How a field is read.
BITS, UNSIGNED, SIGNED_32, UNSIGNED_32, ZIGZAG, ZIGZAG_32, TRUTH, ENUM = range(8)  # numbers
TEXT_SPAN, BYTES_SPAN, MOMENT_SPAN, MESSAGE = range(8, 12)
VARINTS, NUMBERS_64, NUMBERS_32 = range(12, 15)  # many numbers in one span, none of which is needed
AS_VARINT, AS_64, AS_SPAN, AS_32 = 0, 1, 2, 5  # how it is written: the lower three bits of a tag
LARGEST_TAG = 2**32 - 1
NOWHERE = -1
MOST_DEPTH = 16  # of messages in one another
MOST_ONCE = 62
LIMIT_S = 2**53 // 1_000_000  # microseconds that a double holds exactly
# Columns of a message that is being read: where it ends, which it is, what of ONCE was there, the likely next field.
END, HERE, SEEN, LIKELY = range(4)
