"""What can go wrong with a clip, with the identity that fetches it, and with the environment.

ClipError               the clip: it becomes a row of the sidecar, never a crash
├── BadAudio            nothing to decode, undecodable, empty, too short, too long, silent
├── DecoderStopped      ffmpeg was killed, or took too long
├── Unreadable          the file or its archive is gone, changed, or may not be read
├── BadEntry            its labels, times or place in the source are no such
├── Duplicate           another recording of the source sounds the same
├── Unavailable         private, removed, terminated, copyright
├── AgeRestricted       only for accounts of adults
├── GeoBlocked          not in the country of this address
├── Restricted          for members or payers, or encrypted (DRM)
├── NotYet              live, or announced
├── NetworkTrouble      transport errors, 429 of a mirror, 5xx, cut short, too slow
├── Refused             refused as if we asked too often, while another clip was not
└── NotExtracted        yt-dlp cannot read this page, while it reads another
IdentityFault           an address, proxy or cookie jar: stops or pauses, no clip is marked
├── RateLimited         pauses
├── BotCheck            stops
└── Elsewhere           all of this machine have stopped, other machines go on
EnvironmentFault        this machine or its tools: the run stops, no clip is marked
└── DiskFull            no room for what was being written

Some faults of one clip look like a fault of the identity or the environment. A video that is known
to be good is then tried: if that works, the clip alone is to blame, and `if_clip` is raised.
"""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import ClassVar

from audio_barlow_twins.shards.base.errors import ClipError
from audio_barlow_twins.shards.decode.errors import BadAudio as BadAudio
from audio_barlow_twins.shards.decode.errors import DecoderStopped as DecoderStopped
from audio_barlow_twins.shards.decode.errors import Unreadable as Unreadable

LONGEST_WAIT_S = 86400.0
"""Longest wait that a server may ask for, s."""


class BadEntry(ClipError):
    """The entry in an archive, table or list cannot be used: odd labels, times or place."""

    slug = "bad_entry"


class Duplicate(ClipError):
    """An earlier recording of the source sounds the same, and is the one that came in."""

    slug = "duplicate"


class Unavailable(ClipError):
    """The video is private or gone for good."""

    slug = "unavailable"


class AgeRestricted(ClipError):
    """The site shows the video only to accounts of adults."""

    slug = "age_restricted"


class GeoBlocked(ClipError):
    """The site does not show the video in the country of this address."""

    slug = "geo"


class Restricted(ClipError):
    """The video is for members or payers, or it is encrypted."""

    slug = "members"


class NotYet(ClipError):
    """The video is live or announced; days later it may be an ordinary one."""

    slug = "live"
    retry_after = timedelta(days=3)


class NetworkTrouble(ClipError):
    """The connection to the site failed; the same request may work in a moment."""

    slug = "network"
    retry_after = timedelta(hours=1)
    wait_s = 0.0
    """How long the server asks to wait before the next request, s."""


class Refused(ClipError):
    """The site refused this clip, but not another one to the same identity; it may pass."""

    slug = "refused"
    retry_after = timedelta(hours=24)


class NotExtracted(ClipError):
    """yt-dlp cannot read this page, while it reads others; a newer version may."""

    slug = "extractor"
    retry_after = timedelta(hours=24)


class IdentityFault(Exception):
    """The site refuses the identity, not the clip; the clip is not marked."""

    if_clip: ClassVar[type[ClipError] | None] = None
    """Error if a good clip can be fetched; None where no clip can be to blame."""


class RateLimited(IdentityFault):
    """The site wants this address, proxy or cookie jar to pause."""

    if_clip = Refused
    wait_s = 0.0
    """How long the site asks to wait, s; 0 if it does not say."""


class BotCheck(IdentityFault):
    """The site takes this address, proxy or cookie jar for a robot."""


class Elsewhere(IdentityFault):
    """No identity of this machine may ask any more; another machine can take the shard."""


class EnvironmentFault(Exception):
    """This machine or its tools cannot fetch; the message says what to install or update."""

    if_clip: ClassVar[type[ClipError] | None] = NotExtracted
    """Error if a good clip can be fetched; None where no clip can be to blame."""


class DiskFull(EnvironmentFault):
    """There is no room on a disk; the message says which."""

    if_clip = None


def asked_wait_s(header: str | None) -> float:
    """Return how long the header Retry-After asks to wait, s; 0 if it asks for nothing clear."""
    text = (header or "").strip()
    if text.isdecimal():
        return min(float(text), LONGEST_WAIT_S)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max((until - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_WAIT_S)


def retry_after(slug: str) -> timedelta | None:
    """Return when a class of failures is worth a retry; None if it is permanent."""
    kind = _classes().get(slug)
    return kind.retry_after if kind else None


def meanings() -> dict[str, str]:
    """Return what each class of failures means: the first line of its docstring."""
    return {slug: (kind.__doc__ or "").split("\n")[0] for slug, kind in _classes().items()}


def _classes() -> dict[str, type[ClipError]]:
    """Return the classes of failures by their slugs; kinds of one class share its slug."""
    return {kind.slug: kind for kind in ClipError.__subclasses__()}
