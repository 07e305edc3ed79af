"""In which times nothing is learned, of what the settings and people say."""

from service.process.incidents import new_book
from service.process.quiet import said_pauses
from service.settings.settings import Settings
from service.stages.incidents.controls import Control, Dependency, Quiet, holds_id, holds_record, read_control
from service.stages.incidents.quiet import QuietTimes
from service.state.pauses import SaidPause
from tests.service.stages.incidents.plant import who


def depends(learn: bool = False) -> Dependency:
    return Dependency(streams=["line/*"], on=["line/drive"], reason="stands", learn=learn, **who("anna"))


def holds(dependency: str) -> dict[str, Control]:
    record = holds_record(dependency, holds=True, clock_ms=0)
    name, control = read_control(record.key, record.value)
    assert control is not None
    return {name: control}


def test_a_dependency_pauses_learning_while_it_is_said_to_hold_but_not_of_what_others_depend_on() -> None:
    settings = Settings()
    assert said_pauses(settings, {"drive": depends()}) == ()
    (pause,) = said_pauses(settings, {"drive": depends(), **holds("drive")})
    assert pause == SaidPause("drive", ("line/*",), but=("line/drive",))
    streams = pause.window().streams
    assert ("line/m/s" in streams, "line/drive" in streams, "other" in streams) == (True, False, False)


def test_nothing_pauses_by_a_dependency_that_learns_or_was_taken_back() -> None:
    settings = Settings()
    assert said_pauses(settings, {"drive": depends(learn=True), **holds("drive")}) == ()
    assert said_pauses(settings, holds("drive")) == ()
    quiet = Quiet(streams=["*"], reason="", until="2026-11-30T08:00:00Z", **who("anna"))
    assert said_pauses(settings, {"drive": quiet, **holds("drive")})[0].id == "drive"
    assert holds_id("drive") != holds_id("drive-2")


def test_a_dependency_of_the_settings_is_one_as_people_say_it() -> None:
    one = {"streams": ["line/*"], "on": ["line/drive"], "reason": "stands"}
    settings = Settings.model_validate({"incidents": {"dependencies": [one, {**one, "learn": True}]}})
    held = {
        **holds("incidents.dependencies.0"),
        **holds("incidents.dependencies.1"),
        **holds("incidents.dependencies.2"),
    }
    (pause,) = said_pauses(settings, held)
    assert pause == SaidPause("incidents.dependencies.0", ("line/*",), but=("line/drive",))
    book = new_book(settings.incidents, QuietTimes())
    assert book.controls.quiet("line/m/s", 0) is None
    book.controls.note("line/drive", 1)
    assert (book.controls.quiet("line/m/s", 0), book.controls.quiet("line/drive", 0)) == ("stands", None)
    assert book.controls.holding_changed() == {"incidents.dependencies.0": True}
