"""A yt-dlp extractor for the local site: it reads a page as JSON and raises what the page says."""

from typing import Any
from urllib.parse import urlencode

from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.utils import ExtractorError


class LocalSiteIE(InfoExtractor):
    """Videos of tests/ingest/local_site.py."""

    IE_NAME = "localsite"
    _VALID_URL = r"(?P<site>http://127\.0\.0\.1:\d+)/watch\?v=(?P<id>[^&]+)"

    def _real_extract(self, url: str) -> dict[str, Any]:
        match = self._match_valid_url(url)
        site, video_id = match["site"], match["id"]
        query = {"v": video_id, "flavour": self._configuration_arg("flavour", [""])[0]}
        page = self._download_json(f"{site}/watch?{urlencode(query)}", video_id)
        for warning in page.get("warnings", ()):
            self.report_warning(warning)
        message = page.get("message", "")
        match page.get("raises", ""):
            case "expected":
                self.raise_no_formats(message, expected=True)
            case "unexpected":
                raise ExtractorError(message)
            case "geo":
                self.raise_geo_restricted(message, countries=["DE"])
            case "login":
                self.raise_login_required(message)
            case "drm":
                self.report_drm(video_id)
            case "crash":
                raise TypeError(message)
            case "key":
                raise KeyError(message)
        if "instead" in page:
            return self.url_result(f"{site}/watch?v={page['instead']}")
        for each in page["formats"]:
            each["url"] = site + each["url"]
        return (
            {"id": video_id, "title": video_id, "extractor": "localsite"}
            | page["info"]
            | {"formats": page["formats"]}
        )
