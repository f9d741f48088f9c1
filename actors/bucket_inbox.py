"""The engine's side of a weight transfer through Ray: buckets are checked as they arrive and laid down as files for vLLM.

The files are in shared memory. Nothing is loaded before the whole set is there and fits, so a corrupt, lost or foreign bucket
costs the transfer and never the weights that are served.
"""

import itertools
import os
import tempfile
import threading
from pathlib import Path

from actors.weight_packing import Shapes, WeightBucket, WeightSyncError, bucket_shapes, check_bucket, check_shapes

PREFIX = "swe-weights-"


class BucketInbox:
    """Buckets of one version at a time; a bucket of another version starts over. `add` may run in several threads."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")
        self._folder = shared if shared.is_dir() else Path(tempfile.gettempdir())
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        """Held for the books only: buckets are checked and written beside each other."""
        self._removal: threading.Thread | None = None
        self._version = -1
        self._count = 0
        self._files: dict[int, Path] = {}
        self._shapes: Shapes = {}

    def add(self, bucket: WeightBucket) -> None:
        """Check a bucket's bytes and keep them. Raises WeightSyncError."""
        check_bucket(bucket)
        shapes = bucket_shapes(bucket)
        transfer = (bucket.version, bucket.count)
        with self._lock:
            if transfer != (self._version, self._count):
                self.clear()
                self._version, self._count = transfer
        path = self._write(bucket)
        unwanted: Path | None = path
        with self._lock:
            if transfer == (self._version, self._count):  # else it was cleared meanwhile
                unwanted = self._files.get(bucket.index)  # it was sent before
                self._files[bucket.index] = path
                self._shapes |= shapes
        if unwanted is not None:
            unwanted.unlink(missing_ok=True)

    def complete(self, version: int, expected: Shapes) -> list[Path]:
        """The files of a whole set that holds exactly the `expected` parameters. Raises WeightSyncError."""
        if self._version != version:
            raise WeightSyncError(f"asked for version {version}, what arrived is version {self._version}")
        if missing := sorted(set(range(self._count)) - self._files.keys()):
            raise WeightSyncError(f"weights of version {version}: bucket {missing[0]} of {self._count} did not arrive")
        check_shapes(self._shapes, expected, f"weights of version {version}")
        return [self._files[index] for index in range(self._count)]

    def clear(self) -> None:
        """Forget everything that arrived; its files are removed beside whatever comes next (unmapping a gigabyte takes 60 ms)."""
        with self._lock:
            files, self._files, self._shapes, self._version = self._files, {}, {}, -1
            if files:
                gone = (list(files.values()), self._removal)
                self._removal = threading.Thread(target=_remove, args=gone, name="remove weights")
                self._removal.start()

    def settle(self) -> None:
        """Wait until what `clear` gave up is gone."""
        if self._removal is not None:
            self._removal.join()

    def sweep(self) -> None:
        """Remove the files of processes that are gone."""
        for path in self._folder.glob(f"{PREFIX}*-*"):
            if not Path("/proc", path.name.removeprefix(PREFIX).partition("-")[0]).exists():
                path.unlink(missing_ok=True)

    def _write(self, bucket: WeightBucket) -> Path:
        name = f"{PREFIX}{os.getpid()}-{next(self._numbers)}.safetensors"
        path = self._folder / name
        try:
            path.write_bytes(bucket.data.data)
        except OSError as error:
            path.unlink(missing_ok=True)
            size = bucket.data.nbytes >> 20
            raise WeightSyncError(f"cannot write {size} MiB of weights to {self._folder}: {error}") from error
        return path


def _remove(paths: list[Path], earlier: threading.Thread | None) -> None:
    if earlier is not None:
        earlier.join()
    for path in paths:
        path.unlink(missing_ok=True)
