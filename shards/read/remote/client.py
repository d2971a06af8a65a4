"""Fetch shards from a remote store: bounded requests with retries, every clip checked."""

import asyncio
import io
import logging
import os
import random
import threading
import time
from concurrent.futures import wait
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...base.digest import digest
from ...base.errors import UserError, first_line
from ...stored.shardset import ShardSet

PART_BYTES = 8 * 2**20
"""Size of one request: it arrives in time over a slow line, and a retry costs little."""
TRIES = 5
"""Attempts at a request before it fails."""
TIMEOUT_S = 30.0
"""Longest wait for the answer to one request."""
POLL_S = 0.1

log = logging.getLogger(__name__)


class Stopped(Exception):
    """The answer is not needed any more."""


class StoreClient:
    """Fetch the shards of a remote set as whole files, until `stopped` is set."""

    def __init__(self, shard_set: ShardSet, stopped: threading.Event) -> None:
        self.shard_set, self._stopped = shard_set, stopped
        self._client = _client(shard_set.folder)
        self._troubles = _troubles()

    def fetch(self, shard: int, file: BinaryIO) -> None:
        """Write a shard's tar to `file` and compare every clip with its checksum.

        Raises:
            UserError: the store does not answer, or a shard is not what was written.
            Stopped: the answer is not needed any more.
        """
        for _ in range(2):  # a second time in case it was damaged in transit
            records = self._records(shard)
            self._copy(shard, file)
            if (damaged := _first_damaged(file, records)) is None:
                return
        raise UserError(
            f"{self._place(shard)}: the bytes of clip {damaged} do not match their checksum, also "
            f"when fetched again; run `abt shards verify {self.shard_set.folder}`"
        )

    def _place(self, shard: int, ending: str = "tar") -> Path:
        return self.shard_set.folder / f"{self.shard_set.names[shard]}.{ending}"

    def _copy(self, shard: int, file: BinaryIO) -> None:
        tar, size = self._place(shard), self.shard_set.tar_bytes[shard]
        found = self._ask(tar, "info")["size"]
        if found != size:
            raise UserError(
                f"{tar} has {found} bytes, written were {size}; "
                f"run `abt shards verify {tar.parent}`"
            )
        file.seek(0)
        for begin in range(0, size, PART_BYTES):
            end = min(begin + PART_BYTES, size)
            file.write(self._ask(tar, "cat_file", start=begin, end=end))
        file.flush()

    def _records(self, shard: int) -> pa.Table:
        """Fetch where a shard's clips are in its tar, and their checksums."""
        sidecar = self._place(shard, "parquet")
        columns = ["key", "record_offset", "record_bytes", "checksum", "offset"]
        content = self._ask(sidecar, "cat_file")
        try:
            records = pq.read_table(io.BytesIO(content), columns=columns).drop_null()
        except (pa.ArrowException, OSError) as error:
            reason = first_line(error)
            raise UserError(f"{sidecar} is not a readable sidecar ({reason})") from error
        first, end = self.shard_set.first[shard : shard + 2]
        if not np.array_equal(records["offset"].to_numpy(), self.shard_set.offsets[first:end]):
            raise UserError(
                f"{sidecar} has changed since the set was opened; run the same command again"
            )
        return records

    def _ask(self, where: Path, method: str, **options: Any) -> Any:
        """Make a request with retries; raise UserError if it fails, Stopped if not needed."""
        begin = time.monotonic()
        for attempt in range(1, TRIES + 1):
            try:
                return self._ask_once(where, method, options)
            except (FileNotFoundError, PermissionError) as error:
                raise UserError(
                    f"{where} cannot be read ({first_line(error)}); check the credentials, and the "
                    f"set with `abt shards verify {where.parent}`"
                ) from error
            except self._troubles as error:
                took, reason = time.monotonic() - begin, first_line(error)
                if attempt == TRIES:
                    raise UserError(
                        f"{where} did not arrive in {attempt} tries within {took:.0f} s "
                        f"({reason}); check the store and the network, then run the same command "
                        "again"
                    ) from error
                # Jitter, so that many readers of one store do not all retry at the same moment.
                pause = 2 ** (attempt - 2) * random.uniform(0.5, 1.5)
                log.warning("%s, try %d of %d: %s", where, attempt, TRIES, reason)
                if self._stopped.wait(pause):
                    raise Stopped from error
        raise AssertionError("the last try returns or raises")

    def _ask_once(self, where: Any, method: str, options: dict[str, Any]) -> Any:
        """Wait for one answer; a synchronous file system has timeouts of its own."""
        if self._stopped.is_set():
            raise Stopped
        client = self._client
        if not client.async_impl:
            return getattr(client, method)(where.path, **options)
        answer = getattr(client, f"_{method}")(where.path, **options)
        future = asyncio.run_coroutine_threadsafe(answer, client.loop)
        end = time.monotonic() + TIMEOUT_S
        while not wait([future], timeout=POLL_S).done:
            if self._stopped.is_set():
                future.cancel()
                raise Stopped
            if time.monotonic() > end:
                future.cancel()
                raise TimeoutError(f"no answer within {TIMEOUT_S:g} s")
        return future.result()


def _client(where: Any) -> Any:
    """Return an S3 client whose own retries do not multiply ours; others unchanged."""
    if not hasattr(where.fs, "call_s3"):
        return where.fs
    config = {
        **where.storage_options.get("config_kwargs", {}),
        "connect_timeout": TIMEOUT_S,
        "read_timeout": TIMEOUT_S,
        "retries": {"total_max_attempts": 1},
    }
    options = {**where.storage_options, "config_kwargs": config, "skip_instance_cache": True}
    client = type(where.fs)(**options)
    client.retries = 1
    client.connect()  # else each thread would open a session of its own
    return client


def _troubles() -> tuple[type[Exception], ...]:
    """Return what a client raises when a store is dead, slow or overloaded."""
    try:
        from aiohttp import ClientError
        from botocore.exceptions import BotoCoreError
    except ImportError:
        return (OSError,)
    return OSError, BotoCoreError, ClientError


def _first_damaged(file: BinaryIO, records: pa.Table) -> str | None:
    """Return the key of the first clip whose bytes do not match their checksum."""
    for record in records.to_pylist():
        content = os.pread(file.fileno(), record["record_bytes"], record["record_offset"])
        if digest(content) != record["checksum"]:
            return record["key"]
    return None
