"""The table of data files as people have them: the first lines of each, the options that read it, and what is read."""

import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from docs.tables import table as markdown
from models.data.file_options import FileOptions, Order
from models.data.rfc3339 import rfc3339
from models.data.series import read_series
from models.data.time_units import TimeUnit

NAMES = {"unit": "time_unit", "zone": "times_in"}  # of options, where they are not those of FileOptions
REPEATED = ("missing", "word", "quality_column", "good", "leave_out")
FIRST_MS = 1_704_164_645_000  # 2024-01-02T03:04:05Z
VALUES = [[20.5, 1015.25], [20.75, 1014.5], [21.0, 1014.0]]
TIMES = ["2024-01-02T03:04:05Z", "2024-01-02T03:05:05Z", "2024-01-02T03:06:05Z"]
HOUR_MS = 3_600_000


class Case(NamedTuple):
    """A file; what reads it, and its first time; or what the refusal says."""

    text: str
    options: FileOptions = FileOptions()
    first_ms: int = FIRST_MS
    note: str = ""
    refused: str = ""  # without options
    features: tuple[str, ...] | None = None
    name: str = "pump.csv"
    encoding: str = "utf-8"
    values: list[list[float]] = VALUES


def table(
    times: Sequence[str] = TIMES,
    header: str = "timestamp,temp,press",
    more: Sequence[str] = ("", "", ""),
    values: Sequence[Sequence[object]] = VALUES,
) -> str:
    rows = [f"{time},{a},{b}{rest}" for time, (a, b), rest in zip(times, values, more, strict=True)]
    return "\n".join([header, *rows, ""])


def at(pattern: str) -> list[str]:
    return [pattern.replace("#", str(minute)) for minute in (4, 5, 6)]


