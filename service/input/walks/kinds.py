"""The kinds of what is found in a slot: constants of compiled code, and of what makes instances of it."""

# What is in a slot: `begins` is the number, the bits of a float, a symbol's place, microseconds, or where text begins.
ABSENT, NULL, OBJECT, BOOLEAN, WHOLE, SINGLE, DOUBLE, ASCII, TEXT, BYTES, SYMBOL, MOMENT, DECIMAL = range(13)
