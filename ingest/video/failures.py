"""What a failed download means: a pure function of what yt-dlp raised, as data.

YouTube rewords its messages: add a new one to MESSAGES and to the test.
"""

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from audio_barlow_twins.shards.base.errors import ClipError
from audio_barlow_twins.shards.decode.errors import BadAudio

from ..errors import (
    AgeRestricted,
    BotCheck,
    DiskFull,
    EnvironmentFault,
    GeoBlocked,
    IdentityFault,
    NetworkTrouble,
    NotYet,
    RateLimited,
    Restricted,
    Unavailable,
)

INSTALL = 'pip install --upgrade "yt-dlp[default,deno]"'
MESSAGE_LENGTH = 300
Fault = ClipError | IdentityFault | EnvironmentFault

MESSAGES: tuple[tuple[str, type[Fault]], ...] = (
    ("not a bot|captcha", BotCheck),
    ("content isn't available, try again later|rate-limited|likely being blocked", RateLimited),
    (r"confirm your age|\bage[- ]restricted|inappropriate for some", AgeRestricted),
    ("in your (country|region)|from your location|geo[- ]?restricted", GeoBlocked),
    ("copyright|(been|was) (removed|terminated|deleted|closed)|violat", Unavailable),
    ("live event will|premieres? (in|will)|begin shortly|live event has ended", NotYet),
    ("(stream|event) is offline|not currently live|processing this video", NotYet),
    ("members-only|channel's members|premium members|youtube premium", Restricted),
    ("requires payment|purchase|rent this|DRM protected", Restricted),
    ("on this (device|app)|latest version of YouTube|be reloaded", EnvironmentFault),
    ("private video|video is private|video (is )?unavailable|no longer available", Unavailable),
    ("(does not|doesn't) exist|available anymore|recording is not available", Unavailable),
    ("uploader has closed|disabled by the video owner|ID looks truncated", Unavailable),
    ("video (is not|isn't) available", Unavailable),
)
"""What the site says of a video; the first match wins, straight apostrophes, any case."""
KINDS: dict[str, type[Fault]] = {
    "GeoRestrictedError": GeoBlocked,
    "UserNotLive": NotYet,
    "Oversize": BadAudio,
    "EmptyFile": RateLimited,
    "CutShort": NetworkTrouble,
    "NoFile": EnvironmentFault,
    "CertificateVerifyError": EnvironmentFault,
    "NoSupportingHandlers": EnvironmentFault,
    "PostProcessingError": EnvironmentFault,
}
"""What the class of an exception alone means."""
TRANSPORT = {"TransportError", "TimeoutError", "ConnectionError", "HTTPException", "gaierror"}
TRANSPORT |= {"ContentTooShortError", "SSLError"}
TRANSPORT_TEXT = "timed out|connection (reset|refused|aborted)|got error:|bytes read, |unreachable"
EMPTY_TEXT = "did not get any data blocks|downloaded file is empty"
TOOLS_TEXT = "requested format is not available|no video formats found|any player response|nsig"
TOOLS_TEXT += "|javascript runtime|challenge solving|signature (extraction|solving)"
"""Messages of yt-dlp when it found nothing to choose from; its warnings may say why."""
STATUSES: dict[str, dict[int, type[Fault]]] = {
    "page": {
        404: Unavailable,
        410: Unavailable,
        402: RateLimited,
        403: RateLimited,
        429: RateLimited,
    },
    "media": {
        404: NetworkTrouble,
        410: NetworkTrouble,
        416: NetworkTrouble,
        403: RateLimited,
        429: RateLimited,
    },
}
"""What an HTTP status means; 408 and those from 500 on are network trouble."""
TOO_EARLY = ("is_live", "is_upcoming", "post_live")


@dataclass(frozen=True, kw_only=True)
class Link:
    """One exception of a chain."""

    kinds: tuple[str, ...]
    """Names of its class and of that class's parents."""
    message: str
    status: int = 0
    """HTTP status; 0 for none."""
    errno: int = 0
    """The system's error number; 0 for none."""
    ours: bool = False
    """Raised by a line of our own, not by yt-dlp or one of its libraries."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What is known of a download that failed or should not be tried."""

    step: str
    """setup (of yt-dlp), page, media, or driver (our own code)."""
    chain: tuple[Link, ...] = ()
    """The exceptions, outermost first; none: the page itself says why not."""
    warnings: tuple[str, ...] = ()
    wait_s: float = 0.0
    """How long the site asked to wait (Retry-After), s; 0 if it did not."""
    live_status: str = ""
    availability: str = ""
    has_drm: bool = False
    elsewhere: bool = False
    """The page leads to another video, such as a trailer."""
    audio_formats: int = 0
    """Number of formats that have sound, or may have."""
    video_formats: int = 0
    """Number of formats that have a picture, or may have; storyboards do not count."""
    signed_in: bool = False
    """Cookies were sent, so the site itself has decided who may see the video."""


def as_failure(answer: dict[str, Any]) -> Failure:
    """Parse what the downloader's process sent."""
    known = {each.name for each in fields(Failure)}
    facts = {name: value for name, value in answer.items() if name in known}
    chain = [Link(**link | {"kinds": tuple(link["kinds"])}) for link in facts.get("chain", ())]
    return Failure(**facts | {"chain": tuple(chain), "warnings": tuple(facts.get("warnings", ()))})


