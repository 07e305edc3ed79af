"""Quiet times as the settings and people say them, and those in which nothing is learned."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from models.data.patterns import Streams
from service.input.calendar_file import Calendar
from service.settings.incident_section import IncidentSettings, QuietSettings
from service.settings.settings import Settings
from service.stages.incidents.controls import Control, Dependency, Holds, Quiet, quiet_time
from service.stages.incidents.quiet import CalendarTimes, QuietTimes
from service.state.pauses import Pause, SaidPause


def quiet_times(incidents: IncidentSettings) -> QuietTimes:
    """What the settings say; those of calendars last. Raises RefusedInput where one of these cannot be read."""
    return QuietTimes([*(quiet_time(_control(one)) for one in incidents.quiet), *_calendars(incidents)])


def dependencies_of(incidents: IncidentSettings) -> dict[str, Dependency]:
    """What the settings say, the same as people say it."""
    return {
        f"incidents.dependencies.{n}": Dependency(
            by="settings", at="", streams=list(one.streams), on=list(one.on), reason=one.reason, learn=one.learn
        )
        for n, one in enumerate(incidents.dependencies)
    }


def said_pauses(settings: Settings, controls: Mapping[str, Control]) -> tuple[SaidPause, ...]:
    """Those of the settings, then those of the controls that stand; calendars are not among them.

    A dependency is one while the topic says that it holds.
    """
    said = {f"incidents.quiet.{n}": _control(one) for n, one in enumerate(settings.incidents.quiet)}
    said |= {name: one for name, one in controls.items() if isinstance(one, Quiet)}
    quiet = [_said(name, one) for name, one in said.items() if not one.learn]
    return (*quiet, *_holding({**dependencies_of(settings.incidents), **controls}))


def _holding(controls: Mapping[str, Control]) -> Iterator[SaidPause]:
    for one in controls.values():
        if isinstance(one, Holds):
            dependency = controls.get(one.dependency)
            if isinstance(dependency, Dependency) and not dependency.learn:
                yield SaidPause(one.dependency, tuple(dependency.streams), but=tuple(dependency.on))


def calendar_pauses(settings: Settings) -> list[Pause]:
    """Raises RefusedSetting and RefusedInput where a calendar cannot be read."""
    return [Pause(one) for one in _calendars(settings.incidents) if not one.learn]


def pauses_for_files(settings: Settings) -> list[Pause]:
    """All that the settings say. Raises as calendar_pauses."""
    return [*(Pause(one.window()) for one in said_pauses(settings, {})), *calendar_pauses(settings)]


def _calendars(incidents: IncidentSettings) -> list[CalendarTimes]:
    found = []
    for n, one in enumerate(incidents.calendars):
        calendar = Calendar(one.file, ZoneInfo(one.time_zone), f"incidents.calendars.{n}.file")
        found.append(CalendarTimes(Streams(one.streams), calendar, one.reason, one.learn))
    return found


def _control(quiet: QuietSettings) -> Quiet:
    """The same as people say it."""
    return Quiet(
        by="settings",
        at="",
        streams=list(quiet.streams),
        reason=quiet.reason,
        begins=_text(quiet.begins),
        until=_text(quiet.until),
        cron=quiet.cron,
        lasts_s=quiet.lasts_s,
        time_zone=quiet.time_zone,
        learn=quiet.learn,
    )


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _said(name: str, quiet: Quiet) -> SaidPause:
    window = quiet_time(quiet)
    streams = tuple(quiet.streams)
    return SaidPause(name, streams, window.from_ms, window.until_ms, quiet.cron, window.lasts_ms, quiet.time_zone)
