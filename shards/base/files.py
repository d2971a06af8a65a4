"""Files that are complete or absent, on a local disk or behind a URL."""

import errno
import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import UserError
from .place import is_remote, reaching

ORPHAN_AGE_S = 60
SCRATCH = "shards-upload-"


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a local scratch path; put it in place, complete, only if the block succeeds.

    A local `target` is replaced in one step and on disk. A remote one is uploaded as one object,
    which appears when the last byte is there. A process that is killed inside the block leaves
    `target` as it was; `remove_scratch` clears what it leaves behind.

    Raises:
        UserError: a disk is full, or a remote place cannot be written.
    """
    if is_remote(target):
        with naming_full_disk(Path(tempfile.gettempdir())), _upload_scratch() as scratch:
            yield scratch
            _upload(scratch, target)
        return
    with naming_full_disk(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            yield scratch
            with scratch.open("rb") as file:
                os.fsync(file.fileno())
            scratch.replace(target)
            _sync_folder(target.parent)
        finally:
            scratch.unlink(missing_ok=True)


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Turn a full disk or an exhausted quota into one line.

    Args:
        folder: where the block writes. If the error does not tell, the fuller one of it and the
            folder for temporary files is named.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        if isinstance(error.filename, str):
            full = Path(error.filename).parent
        else:
            full = min(folder, Path(tempfile.gettempdir()), key=_free_bytes)
        raise UserError(
            f"the disk of {full} is full ({os.strerror(error.errno)}); what is finished is "
            "kept: free some space and run the same command again"
        ) from error


def _free_bytes(folder: Path) -> int:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free


def remove_scratch(folder: Path) -> None:
    """Delete what killed processes left behind in a finished set: files, or begun uploads."""
    if is_remote(folder):
        _abort_uploads(folder, f"{_key(folder)}/")
        return
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


@contextmanager
def _upload_scratch() -> Iterator[Path]:
    """Yield a local file, locked while it is used, so that what a killed process left shows."""
    _remove_orphans(Path(tempfile.gettempdir()))
    with tempfile.NamedTemporaryFile(prefix=SCRATCH, suffix=".tmp", delete=False) as file:
        scratch = Path(file.name)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield scratch
        finally:
            scratch.unlink(missing_ok=True)


def _remove_orphans(folder: Path) -> None:
    for path in folder.glob(f"{SCRATCH}*.tmp"):
        # Gone meanwhile, somebody else's, or in use: then it is not ours to remove.
        with suppress(FileNotFoundError, PermissionError, BlockingIOError), path.open("rb") as file:
            if time.time() - path.stat().st_mtime > ORPHAN_AGE_S:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _upload(scratch: Path, target: Path) -> None:
    """Put a file in place as one object: large ones in parts that only their completion shows."""
    done = False
    try:
        with reaching(target):
            _file_system(target).put_file(str(scratch), _address(target))
        done = True
    finally:
        if not done:
            _abort_uploads(target, _key(target))


def _abort_uploads(where: Path, prefix: str) -> None:
    """Abort the uploads of objects whose key begins with `prefix`; their parts are invisible."""
    file_system, bucket = _file_system(where), _address(where).partition("/")[0]
    if not hasattr(file_system, "call_s3"):
        return  # other stores drop the parts of a broken upload themselves
    with reaching(where):
        begun = file_system.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
        for upload in begun.get("Uploads") or []:
            with suppress(FileNotFoundError):  # its own client was faster
                file_system.call_s3(
                    "abort_multipart_upload",
                    Bucket=bucket,
                    Key=upload["Key"],
                    UploadId=upload["UploadId"],
                )


def _file_system(where: Any) -> Any:
    return where.fs


def _address(where: Any) -> str:
    """Return bucket and key, as fsspec names them."""
    return where.path.rstrip("/")


def _key(where: Path) -> str:
    return _address(where).partition("/")[2]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
