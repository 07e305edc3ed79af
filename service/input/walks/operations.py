"""What a program does that reads values of Avro: constants of what makes it and of what runs it."""

# The operations, and the three integers behind each. A slot is NOWHERE where no part is made of what is read.
FLAT = 0  # slot, kind: takes no bytes
BITS = 1  # slot, kind, size: of a boolean or a float
INTEGER = 2  # slot, kind
SPAN = 3  # slot, kind, size or BEHIND_LENGTH: text or bytes
ENUM = 4  # slot, how many symbols, place of the first one
TIME = 5  # slot, microseconds of one, limit
BRANCH = 6  # count: goes to one of that many next rows, which are jumps
JUMP = 7  # target
ITEM = 8  # depth, target: goes there where no item is left in the blocks of an array or a map
REFUSE = 9
END = 10
NOWHERE = BEHIND_LENGTH = -1
MOST_DEPTH = 16  # of arrays in one another
