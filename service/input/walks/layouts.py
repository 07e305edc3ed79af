"""The parts of a time in text: constants of compiled code, and of what makes layouts for it."""

YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, FRACTION = range(7)
SIGN, REST, OFFSET = range(7, 10)  # one character; a point and 1 to 9 digits, or nothing; Z or +01:00
