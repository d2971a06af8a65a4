"""Get one video: ask the governor for leave, fetch, tell whose fault a failure is, try again."""

import logging
import queue
import random
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from audio_barlow_twins.shards.base.errors import ClipError, UserError

from ..errors import BotCheck, Elsewhere, EnvironmentFault, IdentityFault, NetworkTrouble
from ..sources.clip import Clip
from .fetcher import Identity, Media, VideoFetcher, VideoOptions

log = logging.getLogger(__name__)


class Governing(Protocol):
    """A governor, wherever it lives: `call("lease", names)`."""

    def call(self, method: str, *args: Any) -> Any:
        """Call one of its methods and wait for the answer."""


@dataclass(frozen=True, kw_only=True)
class Downloading:
    """How videos are got."""

    options: VideoOptions = field(default_factory=VideoOptions)
    canary: str
    """Page of a short video that is known to be good: it tells a bad clip from a bad identity."""
    tries: int = 4
    """How often a clip is tried when the network fails."""
    backoff_s: float = 2.0
    """Mean pause before the second try, s; it doubles with every further one."""


@dataclass
class Trail:
    """What getting one clip took, also if it ended in an error."""

    attempts: int = 0
    identity: str = ""


class Downloader:
    """Get videos for the threads of one worker, each with a child process of its own."""

    def __init__(
        self,
        how: Downloading,
        identities: Sequence[Identity],
        governor: Governing,
        fetcher: Callable[[VideoOptions], VideoFetcher] = VideoFetcher,
    ) -> None:
        self.how, self.governor, self.new_fetcher = how, governor, fetcher
        self.ended, self.asking = threading.Event(), threading.Lock()
        self.identities = {identity.name: identity for identity in identities}
        self.idle: queue.SimpleQueue[VideoFetcher] = queue.SimpleQueue()
        self.fetchers: list[VideoFetcher] = []

    def close(self) -> None:
        """End the child processes, and whoever waits for leave."""
        self.ended.set()
        for fetcher in self.fetchers:
            fetcher.close()

    def get(self, clip: Clip, folder: Path, trail: Trail, whole: bool = False) -> Media:
        """Get the recording that a clip is cut from, or a way to read a section of it.

        Args:
            clip: its path is the page of a video.
            folder: where a file may be put; the caller deletes it.
            trail: is told who asked, and how often.
            whole: do not answer with a section.

        Raises:
            ClipError: the clip cannot be had.
            Elsewhere: nobody may ask from this machine any more.
            UserError: nobody may ask any more, or nothing can be fetched on this machine.
        """
        trouble = 0
        while True:
            identity = self._lease()
            trail.attempts, trail.identity = trail.attempts + 1, identity.name
            with self._fetcher() as fetcher:
                try:
                    media = fetcher.fetch(clip.path, identity, folder, whole)
                except NetworkTrouble:
                    trouble += 1
                    self.governor.call("answered", identity.name, NetworkTrouble.slug)
                    if trouble < self.how.tries:
                        self.ended.wait(self._backoff(trouble))
                    elif self._is_reachable(identity, fetcher):
                        raise
                    else:
                        trouble, trail.attempts = 0, trail.attempts - self.how.tries
                except ClipError as error:
                    self.governor.call("answered", identity.name, error.slug)
                    raise
                except (IdentityFault, EnvironmentFault) as fault:
                    self._blame(fault, identity, fetcher)
                    trail.attempts -= 1  # it was not the clip's
                else:
                    self.governor.call("answered", identity.name, "ok")
                    return media

    def _lease(self) -> Identity:
        """Wait for leave, one thread of a worker at a time: a governor has many workers."""
        with self.asking:
            return self._wait_for_leave()

    def _wait_for_leave(self) -> Identity:
        while True:
            if self.ended.is_set():
                raise InterruptedError("the download was called off")
            lease = self.governor.call("lease", list(self.identities))
            if lease.elsewhere:
                raise Elsewhere("every identity of this machine is stopped")
            if lease.stop:
                raise UserError(f"{lease.stop}; what was got is kept, run the same command again")
            if lease.identity:
                return self.identities[lease.identity]
            # Not all at the same moment, and not so late that a run cannot be stopped.
            self.ended.wait(min(lease.wait_s, 30) * random.uniform(1, 1.1) + 0.01)

    def _blame(
        self, fault: IdentityFault | EnvironmentFault, identity: Identity, fetcher: VideoFetcher
    ) -> None:
        """Find out whose fault it is and tell the governor.

        Raises:
            ClipError: a good video can be fetched in the same way.
        """
        message = str(fault)
        if isinstance(fault, BotCheck):
            self.governor.call("verdict", identity.name, "stop", message)
        elif isinstance(fault, EnvironmentFault) and not fault.if_clip:
            self.governor.call("verdict", identity.name, "break", message)
        elif self.governor.call("suspect", identity.name):
            verdict, said = self._test(identity, fetcher)
            if verdict == "break" and isinstance(fault, IdentityFault):
                verdict = "pause"  # the site said so first
            self.governor.call("verdict", identity.name, verdict, said)
            if verdict == "none" and fault.if_clip:
                raise fault.if_clip(message)
            log.warning("%s: %s (%s)", identity.name, said or message, verdict)

    def _is_reachable(self, identity: Identity, fetcher: VideoFetcher) -> bool:
        """Tell whether the network fails for one clip alone."""
        if not self.governor.call("suspect", identity.name):
            return False
        verdict, said = self._test(identity, fetcher)
        self.governor.call("verdict", identity.name, verdict, said)
        return verdict == "none"

    def _test(self, identity: Identity, fetcher: VideoFetcher) -> tuple[str, str]:
        """Fetch the good video as `identity`; return the governor's word for what came of it."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                fetcher.fetch(self.how.canary, identity, Path(folder), whole=True)
            except BotCheck as error:
                return "stop", str(error)
            except IdentityFault as error:
                return "pause", str(error)
            except NetworkTrouble as error:
                return "offline", str(error)
            except EnvironmentFault as error:
                return "break", str(error)
            except ClipError as error:
                return "break", (
                    f"the known good video {self.how.canary} cannot be had ({error}); "
                    "name another one with --canary"
                )
        return "none", ""

    @contextmanager
    def _fetcher(self) -> Iterator[VideoFetcher]:
        try:
            fetcher = self.idle.get_nowait()
        except queue.Empty:
            fetcher = self.new_fetcher(self.how.options)
            self.fetchers.append(fetcher)
        try:
            yield fetcher
        finally:
            self.idle.put(fetcher)

    def _backoff(self, trouble: int) -> float:
        """Draw a pause around the doubled one, so that workers do not come back together."""
        return self.how.backoff_s * 2 ** (trouble - 1) * random.uniform(0.5, 1.5)