DAY_FIRST = FileOptions(time_format="%d/%m/%Y %H:%M:%S")
MONTH_FIRST = FileOptions(time_format="%m/%d/%Y %I:%M:%S %p")
CASES = {
    "as it should be": Case(table()),
    "times in Time": Case(table(header="Time,temp,press"), note="times in column Time"),
    "times in when": Case(table(header="when,temp,press"), note="times in column when"),
    "the index of pandas": Case(table(header=",temp,press"), note="times in column (no name)"),
    "two columns of times": Case(
        "\n".join(["seen,stored,temp,press", *(f"{t},{t},{a},{b}" for t, (a, b) in zip(TIMES, VALUES, strict=True))]),
        FileOptions(time_column="seen"),
        refused="found seen, stored, temp, press, and seen and stored may each be it; --time-column names",
        features=("temp", "press"),
    ),
    "days since 1970": Case(
        table(["19724", "19725", "19726"]),
        FileOptions(time_format="days"),
        first_ms=1_704_153_600_000,
        refused="looks like days since 1970, expected milliseconds, a datetime or RFC 3339 text; --time-format",
    ),
    "LabVIEW's seconds, decimal comma": Case(
        table([f"{3_787_009_445 + 60 * n},000000" for n in range(3)])
        .replace(",", ";")
        .replace(";000", ",000")
        .replace(".", ","),
        FileOptions(time_format="labview"),
        refused="looks like seconds since 1904, as LabVIEW counts, expected milliseconds; --time-format labview",
    ),
    "ticks of .NET": Case(
        table([f"{638_397_614_450_000_000 + 600_000_000 * n}" for n in range(3)]),
        FileOptions(time_format="dotnet"),
        refused="looks like ticks of .NET since the year 1, expected milliseconds; --time-format dotnet reads it",
    ),
    "minutes since 1970": Case(
        table(["28402744", "28402745", "28402746"]),
        FileOptions(time_format="minutes"),
        first_ms=FIRST_MS - 5000,
        refused="looks like minutes since 1970",
    ),
    "days of a spreadsheet": Case(
        table([f"{45293 + (11_045 + 60 * n) / 86_400:.10f}" for n in range(3)]),
        FileOptions(time_format="excel"),
        refused="looks like days since 1899-12-30, as Excel counts, expected milliseconds, a datetime or RFC 3339 text",
    ),
    "date and time": Case(
        table(header="date,time,press", values=[[a, b] for a, b in VALUES]),
        FileOptions(time_column="date"),
        refused="date and time may each be it; --time-column",
    ),
    "seconds": Case(
        table(["1704164645", "1704164705", "1704164765"]),
        FileOptions(unit=TimeUnit.S),
        refused="--time-unit s reads it",
    ),
    "no zone": Case(table(at("2024-01-02 03:0#:05")), note="times without a zone are read as UTC, --times-in"),
    "no zone, in Berlin": Case(
        table(at("2024-01-02 03:0#:05")), FileOptions(zone="Europe/Berlin"), first_ms=FIRST_MS - HOUR_MS
    ),
    "no seconds": Case(table(at("2024-01-02 03:0#")), first_ms=FIRST_MS - 5000),
    "date only": Case(table(at("2024-01-0#")), first_ms=1_704_326_400_000),
    "offset of hours": Case(table(at("2024-01-02 03:0#:05+02")), first_ms=FIRST_MS - 2 * HOUR_MS),
    "UTC written out": Case(table(at("2024-01-02 03:0#:05 UTC"))),
    "day first, with dots": Case(table(at("02.01.2024 03:0#:05")), note="times are %d.%m.%Y %H:%M:%S"),
    "day first, seen by a day": Case(
        table(at("30/01/2024 03:0#:05")), first_ms=FIRST_MS + 28 * 24 * HOUR_MS, note="times are %d/%m/%Y"
    ),
    "day or month first": Case(
        table(at("02/01/2024 03:0#:05")), DAY_FIRST, refused="may begin with the day or the month; --time-format '%d/%m"
    ),
    "month first, am": Case(table(at("01/02/2024 03:0#:05 AM")), MONTH_FIRST, refused="or '%m/%d/%Y %I:%M:%S %p' says"),
    "names of a zone's times, as clocks are set back": Case(
        table([f"Sun Oct 26 02:{one} 2025" for one in ("59:30 CEST", "00:30 CET", "01:30 CET")]),
        FileOptions(time_format="%a %b %d %H:%M:%S %Z %Y", zone="Europe/Berlin"),
        first_ms=1_761_440_370_000,
        refused="--time-format '%a %b %d %H:%M:%S %Z %Y' reads it",
    ),
    "columns by spaces": Case(
        "  time                  temp    press\n"
        + "".join(f"  {t}  {a:6}  {b:8} \n" for t, (a, b) in zip(TIMES, VALUES, strict=True)),
        FileOptions(separator="spaces"),
        note="times in column time",
        refused="--separator says what is between its cells",
        name="pump.txt",
    ),
    "milliseconds behind a colon": Case(
        table(at("01/02/2024 03:0#:05:000")),
        FileOptions(time_format="%m/%d/%Y %H:%M:%S:%f"),
        refused="--time-format says how it is written",
    ),
    "a logger's counter": Case(
        table(header="timestamp,temp,press,RECORD", more=[",17", ",18", ",19"]),
        features=("temp", "press"),
        refused="column RECORD counts the rows and looks like an index, which is no sensor; --features temp,press",
    ),
    "Campbell's TOA5": Case(
        '"TOA5","CR1000X","p7","1234"\n"TIMESTAMP","temp","press"\n"TS","Deg C","hPa"\n"","Avg","Smp"\n'
        + "".join(f'"{t}",{a},{b}\n' for t, (a, b) in zip(at("2024-01-02 03:0#:05"), VALUES, strict=True)),
        FileOptions(skip_lines=1, leave_out=("TS", '",')),
        note='lines that begin with TS or ", left out',
        refused="TOA5,CR1000X,p7,1234, expected the names of the columns; --skip-lines 1 --leave-out TS --leave-out",
    ),
    "semicolons": Case(table().replace(",", ";"), note="separator semicolon"),
    "tabs": Case(table().replace(",", "\t"), note="separator tab", name="pump.tsv"),
    "semicolons, decimal comma": Case(
        table().replace(",", ";").replace(".", ","), note="separator semicolon; decimal comma"
    ),
    "stars": Case(table().replace(",", "*"), FileOptions(separator="*"), refused="found timestamp*temp*press"),
    "spaces": Case(table().replace(",", ", ")),
    "quotes": Case(
        '"timestamp","temp","press"\n'
        + "".join(f'"{t}","{a}","{b}"\n' for t, (a, b) in zip(TIMES, VALUES, strict=True))
    ),
    "byte order mark": Case("\ufeff" + table(), note="encoding utf-8-sig"),
    "UTF-16": Case(table(), note="encoding utf-16", encoding="utf-16"),
    "cp1252": Case(
        table(header="timestamp,temp °C,press"),
        FileOptions(encoding="cp1252"),
        encoding="cp1252",
        refused="has a byte that is no character, expected utf-8; --encoding names another",
    ),
    "line ends of Windows": Case(table().replace("\n", "\r\n")),
    "a separator ends every line": Case(
        table(header="timestamp,temp,press,", more=[",", ",", ","]), note="a separator ends every line"
    ),
    "words for missing": Case(
        table(values=[[20.5, "N/A"], ["null", 1014.5], [21.0, 1014.0]]),
        note="'null', 'N/A' read as missing",
        values=[[20.5, math.nan], [math.nan, 1014.5], [21.0, 1014.0]],
    ),
    "a word of its own for missing": Case(
        table(values=[[20.5, "bad"], *VALUES[1:]]),
        FileOptions(missing=("bad",)),
        refused="column press, row 0 is 'bad', expected a number; --missing='bad' reads it as missing",
        values=[[20.5, math.nan], *VALUES[1:]],
    ),
    "a sentinel": Case(
        table(values=[[20.5, -9999], *VALUES[1:]]),
        note="column press is -9999 in 1 of 3 rows, far from its other values: if that means that there is no value, "
        "--missing=-9999 says so",
        values=[[20.5, -9999.0], *VALUES[1:]],
    ),
    "a sentinel that is named": Case(
        table(values=[[65535.0, 1015.25], *VALUES[1:]]),
        FileOptions(missing=("65535",)),
        values=[[math.nan, 1015.25], *VALUES[1:]],
    ),
    "infinite values": Case(
        table(values=[["inf", 1015.25], [20.75, 1014.5], ["-Infinity", 1014.0]]),
        note="column temp is infinite in 2 of 3 rows, read as missing",
        values=[[math.nan, 1015.25], [20.75, 1014.5], [math.nan, 1014.0]],
    ),
    "a label": Case(
        table(header="timestamp,temp,press,anomaly", more=[",0", ",0.0", ",1"]),
        features=("temp", "press"),
        refused="column anomaly holds 0 and 1 and looks like a label, which a net must not learn; --features temp,p",
    ),
    "an index": Case(
        "\n".join(f"{n - 1 if n else ''},{line}" for n, line in enumerate(table().splitlines())),
        features=("temp", "press"),
        refused="column (no name) counts the rows and looks like an index, which is no sensor; --features temp,press",
    ),
    "text": Case(
        table(header="timestamp,temp,press,status", more=[",IDLE", ",RUN", ",RUN"]),
        features=("temp", "press"),
        refused="column status is text, expected numbers; row 0 is 'IDLE'; --features temp,press names the channels",
    ),
    "switches": Case(
        table(values=[["true", 1.5], ["false", 2.5], ["true", 3.5]]),
        features=("temp", "press"),
        refused="column temp is Boolean, expected numbers; row 0 is 'true'; --features press",
        values=[[1, 1.5], [0, 2.5], [1, 3.5]],
    ),
    "a header twice": Case(
        table(header="timestamp,temp,temp"),
        FileOptions(columns=("timestamp", "a", "b")),
        refused="column temp is there twice, as columns 2 and 3; --columns A,B,C names",
    ),
    "a preamble": Case(
        "Exported by the plant;station 7\nFrom;2024-01-02\n\n"
        + table(values=VALUES).replace(",", ";").replace("Z;", "Z;"),
        note="3 lines before the header left out",
    ),
    "comments": Case("#group,false,false\n#datatype,dateTime,double\n" + table(), note="2 lines before the header"),
    "one comment": Case("# plant 7\n" + table(), note="1 line before the header left out"),
    "lines that are counted": Case(
        "2024,1,2\n" + table(), FileOptions(skip_lines=1), refused="the first line is 2024,1,2, expected the names"
    ),
    "a row of units": Case(
        table().replace("press\n", "press\n,degC,hPa\n"),
        note="the row below the header has units: temp in degC, press in hPa",
    ),
    "units behind values": Case(
        table(values=[[f"{a} °C", f"{b}%"] for a, b in VALUES]), note="values have units: temp in °C, press in %"
    ),
    "another unit": Case(
        table(values=[["20.5 C", 1015.25], ["20.75 C", 1014.5], ["69.8 F", 1014.0]]).replace("69.8 F", "21 C"),
        note="temp in C",
    ),
    "thousands": Case(
        table(values=[[a, f'"1,0{b - 1000:.2f}"'] for a, b in VALUES]),
    ),
    "thousands, decimal comma": Case(
        table(values=[[a, f"1,0{b - 1000:.2f}"] for a, b in VALUES])
        .replace(",0", "|0")
        .replace(",", ";")
        .replace(".", ",")
        .replace("|0", ".0"),
        note="decimal comma",
    ),
    "points that may be of thousands": Case(
        "Zeit;Druck;Menge\n"
        + "".join(
            f"{t};{a};{b}\n" for t, a, b in zip(TIMES, ("1.230", "1.245", "1.250"), (980, "1.015", 975), strict=True)
        ),
        FileOptions(decimal=","),
        refused="with a point have three digits behind it, such as 1.230, which may be thousands: --decimal . reads it "
        "as the decimal point, --decimal , as that of thousands",
        values=[[1230, 980], [1245, 1015], [1250, 975]],
    ),
    "points of thousands, as a comma is there too": Case(
        "Zeit;Druck;Menge\n"
        + "".join(
            f"{t};{a};{b}\n" for t, a, b in zip(TIMES, ("1.230", "1.245", "1.250"), ("9,5", "8", "7,25"), strict=True)
        ),
        note="decimal comma",
        values=[[1230, 9.5], [1245, 8], [1250, 7.25]],
    ),
    "three digits behind each point": Case(
        table(values=[[f"{a:.3f}", f"{b:.3f}"] for a, b in VALUES]).replace(",", ";"),
        note="separator semicolon",
    ),
    "three digits behind each point, cells parted by commas": Case(
        table(values=[["1.230", "2.500"], ["1.245", "2.750"], ["1.250", "2.800"]]),
        values=[[1.23, 2.5], [1.245, 2.75], [1.25, 2.8]],
    ),
    "date and time apart": Case(
        "\n".join(
            ["day,clock,temp,press", *(f"{t[:10]},{t[11:]},{a},{b}" for t, (a, b) in zip(TIMES, VALUES, strict=True))]
        ),
        FileOptions(time_column="day,clock"),
        refused="day and clock may each be it; --time-column names the one with the times, --time-column day,clock",
    ),
    "no header": Case(
        table().partition("\n")[2],
        FileOptions(columns=("timestamp", "a", "b")),
        refused=f"the first line is {TIMES[0]},20.5,1015.25, expected the names of the columns; --columns",
    ),
    "the newest first": Case(
        table(TIMES[::-1], values=VALUES[::-1]),
        FileOptions(order=Order.SORT),
        note="2 of 3 readings of pump are earlier than one before them: sorted",
        refused="--order sort reads them in the order of their times",
    ),
    "one value a row": Case(
        "timestamp,metric,value\n"
        + "".join(f"{t},temp,{a}\n{t},press,{b}\n" for t, (a, b) in zip(TIMES, VALUES, strict=True)),
        FileOptions(name_column="metric"),
        note="one value a row, named by metric: temp, press",
        refused="--name-column metric if it says what each row's value is",
    ),
    "JSON lines": Case(
        "".join(
            json.dumps({"timestamp": t, "temp": a, "press": b}) + "\n" for t, (a, b) in zip(TIMES, VALUES, strict=True)
        ),
        name="pump.jsonl",
    ),
    "objects within JSON lines": Case(
        "".join(
            json.dumps({"at": {"time": t}, "values": {"temp": a, "press": {"value": b}}}) + "\n"
            for t, (a, b) in zip(TIMES, VALUES, strict=True)
        ),
        note="times in column at.time",
        features=("values.temp", "values.press.value"),
        name="pump.jsonl",
    ),
    "an array of objects": Case(
        json.dumps([{"time": t, "temp": a, "press": b} for t, (a, b) in zip(TIMES, VALUES, strict=True)]),
        note="times in column time",
        name="pump.json",
    ),
    "a name with quotes": Case(
        table(header='time,"temp {host=""h1""}",press'),
        FileOptions(columns=("time", "temp", "press")),
        refused="expected a name of a channel without quotes, backslashes and control characters; --columns A,B,C",
    ),
    "quality flags": Case(
        "\n".join(
            [
                table(header="timestamp,temp,press,press_quality").splitlines()[0],
                *(f"{line},{q}" for line, q in zip(table().splitlines()[1:], (192, 0, 192), strict=True)),
            ]
        ),
        refused="press_quality holds 0, 192 alone and looks like a quality flag, which is no sensor: "
        "--quality-column 'press_quality' --good FLAG makes values missing that are not good; --features temp,press na",
        features=("temp", "press"),
    ),
    "quality flags of a channel": Case(
        table(header="timestamp,temp,press,press_quality", more=[",192", ",0", ",192"]),
        FileOptions(quality_column=("press=press_quality",), good=("192",)),
        note="values are missing where press_quality is not 192",
        refused="looks like a quality flag, which is no sensor: --quality-column 'press_quality' --good FLAG makes",
        values=[VALUES[0], [20.75, math.nan], VALUES[2]],
    ),
    "a historian's quality, one value a row": Case(
        "DateTime,TagName,Value,Quality\n"
        + "".join(
            f"{t},{name},{row[k]},{'Bad' if (n, k) == (1, 0) else 'Good'}\n"
            for n, (t, row) in enumerate(zip(TIMES, VALUES, strict=True))
            for k, name in enumerate(("temp", "press"))
        ),
        FileOptions(name_column="TagName", value_column="Value", quality_column=("Quality",), good=("Good",)),
        note="values are missing where Quality is not Good",
        refused="--name-column TagName --value-column Value if it says what each row's value is",
        values=[VALUES[0], [math.nan, 1014.5], VALUES[2]],
    ),
    "words for numbers": Case(
        table(values=[["ON", 1015.25], ["off", 1014.5], ["ON", 1014.0]]),
        FileOptions(word=("ON=1", "OFF=0")),
        refused="column temp is text, expected numbers; row 0 is 'ON'; --features press names the channels",
        values=[[1, 1015.25], [0, 1014.5], [1, 1014.0]],
    ),
    "thousands apart": Case(
        table(values=[[a, f"1 {b - 1000:06.2f}"] for a, b in VALUES]),
    ),
    "two lines of names": Case(
        "time,boiler,\n,temp,press\n" + "\n".join(table().splitlines()[1:]),
        FileOptions(skip_lines=2, columns=("timestamp", "temp", "press")),
        refused="column 3 has no name in the header, but 'press' in the line below it, expected one line of names; "
        "--skip-lines 2 --columns A,B,C names all 3 columns",
    ),
    "names twice in several lines": Case(
        "time,boiler,boiler\n,temp,press\n,C,bar\n" + "\n".join(table().splitlines()[1:]),
        FileOptions(skip_lines=3, columns=("timestamp", "temp", "press")),
        refused="boiler is there twice, as columns 2 and 3; --skip-lines 3 --columns A,B,C names all 3 columns",
    ),
    "a line of names alone": Case(
        '"#NAMES"\n"time","temp","press"\n"#ROWS","3"\n' + "\n".join(table().splitlines()[1:]),
        FileOptions(skip_lines=3, columns=("timestamp", "temp", "press")),
        refused="the line of the columns' names is '\"#NAMES\"', most lines have 3 cells; --skip-lines N",
    ),
    "one value a row, with numbers of each": Case(
        "time,table,name,value\n"
        + "".join(
            f"{t},{n},{name},{row[n]}\n"
            for n, name in enumerate(("temp", "press"))
            for t, row in zip(TIMES, VALUES, strict=True)
        ),
        FileOptions(name_column="name"),
        note="left out, as each value has one of its own: table",
    ),
    "files put together, with empty lines": Case(
        "# export\n" + table().replace("2024-01-02T03:05", "\r\n,,\ntimestamp,temp,press\n# more\n2024-01-02T03:05"),
        note="1 line before the header left out",
    ),
    "plain text": Case(table(), name="pump.txt"),
    "WinCC's archive": Case(
        '"VarName";"TimeString";"VarValue";"Validity";"Time_ms"\r\n'
        + "".join(
            f'"{name}";"02.01.2024 03:0{4 + n}:05";{row[k]};1;{45_293_127_835 + 694_444 * n},648\r\n'.replace(
                ".5", ",5"
            )
            for n, row in enumerate(VALUES)
            for k, name in enumerate(("temp", "press"))
        )
        .replace(".25;", ",25;")
        .replace(".75;", ",75;")
        .replace(".0;", ";")
        + '"$RT_OFF$";"02.01.2024 03:06:06";0;2;45293129225,231\r\n"$RT_COUNT$";7\r\n',
        FileOptions(name_column="VarName", value_column="VarValue", leave_out=("$RT_",)),
        note="lines that begin with $RT_ left out",
        features=("temp", "press"),
        refused="row 7 has 2 cells, expected 5: '$RT_COUNT$;7'; --leave-out '$RT_COUNT$' leaves out lines",
    ),
    "sums below the rows": Case(
        table() + "Mean,20.75,1014.58\n",
        FileOptions(leave_out=("Mean",)),
        note="lines that begin with Mean left out",
        refused="row 3: timestamp 'Mean', expected RFC 3339 such as 2026-01-31T23:59:00Z; --leave-out Mean leaves out",
    ),
    "whole days of a spreadsheet": Case(
        table(["45293", "45294", "45295"]),
        FileOptions(time_format="excel"),
        first_ms=1_704_153_600_000,
        refused="timestamp 45293 looks like days since 1899-12-30, as Excel counts, expected milliseconds, a datetime",
    ),
    "seconds, by the row of units": Case(
        table(["0", "60", "120"]).replace("press\n", "press\n[s],[°C],[hPa]\n"),
        FileOptions(unit=TimeUnit.S),
        first_ms=0,
        refused="column timestamp has times in seconds, as its header says, expected milliseconds; --time-unit s reads",
    ),
    "an offset in the header": Case(
        table(at("2024-01-02 03:0#:05"), header="Time (UTC+1),temp,press"),
        FileOptions(zone="Etc/GMT-1"),
        first_ms=FIRST_MS - HOUR_MS,
        refused="column Time (UTC+1) names an offset from UTC, its times have none; --times-in Etc/GMT-1 reads them",
    ),
    "a separator that is told to Excel": Case("sep=,\n" + table(), note="1 line before the header left out"),
    "exponents, decimal comma": Case(
        table(values=[[f"{a / 10:.4f}E+01", b] for a, b in VALUES]).replace(",", ";").replace(".", ","),
        note="decimal comma",
    ),
    "dates in digits": Case(
        table(["20240102030405", "20240102030505", "20240102030605"]),
        FileOptions(time_format="%Y%m%d%H%M%S"),
        refused="timestamp 20240102030405 looks like a date in digits, expected milliseconds; --time-format",
    ),
    "names of months": Case(
        table(at("02-Jan-2024 03:0#:05")),
        FileOptions(time_format="%d-%b-%Y %H:%M:%S"),
        refused="row 0: timestamp '02-Jan-2024 03:04:05', expected RFC 3339 such as 2026-01-31T23:59:00Z; "
        "--time-format '%d-%b-%Y %H:%M:%S' reads it",
    ),
    "years of two digits": Case(
        table(at("02/01/24 03:0#")),
        FileOptions(time_format="%d/%m/%y %H:%M"),
        first_ms=FIRST_MS - 5000,
        refused="--time-format '%d/%m/%y %H:%M' or '%m/%d/%y %H:%M' says which it is",
    ),
    "fractions behind a comma": Case(
        table(at("2024-01-02 03:0#:05,000")).replace(",", ";").replace("05;000", "05,000"),
        FileOptions(time_format="%Y-%m-%d %H:%M:%S,%f"),
        refused="--time-format '%Y-%m-%d %H:%M:%S,%f' reads it",
    ),
    "a time among the values": Case(
        table(header="timestamp,temp,press,Time_ms", more=[f",{1_704_164_645_000 + n * 60_000}" for n in range(3)]),
        features=("temp", "press"),
        refused="column Time_ms rises with each row and looks like a time, which is no sensor; --features temp,press",
    ),
    "UTF-16 without a mark": Case(
        table(), FileOptions(encoding="utf-16-le"), encoding="utf-16-le", refused="--encoding utf-16-le reads UTF-16"
    ),
    "an answer of Prometheus": Case(
        json.dumps(
            {
                "status": "success",
                "data": {
                    "resultType": "matrix",
                    "result": [
                        {
                            "metric": {"__name__": name, "instance": "pump"},
                            "values": [[FIRST_MS / 1000 + 60 * n, str(row[k])] for n, row in enumerate(VALUES)],
                        }
                        for k, name in enumerate(("temp", "press"))
                    ],
                },
            }
        ),
        FileOptions(stream_column="instance", name_column="__name__"),
        note="an answer of Prometheus, each of its series a stream",
        name="pump.json",
    ),
}


