"""HTTP: which incidents are open, and which closed lately."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from service.http.answers import json_of, schema
from service.http.incident_list import MOST_OPEN, IncidentList, IncidentsFound, MembersFound

LONGEST_ID = 200


def router(incidents: IncidentList) -> APIRouter:
    api = APIRouter(prefix="/api/v1", tags=["incidents"])

    @api.get("/incidents", responses={200: schema(IncidentsFound)})
    async def found(
        limit: Annotated[int, Query(ge=1, le=MOST_OPEN, description="Of the open ones, how many.")] = 100,
        anomaly: Annotated[
            str | None, Query(max_length=LONGEST_ID, description="Only the one that this anomaly belongs to.")
        ] = None,
    ) -> Response:
        """Incidents that are open, the rarest first, and the latest that closed, the latest first.

        Those of which no one is notified come behind the others; of equally rare ones the most severe is first.
        They are those of the topic of incidents, of all workers; `followed` is false where that cannot be read.
        """
        return json_of(incidents.found(limit, anomaly))

    @api.get(
        "/incidents/{incident}",
        responses={200: schema(MembersFound), 404: {"description": "Nothing is known of such an incident."}},
    )
    async def members(incident: Annotated[str, Path(max_length=LONGEST_ID, description="Its id.")]) -> Response:
        """An incident with its members, the most severe first, as its last event names them."""
        known = incidents.members(incident)
        return json_of({"reason": f"nothing is known of incident {incident}"}, 404) if known is None else json_of(known)

    return api
