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
    """Yield a local scratch path that becomes `target` only if the block succeeds.

    A local `target` is replaced atomically and synced to disk. A remote one is uploaded as one
    object, which is invisible until it is complete. A process that is killed inside the block
    leaves `target` unchanged; `remove_scratch` deletes its leftovers.

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


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; raise UserError if a file is in the way or we may not."""
    if is_remote(folder):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"{folder} cannot be made a folder: {error.strerror}") from error


def make_folder_of(file: Path) -> None:
    """Make the folder of a file that will be written; UserError, too, if `file` is a folder."""
    if file.is_dir():
        raise UserError(f"{file} is a folder; name a file")
    make_folder(file.parent)


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Turn a full disk or an exhausted quota into a UserError that names a folder.

    Where the error names no file, it is the fuller of `folder` and the temporary folder.
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
    """Delete what killed processes left in a finished set: scratch files, or open uploads."""
    if is_remote(folder):
        _abort_uploads(folder, f"{_key(folder)}/")
        return
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


@contextmanager
def _upload_scratch() -> Iterator[Path]:
    """Yield a local file, locked while in use to tell it from what a killed process left."""
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
        # Already gone, owned by another user, or in use.
        with suppress(FileNotFoundError, PermissionError, BlockingIOError), path.open("rb") as file:
            if time.time() - path.stat().st_mtime > ORPHAN_AGE_S:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _upload(scratch: Path, target: Any) -> None:
    done = False
    try:
        with reaching(target):
            target.fs.put_file(str(scratch), _address(target))
        done = True
    finally:
        if not done:
            _abort_uploads(target, _key(target))


def _abort_uploads(where: Any, prefix: str) -> None:
    """Abort the uploads of objects whose key begins with `prefix`; their parts are invisible."""
    file_system, bucket = where.fs, _address(where).partition("/")[0]
    if not hasattr(file_system, "call_s3"):
        return  # other stores drop the parts of a broken upload themselves
    with reaching(where):
        begun = file_system.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
        for upload in begun.get("Uploads") or []:
            with suppress(FileNotFoundError):  # its own client has aborted it
                file_system.call_s3(
                    "abort_multipart_upload",
                    Bucket=bucket,
                    Key=upload["Key"],
                    UploadId=upload["UploadId"],
                )


def _address(where: Any) -> str:
    return where.path.rstrip("/")


def _key(where: Path) -> str:
    return _address(where).partition("/")[2]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
