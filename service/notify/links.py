"""Where people look at what they are notified of: the page at its time, and a picture of it."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

from models.data.rfc3339 import milliseconds_of
from service.host.signing import signed
from service.log.port import Partition

PICTURE_PATH = "/api/v1/past.png"


class Links(NamedTuple):
    """page_url: where people open the page; empty: there are no links.

    token: what pictures are signed with, where the page asks for one; a secret.
    """

    page_url: str = ""
    pictures: bool = False
    token: str | None = None

    def page(self, stream: str, at: str, **named: str) -> str:
        """The stream's past around a time; named: what else the page is to show. Empty: there is none."""
        if not self.page_url:
            return ""
        place = "".join(f"&{name}={quote(value, safe=':')}" for name, value in {"at": at, **named}.items())
        return f"{self.page_url.rstrip('/')}/#{quote(stream, safe='')}{place}"

    def picture(self, stream: str, at: str, topic: str | None = None, partition: int | None = None) -> str:
        """Empty: there is none."""
        if not self.page_url or not self.pictures:
            return ""
        asked = {"stream": stream, "around_ms": milliseconds_of(at), "topic": topic, "partition": partition}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        address = f"{PICTURE_PATH}?{query}" if self.token is None else signed(PICTURE_PATH, query, self.token)
        return f"{self.page_url.rstrip('/')}{address}"


NO_LINKS = Links()


def anomaly_links(links: Links, partition: Partition, name: str, stream: str, opened_at: str) -> tuple[str, str]:
    """The page at the time when an anomaly of this name opened, and the picture."""
    return links.page(stream, opened_at, anomaly=name), links.picture(stream, opened_at, *partition)


def annotations(page: str, picture: str) -> Mapping[str, str]:
    """Of an alert; what is empty is left out."""
    return {name: link for name, link in (("page", page), ("picture", picture)) if link}


def header_of(page: str, picture: str) -> Mapping[str, str]:
    """Of a request that tells of something (RFC 8288); nothing where there is no link."""
    links = [f'<{link}>; rel="{what}"' for what, link in (("alternate", page), ("preview", picture)) if link]
    return {"Link": ", ".join(links)} if links else {}
