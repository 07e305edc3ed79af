"""How many damaged inputs each parser is given: ten thousand, or as many times that as TELLTALE_TEST_FUZZ says."""

import os

TIMES = int(os.environ.get("TELLTALE_TEST_FUZZ", "1"))
INPUTS = 10_000 * TIMES
