"""How times in text are written that programs export: formats to try on one that is none of RFC 3339's forms."""

import re

import polars as pl

CLOCK = re.compile(r"%[HIRTXsc+]")
FORMATS = (
    *("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%y %H:%M:%S", "%d.%m.%y %H:%M", "%d.%m.%Y", "%d.%m.%y"),
    *("%d-%b-%Y %H:%M:%S", "%d-%b-%Y %H:%M", "%d-%b-%y %H:%M:%S", "%d-%b-%y %H:%M", "%d-%b-%Y", "%d-%b-%y"),
    *("%d %b %Y %H:%M:%S", "%d %b %Y %H:%M", "%d/%b/%Y:%H:%M:%S", "%b %d, %Y %I:%M %p", "%b %d, %Y %I:%M:%S %p"),
    *("%b %d, %Y %H:%M:%S", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S GMT"),
    *("%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"),
    *("%d/%m/%y %H:%M", "%m/%d/%y %H:%M", "%d/%m/%y %H:%M:%S", "%m/%d/%y %H:%M:%S", "%m/%d/%y %I:%M %p"),
    *("%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y.%m.%d %H:%M:%S", "%Y.%m.%d %H:%M", "%Y-%m-%d-%H.%M.%S"),
    *("%Y-%m-%d %H:%M:%S,%f", "%d.%m.%Y %H:%M:%S,%f", "%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%S", "%Y%m%d %H%M%S"),
    *("%a %b %d %H:%M:%S %Z %Y", "%d/%b/%Y:%H:%M:%S %z", "%d-%m-%y %H:%M:%S", "%m-%d-%y %H:%M:%S", "%y-%m-%d %H:%M:%S"),
    *("%d-%m-%y %H:%M", "%m-%d-%y %H:%M", "%y-%m-%d %H:%M"),
    *("%Y%m%d %H:%M:%S", "%G-W%V-%u", "%Y-%j", "%H:%M:%S %d.%m.%Y", "%H:%M %d/%m/%Y"),
)
LIKELY_YEARS = 1980, 2100


def parsed(column: pl.Series, form: str) -> pl.Series:
    """Datetimes of text that is written so, null where it is not. Raises PolarsError of a format that is none.

    form: as strptime has it: `%f` is the fraction behind a point or a comma.
    """
    if form.endswith(":%f"):  # milliseconds behind a colon: a fraction, whatever is before it
        column, form = column.str.replace(r":(\d{1,9})\s*$", ".${1}"), form.removesuffix(":%f") + ".%f"
    if ",%f" in form:
        column = column.str.replace(r",(\d{1,9})", ".${1}")
    form = form.replace(".%f", "%.f").replace(",%f", "%.f").replace("%f", "%6f")
    if CLOCK.search(form):
        return column.str.to_datetime(form, time_unit="ms", strict=False)
    return column.str.to_date(form, strict=False).cast(pl.Datetime("ms"))


def likely_formats(text: str) -> list[str]:
    """Those by which a text is a time, one for each time that it may be."""
    one, found = pl.Series([text.strip()]), dict[object, str]()
    for form in FORMATS:
        times = parsed(one, form)
        if not times.null_count() and LIKELY_YEARS[0] <= times.dt.year()[0] < LIKELY_YEARS[1]:
            found.setdefault(times[0], form)
    return list(found.values())
