"""What an encoder is, and the one loop that runs every frozen torch encoder.

Rows are prepared, sorted by length where they have one, cut into batches, encoded under inference
mode and put back in order. The next batches are made in threads while the model runs, and what a
GPU found is fetched one batch later. A batch that does not fit in memory is halved and tried again.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils import distributed
from fmcluster.utils.spent import spent
from fmcluster.utils.threads import n_threads, one_torch_thread
from fmcluster.utils.validation import check_in

if TYPE_CHECKING:
    import torch

Modality = Literal["image", "audio", "text"]
PRECISIONS = ("auto", "fp32", "bf16", "int8")
# Threads that make batches of images: resizing one takes as long as a small network does, and what
# four have ready is memory. Of texts a batch is padding: one thread.
IMAGE_MAKERS = 4
logger = logging.getLogger(__name__)


@runtime_checkable
class Encoder(Protocol):
    """Rows in, one embedding a row out.

    Attributes
    ----------
    modality : "image", "audio", "text" or None
        What the rows must be; None where a user's own object does not say.
    dim : int or None
        Length of an embedding; None while it is not known yet.
    fingerprint : dict
        JSON-able: everything that changes an embedding, nothing that does not.
    spec : dict
        JSON-able: what `fmcluster.embedding.encoders.resolve` needs to build it again.
    """

    modality: str | None
    dim: int | None
    spec: dict[str, Any]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that changes an embedding, nothing that does not."""
        ...

    def encode(self, rows: list[Any]) -> NDArray[np.float32]:
        """Return the embeddings (n, d) of `rows`, float32, in their order."""
        ...


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether `error` says that memory ran out, on a GPU or on the host."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )


@functools.cache
def cpu_has_bf16() -> bool:
    """Return whether this processor multiplies bfloat16 natively (AMX or AVX512-BF16)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def choose_precision(
    precision: str, device: torch.device, *, cpu_gains: bool
) -> Literal["fp32", "bf16"]:
    """Resolve "auto": bf16 on a GPU that has it, or on a CPU where this encoder gains by it."""
    check_in(precision, PRECISIONS, "precision")
    if precision == "int8":
        raise ValueError(
            "precision='int8' is for text encoders whose backend is 'onnx' or 'openvino', as in "
            "{'encoder': 'packaged:minilm', 'backend': 'onnx', 'precision': 'int8'}"
        )
    if precision != "auto":
        return precision  # type: ignore[return-value]
    if device.type == "cuda":
        import torch

        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device.type == "cpu" and cpu_gains and cpu_has_bf16() else "fp32"


@contextmanager
def eval_mode(module: torch.nn.Module) -> Iterator[None]:
    """Run in eval mode without gradients, and give the train flag back as it was."""
    import torch

    training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        module.train(training)


@dataclass(frozen=True)
class Run:
    """How a torch encoder runs; of it the precision alone changes embeddings.

    Attributes
    ----------
    device : str, torch.device, optional
        None takes the one Accelerate gives this process.
    batch_size : int, optional
        Rows a batch; None lets the family choose. Halved for good when memory runs out.
    precision : "auto", "fp32" or "bf16"
        "auto" as of `choose_precision`.
    """

    device: str | torch.device | None = None
    batch_size: int | None = None
    precision: str = "auto"


RUN = Run()


class TorchEncoder:
    """A frozen torch module as an :class:`Encoder`; families fill in three methods.

    Parameters
    ----------
    module : torch.nn.Module
        Frozen here: eval mode, no gradients, moved to the device in the chosen precision.
    modality : "image", "audio" or "text"
    fingerprint, spec : dict
        What changes an embedding; what rebuilds the encoder. Precision is added to both.
    run : Run
        How it runs.
    cpu_gains : bool
        Whether bf16 was measured to be faster than fp32 on processors that have it.
    channels_last : bool
        Memory format of a convolutional network.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        modality: Modality,
        fingerprint: dict[str, Any],
        spec: dict[str, Any],
        run: Run = RUN,
        cpu_gains: bool = False,
        channels_last: bool = False,
    ) -> None:
        import torch

        size = run.batch_size
        if size is not None and (isinstance(size, bool) or int(size) < 1):
            raise ValueError(f"batch_size={size!r} must be a positive number of rows")
        # Of a GPU asked by number only its kind: the number is this process's own.
        self.asked_device = None if run.device is None else torch.device(run.device).type
        self.device = distributed.device(run.device)
        self.precision: str = choose_precision(run.precision, self.device, cpu_gains=cpu_gains)
        self.dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        layout = torch.channels_last if channels_last else torch.preserve_format
        self.module = module.to(self.device, self.dtype, memory_format=layout)
        self.module.eval().requires_grad_(False)
        self.channels_last = channels_last
        self.makers = IMAGE_MAKERS if modality == "image" else 1
        self.modality: str | None = modality
        self.dim: int | None = None
        self.batch_size = size
        self._fingerprint = {**fingerprint, "precision": self.precision}
        self.spec: dict[str, Any] = {**spec, "modality": modality, "precision": self.precision}

    def __getstate__(self) -> dict[str, Any]:
        """Pickle through the host: the process that takes over may see other devices."""
        if self.device.type == "cpu":
            return self.__dict__
        return {**self.__dict__, "module": copy.deepcopy(self.module).to("cpu")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the device that a new encoder would take in this process."""
        self.__dict__.update(state)
        self.device = distributed.device(self.asked_device)
        self.module = self.module.to(self.device)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that changes an embedding, as JSON-able values."""
        return dict(self._fingerprint)

    def prepare(self, rows: list[Any]) -> tuple[Any, NDArray[np.int64] | None]:
        """Return what `batch` cuts batches from, and the length of each row where it varies."""
        return rows, None

    def batch(self, prepared: Any, take: NDArray[np.int64]) -> Any:
        """Return the model's input for the rows `take`, on the device."""
        raise NotImplementedError

    def forward(self, inputs: Any) -> torch.Tensor:
        """Return embeddings (b, d) of one batch."""
        raise NotImplementedError

    def rows_per_batch(self, length: int) -> int:
        """Return the automatic batch size for rows of `length`."""
        # Images of 224 pixels: so many keep the cores of a CPU, or a GPU, busy.
        return 32 if self.device.type == "cpu" else 256

    def encode(self, rows: Sequence[Any]) -> NDArray[np.float32]:
        """Return the embeddings (n, d) of `rows`, float32, in their order."""
        rows = list(rows)
        if not rows:
            return np.empty((0, self.dim or 0), np.float32)
        prepared, lengths = self.prepare(rows)
        # Longest first: neighbors in a batch need little padding, and memory runs out at once
        # or not at all.
        order = np.arange(len(rows)) if lengths is None else np.argsort(-lengths, kind="stable")
        out: NDArray[np.float32] | None = None
        for take, values in self._batches(prepared, order, lengths):
            if out is None:
                out = np.empty((len(rows), values.shape[1]), np.float32)
            out[take] = values
        assert out is not None
        self.dim = int(out.shape[1])
        return out

    def _batches(
        self, prepared: Any, order: NDArray[np.int64], lengths: NDArray[np.int64] | None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield row numbers and embeddings, a batch at a time, halving batches that do not fit."""
        limit: int | None = self.batch_size
        start = 0
        late = self.device.type == "cuda"
        while start < len(order):
            take = order[start:start]
            waiting: deque[tuple[NDArray[np.int64], torch.Tensor]] = deque()
            try:
                takes = self._takes(order[start:], lengths, limit)
                with contextlib.closing(self._made(prepared, takes)) as made:
                    for take, inputs in made:
                        found = self._forward(inputs())
                        start += len(take)
                        waiting.append((take, found))
                        if len(waiting) > late:
                            yield self._fetched(*waiting.popleft())
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or len(take) <= 1:
                    raise
                limit = max(1, len(take) // 2)
                self.batch_size = limit
                if self.device.type == "cuda":
                    import torch

                    torch.cuda.empty_cache()
                logger.warning("out of memory at %d rows a batch: trying %d", len(take), limit)
            while waiting:
                yield self._fetched(*waiting.popleft())
        if limit is not None:
            logger.info("final batch size: %d", limit)

    def _takes(
        self, order: NDArray[np.int64], lengths: NDArray[np.int64] | None, limit: int | None
    ) -> Iterator[NDArray[np.int64]]:
        """Yield the row numbers of each batch."""
        start = 0
        while start < len(order):
            longest = 1 if lengths is None else int(lengths[order[start]])
            size = limit if limit is not None else self.rows_per_batch(longest)
            yield order[start : start + size]
            start += size

    def _made(
        self, prepared: Any, takes: Iterator[NDArray[np.int64]]
    ) -> Generator[tuple[NDArray[np.int64], Callable[[], Any]], None, None]:
        """Yield each batch's rows and what returns its input, made ahead where there are cores."""
        batches = list(takes)
        n_makers = min(self.makers, n_threads(), len(batches))
        if n_threads() < 2 or len(batches) < 2:
            for take in batches:
                yield take, functools.partial(self._input, prepared, take)
            return
        import torch

        torch.get_num_threads()  # this thread's own from here on: those of the pool have one each
        with ThreadPoolExecutor(n_makers, "fmcluster-batch") as pool:
            ahead: deque[tuple[NDArray[np.int64], Future[Any]]] = deque()
            try:
                for take in batches:
                    ahead.append((take, pool.submit(self._input_alone, prepared, take)))
                    if len(ahead) > n_makers:
                        rows, future = ahead.popleft()
                        yield rows, future.result
                while ahead:
                    rows, future = ahead.popleft()
                    yield rows, future.result
            finally:
                for _, future in ahead:
                    future.cancel()

    def _input(self, prepared: Any, take: NDArray[np.int64]) -> Any:
        import torch

        with torch.inference_mode():
            return self.batch(prepared, take)

    def _input_alone(self, prepared: Any, take: NDArray[np.int64]) -> Any:
        with one_torch_thread():
            return self._input(prepared, take)

    def _forward(self, inputs: Any) -> torch.Tensor:
        with spent("forward"), eval_mode(self.module):
            return self.forward(inputs).float()

    def _fetched(
        self, take: NDArray[np.int64], found: torch.Tensor
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        with spent("forward"):  # a GPU is still at it
            return take, found.cpu().numpy()

    def to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """Move an input: floats in the encoder's precision, images in its memory format."""
        import torch

        if not tensor.is_floating_point():
            return tensor.to(self.device)
        layout = torch.channels_last if self.channels_last else torch.preserve_format
        return tensor.to(self.device, self.dtype, memory_format=layout)