def unfit(failure: Failure) -> Fault | None:
    """Return why a page that was read is not worth a download; None if it is."""
    if failure.live_status in TOO_EARLY:
        return NotYet(f"live_status is {failure.live_status}: days later it may be a plain video")
    if failure.elsewhere:
        return Restricted("the page leads to another video: only a trailer is public")
    if failure.has_drm:
        return Restricted("This video is DRM protected")
    if failure.availability in {"premium_only", "subscriber_only"} and not failure.signed_in:
        return Restricted(f"availability is {failure.availability}")
    if failure.availability == "private" and not failure.signed_in:
        return Unavailable("availability is private")
    if failure.video_formats and not failure.audio_formats:
        return BadAudio("the video has no sound: none of its formats has audio")
    return None


def classify(failure: Failure, folder: str = "the download") -> Exception:
    """Return the exception that says whose fault a failure is; `folder` is the download's.

    It is a ClipError, IdentityFault or EnvironmentFault; for an unknown failure, which should
    stop the job, a RuntimeError with the whole chain.
    """
    links = failure.chain
    if any(link.errno in {errno.ENOSPC, errno.EDQUOT} for link in links):
        return DiskFull(f"the disk of {folder} is full: free some space and run again")
    if failure.step == "setup":
        advice = "; correct the cookies, proxy, format or extractor arguments"
        message = tidy(links[-1].message, MESSAGE_LENGTH - len(advice)) if links else ""
        return EnvironmentFault(message + advice)
    if not links:
        return unfit(failure) or RuntimeError(f"a download failed without a reason: {failure}")
    if failure.step not in STATUSES:
        return _unknown(failure)
    for kind, message in _readings(failure):
        if issubclass(kind, EnvironmentFault):
            advice = f"; if no video works: {INSTALL}"
            return kind(tidy(message, MESSAGE_LENGTH - len(advice)) + advice)
        fault = kind(tidy(message))
        if isinstance(fault, RateLimited | NetworkTrouble):
            fault.wait_s = failure.wait_s
        return fault
    return _unknown(failure)


def tidy(message: str, length: int = MESSAGE_LENGTH) -> str:
    """Return a message as one line, without advice for users of a command line."""
    line = " ".join(message.split())
    line = re.sub(r"^(ERROR: )?(\[[^]]*\] ([\w-]{1,20}: )?)?(Got error: )?", "", line)
    line = re.sub(r"\.? (Use --|It is recommended to|\(caused by |See +https?:).*", "", line)
    return line if len(line) <= length else f"{line[: length - 1]}…"


def _readings(failure: Failure) -> Iterator[tuple[type[Fault], str]]:
    """Yield what the failure can mean, the most telling sign first."""
    for link in failure.chain:
        yield from ((KINDS[kind], link.message) for kind in link.kinds if kind in KINDS)
    for link in failure.chain:
        yield from _by_status(failure.step, link.status, link.message)
        if TRANSPORT & set(link.kinds):
            yield NetworkTrouble, link.message
    if failure.step == "page":
        yield from _said(failure)
    for link in failure.chain:
        yield from _by_status(failure.step, _status_in(link.message), link.message)
        if _says(EMPTY_TEXT, link.message):
            yield RateLimited, "the file is empty"
        if _says(TRANSPORT_TEXT, link.message):
            yield NetworkTrouble, link.message
    if failure.step == "page" or not any(_is_ours(link) for link in failure.chain):
        # Whatever else a site can send; the known good video tells whether it is this clip alone.
        origin, said = failure.chain[-1], tidy(failure.chain[0].message, 100)
        cause = tidy(origin.message, 100)
        what = origin.kinds[0] if cause == said else f"{origin.kinds[0]}: {cause}"
        yield EnvironmentFault, f"yt-dlp failed: {said} ({what})"


def _is_ours(link: Link) -> bool:
    """Tell a bug of ours, or a folder that cannot be written, from what the site has caused.

    Errors of HTTP libraries are OSErrors, too, but without a number. The site has a say in the
    name of a file, but not in its folder.
    """
    disk = "OSError" in link.kinds and link.errno not in (0, errno.ENAMETOOLONG)
    return link.ours or disk


def _said(failure: Failure) -> Iterator[tuple[type[Fault], str]]:
    """Yield what the site's words mean, or yt-dlp's where the site offered nothing to choose."""
    said = [link.message for link in failure.chain if "YoutubeDLError" in link.kinds]
    for pattern, fault in MESSAGES:
        yield from ((fault, message) for message in said if _says(pattern, message))
    for message in said:
        if _says(TOOLS_TEXT, message):
            yield from _tools(failure.warnings, message)


def _tools(warnings: tuple[str, ...], message: str) -> Iterator[tuple[type[Fault], str]]:
    """Yield what a message that nothing was found means: earlier warnings may tell."""
    for warning in warnings:
        status = _status_in(warning)
        if _says("not a bot", warning):
            yield BotCheck, warning
        elif status in {403, 429}:
            yield RateLimited, warning
        elif status >= 500 or _says(TRANSPORT_TEXT, warning):
            yield NetworkTrouble, warning
    hints = [warning for warning in warnings if _says(TOOLS_TEXT, warning)]
    yield EnvironmentFault, ". ".join([message.rstrip("."), *hints[:1]])


def _by_status(step: str, status: int, message: str) -> Iterator[tuple[type[Fault], str]]:
    if status in STATUSES[step]:
        yield STATUSES[step][status], message
    elif status == 408 or status >= 500:
        yield NetworkTrouble, message


def _status_in(message: str) -> int:
    found = re.search(r"HTTP Error (\d{3})\b", message)
    return int(found[1]) if found else 0


def _says(pattern: str, message: str) -> bool:
    return re.search(pattern, message.replace("\u2019", "'"), re.IGNORECASE) is not None


def _unknown(failure: Failure) -> RuntimeError:
    chain = " <- ".join(f"{link.kinds[0]}: {link.message}" for link in failure.chain)
    return RuntimeError(f"a download failed in an unknown way ({failure.step}): {chain}")
