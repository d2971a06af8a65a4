"""What yt-dlp's errors mean, by messages as YouTube and yt-dlp word them."""

import errno
import json
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.ingest.errors import (
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
from audio_barlow_twins.ingest.video.failures import (
    MESSAGE_LENGTH,
    Failure,
    Link,
    as_failure,
    classify,
    tidy,
)
from audio_barlow_twins.shards.base.errors import ClipError
from audio_barlow_twins.shards.decode.errors import BadAudio

EXPECTED = ("ExtractorError", "YoutubeDLError", "Exception")
DOWNLOAD = ("DownloadError", "YoutubeDLError", "Exception")
HTTP = ("HTTPError", "RequestError", "YoutubeDLError", "Exception")
READ = ("IncompleteRead", "TransportError", "RequestError", "YoutubeDLError", "Exception")
BLOCKED = "This video contains content from The Premiere Premium Members, who has blocked it"

SAID: dict[type[Exception], tuple[str, ...]] = {
    BotCheck: (
        "Sign in to confirm you're not a bot. Use --cookies-from-browser or --cookies",
        "Sign in to confirm you\u2019re not a bot. This helps protect our community",
        "Please sign in. YouTube is requiring a captcha challenge before playback",
    ),
    RateLimited: (
        "Video unavailable. This content isn't available, try again later.",
        "Video unavailable. This content isn\u2019t available, try again later. The session "
        "has been rate-limited by YouTube for up to an hour.",
        "This content isn't available, try again later. Your account has been rate-limited",
        "All player responses are invalid. Your IP is likely being blocked by Youtube",
    ),
    AgeRestricted: (
        "Sign in to confirm your age. This video may be inappropriate for some users.",
        "This video is age-restricted and only available on YouTube",
    ),
    GeoBlocked: (
        "The uploader has not made this video available in your country",
        "Video unavailable. The uploader has not made this video available in your country",
        "This video is not available in your country",
        f"{BLOCKED} in your country on copyright grounds",
        "This video is not available from your location due to geo restriction",
    ),
    NotYet: (
        "This live event will begin in 12 days.",
        "Premieres in 3 hours",
        "Premiere will begin shortly",
        "This live event has ended.",
        "We're processing this video. Check back later.",
        "The channel is not currently live",
    ),
    Restricted: (
        "Join this channel to get access to members-only content like this video, and other "
        "exclusive perks.",
        "This video is available to this channel's members on level: Friends (or any higher level)",
        "This video is available to this channel\u2019s members on level: Friends",
        "This video is only available to Music Premium members",
        "Video unavailable. This video requires payment to watch.",
        "This video is DRM protected",
    ),
    Unavailable: (
        "Private video. Sign in if you've been granted access to this video",
        "This video is private",
        "Video unavailable",
        "Video unavailable. This video is private",
        "Video unavailable. This video is not available",
        "Video unavailable. This video has been removed by the uploader",
        "This video has been removed for violating YouTube's policy on hate speech.",
        "This video has been removed for violating YouTube\u2019s Terms of Service",
        "This video is no longer available because the YouTube account associated with this video "
        "has been terminated.",
        "This video is no longer available because the uploader has closed their YouTube account.",
        "This video is no longer available due to a copyright claim by A. B.",
        f"Video unavailable. {BLOCKED} on copyright grounds",
        "This video does not exist.",
        "This video isn't available anymore",
        "This live stream recording is not available.",
        "Incomplete YouTube ID abc. URL https://x looks truncated: ID looks truncated",
    ),
    EnvironmentFault: (
        "Requested format is not available. Use --list-formats for a list of available formats",
        "No video formats found!",
        "The page needs to be reloaded.",
        "Video unavailable. This video is unavailable on this device.",
        "The following content is not available on this app. Watch this content on the latest "
        "version of YouTube.",
        "Failed to extract any player response",
        "nsig extraction failed: Some formats may be missing",
        "No supported JavaScript runtime could be found",
        "The hamsters are asleep",
    ),
}


def failure(*links: Link, step: str = "page", warnings: tuple[str, ...] = ()) -> Failure:
    """Return a failure as the downloader reports it."""
    return Failure(step=step, chain=links, warnings=warnings)


def link(message: str, *kinds: str, status: int = 0, number: int = 0) -> Link:
    """Return one exception of a chain."""
    return Link(kinds=kinds or EXPECTED, message=message, status=status, errno=number)


@pytest.mark.parametrize(
    ("fault", "message"), [(fault, message) for fault, said in SAID.items() for message in said]
)
def test_a_message_says_whose_fault_it_is(fault: type[Exception], message: str) -> None:
    wrapped = link(f"ERROR: [youtube] a-b_c: {message}", *DOWNLOAD)
    assert type(classify(failure(wrapped, link(message)))) is fault


@pytest.mark.parametrize(
    ("step", "status", "fault"),
    [
        ("page", 404, Unavailable),
        ("page", 410, Unavailable),
        ("page", 429, RateLimited),
        ("page", 403, RateLimited),
        ("page", 503, NetworkTrouble),
        ("page", 400, EnvironmentFault),
        ("media", 403, RateLimited),
        ("media", 429, RateLimited),
        ("media", 404, NetworkTrouble),
        ("media", 500, NetworkTrouble),
        ("media", 408, NetworkTrouble),
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_a_status_means_what_it_means_at_this_step(
    step: str, status: int, fault: type[Exception], as_text: bool
) -> None:
    error = link(
        f"HTTP Error {status}: Service Unavailable", *HTTP, status=0 if as_text else status
    )
    assert type(classify(failure(link("Unable to download"), error, step=step))) is fault


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (link("100 bytes read, 200 more expected", *READ), NetworkTrouble),
        (link("[Errno 104] Connection reset", "ConnectionResetError", "ConnectionError"), None),
        (link("[download] Got error: The read operation timed out", *DOWNLOAD), NetworkTrouble),
        (link("Did not get any data blocks", *DOWNLOAD), RateLimited),
        (link("the file is empty", "EmptyFile", "Exception"), RateLimited),
        (link("the file has 5 of 10 bytes", "CutShort", "Exception"), NetworkTrouble),
        (link("the file has 10 bytes", "Oversize", "Exception"), BadAudio),
        (link("ffmpeg is not installed", "PostProcessingError", "Exception"), EnvironmentFault),
        (link("certificate verify failed", "CertificateVerifyError", *READ[1:]), EnvironmentFault),
        (link("something else", *DOWNLOAD), EnvironmentFault),
    ],
)
def test_a_download_fails_for_its_own_reasons(error: Link, fault: type[Exception] | None) -> None:
    assert type(classify(failure(error, step="media"))) is (fault or NetworkTrouble)


@pytest.mark.parametrize(
    ("warning", "fault"),
    [
        ("Unable to download API page: HTTP Error 429: Too Many Requests", RateLimited),
        ("Unable to download API page: HTTP Error 502: Bad Gateway", NetworkTrouble),
        ("Unable to download API page: The read operation timed out", NetworkTrouble),
        ("YouTube said: Sign in to confirm you\u2019re not a bot", BotCheck),
        ("n challenge solving failed: Some formats may be missing", EnvironmentFault),
    ],
)
def test_warnings_explain_why_there_was_nothing_to_choose(
    warning: str, fault: type[Exception]
) -> None:
    error = classify(failure(link("Failed to extract any player response"), warnings=(warning,)))
    assert type(error) is fault
    assert tidy(warning) in str(error)


@pytest.mark.parametrize("step", ["page", "media", "driver"])
def test_a_full_disk_is_named(step: str) -> None:
    error = link("unable to write data: No space left", "OSError", number=errno.ENOSPC)
    told = classify(failure(link("failed"), error, step=step), "/data/scratch")
    assert type(told) is DiskFull
    assert "/data/scratch is full" in str(told)


def test_a_crash_of_an_extractor_is_a_fault_of_the_tools() -> None:
    error = classify(failure(link("'NoneType' object is not subscriptable", "TypeError")))
    assert type(error) is EnvironmentFault
    assert "TypeError" in str(error)
    assert 'pip install --upgrade "yt-dlp[default,deno]"' in str(error)


@pytest.mark.parametrize(
    "error",
    [
        link("No connection adapters were found for 'file:///'", "InvalidSchema", "OSError"),
        link("invalid literal for int()", "ValueError", "Exception"),
        link("label empty or too long", "UnicodeError", "ValueError", "Exception"),
        link("HTTP Error 302: Found", *HTTP, status=302),
        link("File name too long", "OSError", number=errno.ENAMETOOLONG),
        link("'str' object has no attribute 'get'", "AttributeError"),
    ],
)
def test_whatever_else_a_site_sends_is_left_to_the_good_video(error: Link) -> None:
    told = classify(failure(link("unable to download", *DOWNLOAD), error, step="media"))
    assert type(told) is EnvironmentFault


def test_a_bug_of_our_own_stops_the_job() -> None:
    bug = Link(kinds=("TypeError", "Exception"), message="NoneType", ours=True)
    assert type(classify(failure(link("failed", *DOWNLOAD), bug, step="media"))) is RuntimeError


@pytest.mark.parametrize("status", [429, 503])
def test_how_long_the_site_asks_to_wait_comes_along(status: int) -> None:
    error = link("HTTP Error", *HTTP, status=status)
    told = classify(replace(failure(error), wait_s=77.0))
    assert isinstance(told, RateLimited | NetworkTrouble)
    assert told.wait_s == 77


@pytest.mark.parametrize("step", ["media", "driver"])
def test_what_nobody_foresaw_stops_the_job_with_the_whole_chain(step: str) -> None:
    denied = link("denied", "PermissionError", "OSError", number=errno.EACCES)
    told = classify(failure(link("unable to open", *DOWNLOAD), denied, step=step))
    assert type(told) is RuntimeError
    assert "DownloadError: unable to open <- PermissionError: denied" in str(told)


def test_bad_settings_are_a_fault_of_the_environment() -> None:
    error = classify(failure(link("cookies.txt holds no cookie", "ValueError"), step="setup"))
    assert type(error) is EnvironmentFault
    assert "cookies.txt holds no cookie" in str(error)


@pytest.mark.parametrize(
    ("facts", "fault"),
    [
        ({"live_status": "is_live"}, NotYet),
        ({"live_status": "is_upcoming"}, NotYet),
        ({"live_status": "post_live"}, NotYet),
        ({"availability": "subscriber_only"}, Restricted),
        ({"availability": "premium_only"}, Restricted),
        ({"availability": "private"}, Unavailable),
        ({"has_drm": True}, Restricted),
        ({"elsewhere": True}, Restricted),
        ({"audio_formats": 0, "video_formats": 2}, BadAudio),
    ],
)
def test_a_page_says_that_it_is_not_worth_a_download(
    facts: dict[str, object], fault: type[Exception]
) -> None:
    assert type(classify(as_failure({"step": "page"} | facts))) is fault


@given(st.text())
def test_every_message_becomes_one_short_line_and_an_answer(message: str) -> None:
    error = classify(failure(link(message)))
    assert isinstance(error, ClipError | IdentityFault | EnvironmentFault)
    assert len(str(error)) <= MESSAGE_LENGTH
    assert len(str(error).splitlines()) <= 1


def test_every_field_survives_the_pipe() -> None:
    told = {each.name: each.default for each in fields(Failure)} | {"step": "page"}
    sent = Link(kinds=("A",), message="b", status=1, errno=2, ours=True)
    told["chain"] = json.loads(json.dumps([asdict(sent)]))
    assert as_failure(told).chain == (sent,)


@pytest.mark.parametrize("fault", [RateLimited, EnvironmentFault])
def test_faults_that_may_be_a_clips_own_say_what_it_would_be(
    fault: type[RateLimited] | type[EnvironmentFault],
) -> None:
    assert fault.if_clip


@pytest.mark.parametrize("fault", [BotCheck, DiskFull])
def test_other_faults_are_never_a_clips_own(fault: type[BotCheck] | type[DiskFull]) -> None:
    assert fault.if_clip is None
