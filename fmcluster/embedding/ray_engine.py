"""Ray Data as the engine of embedding: the rows of its dataset are the shards still to be made.

An actor runs the same `EncodingRun` as an ordinary process, on the shards that Ray hands it, and
writes them into the store itself; only numbers go through Ray. So the bytes, the completion marks
and what a later call skips are those of the ordinary engine, and an actor that dies costs the
shard in its hands, which Ray gives to another. On several machines the store's folder and the
data have to be on a file system that all of them see.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fmcluster.embedding.data.source import Source
from fmcluster.embedding.encode_shards import MOST_DECODERS, EncodingRun
from fmcluster.embedding.encoders.base import Encoder
from fmcluster.embedding.encoders.fitted import is_fitted_on_data
from fmcluster.embedding.reuse import Known
from fmcluster.embedding.store.manifest import Manifest
from fmcluster.embedding.store.writer import remove_leftovers
from fmcluster.utils import distributed
from fmcluster.utils.errors import DataError
from fmcluster.utils.optional import require
from fmcluster.utils.progress import bar

# Groups of shards that each actor takes in turn: enough to even out slow ones, few re-reads.
GROUPS_PER_WORKER = 4
# A shard that ends every actor it is given to ends the run.
MOST_DEATHS = 4


def ray_engine(source: Source, *, workers: int | None = None) -> Callable[..., int]:
    """Return `encode_on_ray` with its settings, once it is known that it can run.

    Parameters
    ----------
    source : Source
        The rows.
    workers : int, optional
        Actors at most; by default one per GPU, or one per core.

    Raises
    ------
    DataError
        The data is a stream, whose shards cannot be handed out.
    ValueError
        A launcher started several processes, each of which would ask Ray for the same.
    MissingExtraError
        Ray is not installed.
    """
    if source.is_stream:
        raise DataError(
            "engine='ray' hands out shards of known data, and this is a stream: save it"
            " to files first, or use engine='local'"
        )
    if distributed.is_launched():
        raise ValueError(
            f"engine='ray' was asked in each of {os.environ['WORLD_SIZE']} launched processes: "
            "start it once, without accelerate launch"
        )
    require("ray.data", extra="ray")
    return functools.partial(encode_on_ray, workers=workers)


def encode_on_ray(
    folder: Path,
    manifest: Manifest,
    source: Source,
    encoders: Sequence[Encoder],
    *,
    known: Sequence[Known | None] = (),
    workers: int | None = None,
) -> int:
    """Encode and write every missing shard on a Ray cluster; return the number of all shards.

    Parameters
    ----------
    folder, manifest, source, encoders, known
        As for `EncodingRun`.
    workers : int, optional
        Actors at most; by default one per GPU, or one per core.

    Raises
    ------
    RuntimeError
        A shard ended every actor that took it, or Ray itself ended.
    Exception
        Whatever `EncodingRun` raises in an actor, as it is.
    """
    run = EncodingRun(folder, manifest, source, encoders)
    missing = list(run.to_do())
    if not missing:
        return run.n_shards
    with connected() as ray:
        share = share_out(ray.nodes(), encoders, len(missing), workers=workers)
        # Input that cannot seek is read from its start for every group: few, long groups.
        groups = len(missing)
        if not source.reader.seekable:
            groups = min(groups, GROUPS_PER_WORKER * share.workers)
        # Kept in the object store by this reference, so that an actor can be built again.
        kept = ray.put((folder, manifest, source, list(encoders), list(known)))
        # Blocks made here: a task that made them would wait for a core that an actor holds.
        shards = ray.data.from_items(missing, override_num_blocks=groups)
        pool = ray.data.ActorPoolStrategy(size=share.workers, max_tasks_in_flight_per_actor=1)
        encoded = shards.map_batches(
            ShardActor,
            fn_constructor_args=(kept, share.cores),
            batch_size=None,
            compute=pool,
            num_cpus=share.cores,
            num_gpus=share.gpus,
            max_task_retries=MOST_DEATHS - 1,
        )
        try:
            with bar(total=len(missing), description="embed", unit="shards") as shown:
                for done in encoded.iter_batches(batch_size=None):
                    raise_first(done["error"])
                    shown.update(len(done["item"]))
        except ray.exceptions.RayError as error:
            raise RuntimeError(
                f"Ray gave up ({type(error).__name__}; a shard is given to {MOST_DEATHS} actors "
                "before): finished shards are kept; see Ray's logs and run the same call again"
            ) from error
    remove_leftovers(folder)
    return run.n_shards


class ShardActor:
    """One a worker: encodes and writes the shards whose numbers it is given.

    Parameters
    ----------
    kept : ray.ObjectRef
        The arguments of `EncodingRun`.
    cores : int
        What this actor may use of its machine.
    """

    def __init__(self, kept: Any, cores: int) -> None:
        self.kept, self.cores = kept, cores

    @functools.cached_property
    def run(self) -> EncodingRun:
        """What encodes, with the encoders as this process unpickles them once."""
        folder, manifest, source, encoders, known = require("ray", extra="ray").get(self.kept)
        decoders = max(1, min(MOST_DECODERS, self.cores))
        return EncodingRun(folder, manifest, source, encoders, decoders=decoders, known=known)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """Write the shards ``batch["item"]`` (m,); give their numbers back, and what failed.

        An exception goes back as a value: Ray would turn it into the text of its traces.
        """
        error = b""
        try:
            self.run.numbers = sorted(batch["item"].tolist())
            self.run.go()
        except Exception as raised:
            error = _packed(raised)
        return {"item": batch["item"], "error": [error] * len(batch["item"])}


def _packed(error: Exception) -> bytes:
    """Return an exception as Ray sends objects; of one that cannot travel, what it says."""
    wire = require("ray.cloudpickle", extra="ray")
    try:
        return wire.dumps(error)
    except Exception:
        return wire.dumps(RuntimeError(f"{type(error).__name__}: {error}"))


def raise_first(errors: Iterable[bytes]) -> None:
    """Raise the first exception among what actors gave back."""
    for error in errors:
        if error:
            raise require("ray.cloudpickle", extra="ray").loads(error)


@dataclass(frozen=True)
class Share:
    """How many actors there are, and what each holds of the cluster."""

    workers: int
    cores: int
    gpus: float | None = None


def share_out(
    nodes: Sequence[dict[str, Any]],
    encoders: Sequence[Encoder],
    n_shards: int,
    *,
    workers: int | None = None,
) -> Share:
    """Divide a cluster among actors so that no core has two threads to run.

    Every actor has a GPU, or a whole part of one, where the cluster has any that an encoder could
    use; otherwise a core, or several where there are fewer actors than cores.

    Parameters
    ----------
    nodes : sequence of dict
        What ``ray.nodes()`` tells of each machine.
    encoders : sequence of Encoder
        Those fitted on data or asked to run on the processor leave the GPUs alone.
    n_shards : int
        Shards to be made: no more actors than these.
    workers : int, optional
        Actors at most; by default one per GPU, or one per core.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    with_gpu = [node for node in alive if node.get("GPU", 0) >= 1]
    if with_gpu and not all(_on_processor(encoder) for encoder in encoders):
        gpus = sum(int(node["GPU"]) for node in with_gpu)
        most = min(workers or gpus, n_shards)
        on_one = -(-most // gpus)
        cores = _cores_each(with_gpu, min(most, gpus)) // on_one
        return Share(most, cores=min(cores, MOST_DECODERS), gpus=1 / on_one)
    total = sum(int(node.get("CPU", 0)) for node in alive)
    most = max(1, min(workers or total, n_shards, total))
    return Share(most, cores=max(1, _cores_each(alive, most)))


def _on_processor(encoder: Encoder) -> bool:
    return is_fitted_on_data(encoder) or getattr(encoder, "asked_device", None) == "cpu"


def _cores_each(nodes: Sequence[dict[str, Any]], workers: int) -> int:
    """Return the most cores of which every one of `workers` can have as many on one machine."""
    cores = [int(node.get("CPU", 0)) for node in nodes]
    fits = (c for c in range(max(cores, default=0), 0, -1) if sum(n // c for n in cores) >= workers)
    return next(fits, 0)


@contextlib.contextmanager
def connected() -> Iterator[Any]:
    """Give the ray module, quiet and connected to a cluster: the caller's, or one for the while.

    Yields
    ------
    module
        Connected as it was; or to the cluster of ``$RAY_ADDRESS`` or of ``ray start`` on this
        machine; or to one started here. What is begun here is ended here.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing phones home unless asked to
    ray = require("ray", extra="ray")
    data = require("ray.data", extra="ray")
    begun = not ray.is_initialized()
    if begun:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of its own habits
        with _no_stderr():  # and of the level that was asked for
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    log, context = logging.getLogger("ray.data"), data.DataContext.get_current()
    before = log.level, context.enable_progress_bars
    log.setLevel(logging.ERROR)
    context.enable_progress_bars = False
    try:
        yield ray
    finally:
        log.setLevel(before[0])
        context.enable_progress_bars = before[1]
        if begun:
            ray.shutdown()


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Drop what is written to the descriptor of stderr, by code that no logger reaches."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
