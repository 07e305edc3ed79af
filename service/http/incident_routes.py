"""HTTP: which incidents are open, and which closed lately."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.http.answers import json_of, schema
from service.http.incident_list import MOST_OPEN, IncidentList, IncidentsFound


def router(incidents: IncidentList) -> APIRouter:
    api = APIRouter(prefix="/api/v1", tags=["incidents"])

    @api.get("/incidents", responses={200: schema(IncidentsFound)})
    async def found(
        limit: Annotated[int, Query(ge=1, le=MOST_OPEN, description="Of the open ones, how many.")] = 100,
    ) -> Response:
        """Incidents that are open, the most severe first, and the latest that closed, the latest first.

        They are those of the topic of incidents, of all workers; `followed` is false where that cannot be read.
        """
        return json_of(incidents.found(limit))

    return api
