"""Get one video: ask the governor for leave, fetch, find what is to blame for a failure, retry."""

import logging
import queue
import random
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from audio_barlow_twins.shards.base.errors import ClipError, UserError

from ..errors import (
    BotCheck,
    Elsewhere,
    EnvironmentFault,
    IdentityFault,
    NetworkTrouble,
    RateLimited,
)
from ..sources.clip import Clip
from .fetcher import Identity, Media, VideoFetcher
from .governor import Blame, Governor
from .options import Videos

P = ParamSpec("P")
Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

LONGEST_BACKOFF_S = 600.0
"""Longest pause before a clip is tried again, s, whatever the site asks; `retry` comes later."""


class Governing(Protocol):
    """A governor that may be in another process: `call(Governor.lease, names)`."""

    def call(
        self, method: Callable[Concatenate[Any, P], Answer], *args: P.args, **kwargs: P.kwargs
    ) -> Answer:
        """Call one of its methods and wait for the answer."""


@dataclass
class Trail:
    """What getting one clip took, even if it ended in an error."""

    attempts: int = 0
    identity: str = ""


class Downloader:
    """Get videos for the threads of one worker, each with a child process of its own."""

    def __init__(
        self,
        videos: Videos,
        identities: Sequence[Identity],
        governor: Governing,
        fetcher: Callable[[Videos], VideoFetcher] = VideoFetcher,
    ) -> None:
        self.videos, self.governor, self.new_fetcher = videos, governor, fetcher
        self.ended, self.asking = threading.Event(), threading.Lock()
        self.identities = {identity.name: identity for identity in identities}
        self.idle: queue.SimpleQueue[VideoFetcher] = queue.SimpleQueue()
        self.fetchers: list[VideoFetcher] = []

    def close(self) -> None:
        """End the child processes, and threads that wait for leave."""
        self.ended.set()
        for fetcher in self.fetchers:
            fetcher.close()

    def get(self, clip: Clip, folder: Path, trail: Trail, whole: bool = False) -> Media:
        """Get the recording that a clip is cut from, or a way to read a section of it.

        Args:
            clip: its path is the page of a video.
            folder: for the file; the caller deletes it.
            trail: receives the identity and the number of attempts.
            whole: do not answer with a section.

        Raises:
            ClipError: the clip cannot be had.
            Elsewhere: no identity of this machine may ask any more.
            UserError: no identity may ask any more, or nothing can be fetched on this machine.
        """
        trouble = 0
        while True:
            identity = self._lease()
            trail.attempts, trail.identity = trail.attempts + 1, identity.name
            with self._fetcher() as fetcher:
                try:
                    media = fetcher.fetch(clip.path, identity, folder, whole)
                except NetworkTrouble as error:
                    trouble += 1
                    self.governor.call(Governor.answered, identity.name, NetworkTrouble.slug)
                    if trouble < self.videos.tries:
                        self.ended.wait(self._backoff(trouble, error.wait_s))
                    elif self._is_reachable(identity, fetcher):
                        raise
                    else:
                        trouble, trail.attempts = 0, trail.attempts - self.videos.tries
                except ClipError as error:
                    self.governor.call(Governor.answered, identity.name, error.slug)
                    raise
                except (IdentityFault, EnvironmentFault) as fault:
                    self._blame(fault, identity, fetcher)
                    trail.attempts -= 1  # the clip was not to blame
                else:
                    self.governor.call(Governor.answered, identity.name, "ok")
                    return media

    def _lease(self) -> Identity:
        """Wait for leave, one thread of a worker at a time: a governor has many workers."""
        with self.asking:
            while True:
                if self.ended.is_set():
                    raise InterruptedError("the download was called off")
                lease = self.governor.call(Governor.lease, list(self.identities))
                if lease.elsewhere:
                    raise Elsewhere("every identity of this machine is stopped")
                if lease.stop:
                    raise UserError(f"{lease.stop}; what is done is kept, run the command again")
                if lease.identity:
                    return self.identities[lease.identity]
                # Not all at the same moment, and soon enough for a run to be stopped.
                self.ended.wait(min(lease.wait_s, 30) * random.uniform(1, 1.1) + 0.01)

    def _blame(
        self, fault: IdentityFault | EnvironmentFault, identity: Identity, fetcher: VideoFetcher
    ) -> None:
        """Find out what is to blame and tell the governor; raise ClipError if it is the clip."""
        message = str(fault)
        if isinstance(fault, BotCheck):
            self.governor.call(Governor.report_test, identity.name, Blame.REFUSED, message)
        elif isinstance(fault, EnvironmentFault) and not fault.if_clip:
            self.governor.call(Governor.report_test, identity.name, Blame.ENVIRONMENT, message)
        elif self.governor.call(Governor.should_test, identity.name):
            blame, said, wait_s = self._test(identity, fetcher)
            if blame is Blame.ENVIRONMENT and isinstance(fault, IdentityFault):
                blame = Blame.LIMITED  # the site refused first
            if isinstance(fault, RateLimited):
                wait_s = max(wait_s, fault.wait_s)
            self.governor.call(Governor.report_test, identity.name, blame, said, wait_s)
            if blame is Blame.CLIP and fault.if_clip:
                raise fault.if_clip(message)
            log.warning("%s: %s (%s)", identity.name, said or message, blame.value)

    def _is_reachable(self, identity: Identity, fetcher: VideoFetcher) -> bool:
        """Tell whether the network fails for one clip alone."""
        if not self.governor.call(Governor.should_test, identity.name):
            return False
        blame, said, wait_s = self._test(identity, fetcher)
        self.governor.call(Governor.report_test, identity.name, blame, said, wait_s)
        return blame is Blame.CLIP

    def _test(self, identity: Identity, fetcher: VideoFetcher) -> tuple[Blame, str, float]:
        """Fetch the good video as `identity`.

        Returns:
            What is to blame, the message, and how long the site asks to wait, s.
        """
        with tempfile.TemporaryDirectory() as folder:
            try:
                fetcher.fetch(self.videos.canary, identity, Path(folder), whole=True)
            except BotCheck as error:
                return Blame.REFUSED, str(error), 0.0
            except RateLimited as error:
                return Blame.LIMITED, str(error), error.wait_s
            except NetworkTrouble as error:
                return Blame.OFFLINE, str(error), error.wait_s
            except EnvironmentFault as error:
                return Blame.ENVIRONMENT, str(error), 0.0
            except ClipError as error:
                said = f"the known good video {self.videos.canary} cannot be had ({error}); "
                return Blame.ENVIRONMENT, said + "name another one with --canary", 0.0
        return Blame.CLIP, "", 0.0

    @contextmanager
    def _fetcher(self) -> Iterator[VideoFetcher]:
        try:
            fetcher = self.idle.get_nowait()
        except queue.Empty:
            fetcher = self.new_fetcher(self.videos)
            self.fetchers.append(fetcher)
        try:
            yield fetcher
        finally:
            self.idle.put(fetcher)

    def _backoff(self, trouble: int, asked_s: float) -> float:
        """Return a pause that doubles, or the one that the site asks for if that is longer.

        Jitter keeps workers from trying again together.
        """
        pause_s = self.videos.backoff_s * 2 ** (trouble - 1)
        return max(pause_s, min(asked_s, LONGEST_BACKOFF_S)) * random.uniform(1, 1.5)