SHOWN_LINES, SHOWN_CHARACTERS = 3, 90


def write(folder: Path, case: Case) -> Path:
    path = folder / case.name
    path.write_bytes(case.text.encode(case.encoding))
    return path


def file_table() -> str:
    """Each file, its first lines, the options that read it, and the first reading that came out."""
    return markdown(
        ("file", "its first lines", "options", "first reading"), [_row(what, case) for what, case in CASES.items()]
    )


def _row(what: str, case: Case) -> tuple[str, str, str, str]:
    with TemporaryDirectory() as folder:
        (one,) = read_series([write(Path(folder), case)], case.features, case.options)
    values = [
        f"{name} {'missing' if math.isnan(value) else value}"
        for name, value in zip(one.features, one.values[0].tolist(), strict=True)
    ]
    options = options_of(case)
    return (
        what,
        "<br>".join(f"`{line[:SHOWN_CHARACTERS]}`" for line in case.text.split("\n")[:SHOWN_LINES] if line.strip()),
        f"`{options}`" if options else "none",
        f"{rfc3339(int(one.times_ms[0]))}: {', '.join(values)}",
    )


def options_of(case: Case) -> str:
    """As they are given to a command."""
    usual, named = FileOptions(), [("features", case.features or ())]
    named += [
        (NAMES.get(name, name), value)
        for name, value in case.options._asdict().items()
        if value != getattr(usual, name)
    ]
    words: list[str] = []
    for name, value in named:
        several = [value] if not isinstance(value, tuple) else value if name in REPEATED else [",".join(value)]
        words += [f"--{name.replace('_', '-')}={shlex.quote(str(one))}" for one in several if one != ""]
    return " ".join(words)
