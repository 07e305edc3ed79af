"""HTTP: what a live stream's memory did, and what it expects next."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from models.insight.forecasting import MOST_STEPS
from service.http.answers import REFUSALS, Stream, answer, schema, to_key
from service.live.insights import ExplanationSeen, ForecastSeen, Insight, TraceSeen
from service.live.watching import KEPT_READINGS

MAX_INTERVAL_S = 366 * 86_400.0


def router(insight: Insight) -> APIRouter:
    """Answered in threads: neither the event loop nor the worker waits."""
    api = APIRouter(prefix="/api/v1", tags=["one stream"])

    @api.get("/readings", responses={200: schema(TraceSeen), **REFUSALS})
    def readings(
        stream: Stream,
        after: Annotated[int | None, Query(ge=-1, description="Offset of the last reading that is known.")] = None,
    ) -> Response:
        """A stream's readings since it is watched, what was expected of them, their scores, and the gates.

        A stream is watched from when it is first asked for until a minute after it was last asked for.
        """
        return answer(lambda: insight.trace(to_key(stream), after))

    @api.get("/explanation", responses={200: schema(ExplanationSeen), **REFUSALS})
    def explanation(
        stream: Stream,
        readings: Annotated[int, Query(ge=1, le=KEPT_READINGS, description="How many at most, the latest.")] = 128,
        units: Annotated[bool, Query(description="Every unit's activation too, not only their quantiles.")] = False,
    ) -> Response:
        """What a stream's memory did at its latest readings: gates, cell state, and which channels drove an alarm.

        A stream is watched from when it is first asked for until a minute after it was last asked for; its readings
        are kept meanwhile, and only those can be explained. A diagnostic, not a cause.
        """
        return answer(lambda: insight.explanation(to_key(stream), readings, units))

    @api.get("/forecast", responses={200: schema(ForecastSeen), **REFUSALS})
    def forecast(
        stream: Stream,
        steps: Annotated[int, Query(ge=1, le=MOST_STEPS, description="Readings ahead.")] = 48,
        interval_s: Annotated[
            float | None,
            Query(gt=0, le=MAX_INTERVAL_S, description="Between two readings; else the median of those kept."),
        ] = None,
    ) -> Response:
        """A stream's next readings, with the bands they will be in.

        Bands come from the readings kept since the stream is watched: with a few hundred they are tried out on them,
        with fewer they are wider guesses.
        """
        return answer(lambda: insight.forecast(to_key(stream), steps, interval_s))

    return api
