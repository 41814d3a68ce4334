"""Text models as graphs of ONNX, run by ONNX Runtime or OpenVINO, in fp32 or int8.

A graph is the one that lies in the model's folder where sentence-transformers and optimum save it
(``onnx/model.onnx``, ``openvino/openvino_model.xml``); else it is exported from the weights once,
compared with them, and kept in the cache. int8 is dynamic quantisation of the fp32 graph: weights
of 8 bits and a scale a row, activations scaled as they come.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmcluster.utils import files as _files
from fmcluster.utils.errors import first_line
from fmcluster.utils.folders import replaced_folder
from fmcluster.utils.optional import require
from fmcluster.utils.threads import n_threads
from fmcluster.utils.validation import check_in

PRECISIONS = ("auto", "fp32", "int8")
# Where sentence-transformers and optimum leave a graph, from the model's folder.
PLACES = {
    "onnx": ("onnx/model.onnx", "model.onnx"),
    "openvino": ("openvino/openvino_model.xml", "openvino_model.xml"),
}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "last_hidden_state"
# Of states, between the weights and their graph: far above fp32's rounding, far below a wrong mask.
MOST_DIFFERENCE = 1e-2
LARGEST_FILE = 2**31 - 1  # bytes: what protobuf can hold in one message


class Graph(torch.nn.Module):
    """A graph in a file, with the call of the transformers model that it was made from.

    Parameters
    ----------
    file : Path
        An ``.onnx`` file, or OpenVINO's ``.xml``.
    backend : "onnx" or "openvino"
    config : PretrainedConfig
        Of the model.
    """

    def __init__(self, file: Path, backend: str, config: Any) -> None:
        super().__init__()
        self.file, self.backend, self.config = file, backend, config
        self._run: Callable[[dict[str, NDArray[np.int64]]], NDArray[Any]] | None = None
        self._names: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the session behind: another process opens its own."""
        return {**self.__dict__, "_run": None}

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> SimpleNamespace:
        """Return ``last_hidden_state`` (b, l, d)."""
        if self._run is None:
            opened = _onnx_session if self.backend == "onnx" else _openvino_session
            self._names, self._run = opened(self.file)
        ids = input_ids.numpy()
        mask = np.ones_like(ids) if attention_mask is None else attention_mask.numpy()
        given = dict(zip(INPUTS, (ids, mask, np.zeros_like(ids)), strict=True))
        found = self._run({name: given[name] for name in self._names})
        return SimpleNamespace(last_hidden_state=torch.from_numpy(np.asarray(found, np.float32)))


def text_graph(
    folder: Path,
    root: Path,
    *,
    backend: str,
    precision: str,
    device: Any,
    identity: dict[str, Any],
    load: Callable[[], torch.nn.Module],
    trusted: bool = False,
) -> tuple[Graph, str]:
    """Return the graph of a text model, and its precision.

    Parameters
    ----------
    folder, root : Path
        Of the transformers model, and the sentence-transformers folder around it.
    backend : "onnx" or "openvino"
    precision : "auto", "fp32" or "int8"
    device : optional
        Graphs run on the processor; another device is refused.
    identity : dict
        What says which weights.
    load : callable
        Returns the torch model; called only where there is no graph yet.
    trusted : bool
        Whether code that lies in the folder may run.

    Raises
    ------
    ValueError
        A precision or device that graphs do not have, or a model that cannot be exported.
    MissingExtraError
        The engine is not installed.
    """
    from transformers import AutoConfig

    check_in(precision, PRECISIONS, f"precision with backend={backend!r}")
    if device is not None and torch.device(device).type != "cpu":
        raise ValueError(
            f"backend={backend!r} runs on the processor, device={device!r} was asked: leave the "
            "device out, or take backend='torch'"
        )
    require("onnxruntime" if backend == "onnx" else "openvino", extra=backend)
    precision = "int8" if precision == "int8" else "fp32"
    ready = _ready(folder, root, backend) if precision == "fp32" else None
    file = ready or _ready(folder, root, "onnx")
    if file is None:
        file = _kept(identity, "fp32", lambda target: _export(load(), target))
    if precision == "int8":
        whole, of = file, {**identity, "graph": _files.digest_file(file)}
        file = _kept(of, "int8", lambda target: _quantize(whole, target))
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trusted)
    return Graph(file, backend, config), precision


def _ready(folder: Path, root: Path, engine: str) -> Path | None:
    """Return the graph that lies beside the weights."""
    found = [home / place for home in (folder, root) for place in PLACES[engine]]
    return next((file for file in found if file.is_file()), None)


def graph_digest(folder: Path, root: Path, backend: str) -> dict[str, str]:
    """Return the digest of a graph that lies beside the weights: it need not be made of them."""
    file = _ready(folder, root, backend) or _ready(folder, root, "onnx")
    return {} if file is None else {"graph": _files.digest_file(file.with_suffix(_tensors(file)))}


def _tensors(file: Path) -> str:
    """Return the suffix of the file that holds the values: OpenVINO keeps them apart."""
    return ".bin" if file.suffix == ".xml" else file.suffix


def _kept(identity: dict[str, Any], precision: str, make: Callable[[Path], None]) -> Path:
    """Return the file of the cache for this model, made if it is not there."""
    made_of = {**identity, "precision": precision, "torch": torch.__version__}
    home = _files.cache_folder("graphs") / _files.stable_hash(made_of)
    file = home / "model.onnx"
    if not file.is_file():
        with _files.lock(home.with_suffix(".lock")):
            if not file.is_file():
                with replaced_folder(home, marker=file.name, owned=(file.name,)) as fresh:
                    make(fresh / file.name)
    return file


class _States(torch.nn.Module):
    """A model whose only output is its last states: what is exported."""

    def __init__(self, body: torch.nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def _export(body: torch.nn.Module, target: Path) -> None:
    """Write the graph of a torch model, and hold it against the model.

    Raises
    ------
    ValueError
        The exporter does not know an operation of the model, or the graph gives other values.
    """
    require("onnx", extra="onnx")
    require("onnxscript", extra="onnx")
    model = _States(body).eval()
    size = sum(value.nbytes for value in body.state_dict().values())
    ids, mask = _sample(body, 2, 9)
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with _silent(), torch.no_grad():
            torch.onnx.export(
                model,
                (ids, mask),
                target,
                input_names=list(INPUTS[:2]),
                output_names=[OUTPUT],
                dynamic_shapes={"input_ids": free, "attention_mask": free},
                dynamo=True,
                external_data=size > LARGEST_FILE,
            )
    except Exception as error:  # the exporter's own errors have no common kind
        raise ValueError(
            f"{type(body).__name__} cannot be exported to ONNX ({first_line(error)}): "
            "use backend='torch', or give a folder that holds onnx/model.onnx"
        ) from error
    graph = Graph(target, "onnx", None)
    # Other sizes than it was exported with: one row and several, short and longer.
    for shape in ((1, 3), (3, 7)):
        ids, mask = _sample(body, *shape)
        with torch.no_grad():
            ours, theirs = graph(ids, mask).last_hidden_state, model(ids, mask)
        apart = float((ours - theirs).abs()[mask.bool()].max())
        if not apart <= MOST_DIFFERENCE:
            raise ValueError(
                f"the ONNX graph of {type(body).__name__} differs from its weights by {apart:.3g}: "
                "use backend='torch'"
            )


def _sample(body: torch.nn.Module, n_rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and a mask (n, l) in which the last row is shorter."""
    config: Any = body.config
    size = int(config.vocab_size)
    # Steps of seven: tokens from all over, none twice in a row.
    ids = (torch.arange(n_rows * length).reshape(n_rows, length) * 7 + 5) % size
    mask = torch.ones_like(ids)
    if n_rows > 1:
        mask[-1, length // 2 :] = 0
    return ids, mask


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporter's progress and warnings to itself; what it makes is checked."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(None):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _quantize(source: Path, target: Path) -> None:
    """Write the graph with weights of 8 bits."""
    require("onnx", extra="onnx")
    quantization = require("onnxruntime.quantization", extra="onnx", package="onnxruntime")
    size = sum(file.stat().st_size for file in source.parent.glob(f"{source.name}*"))
    with _silent():
        quantization.quantize_dynamic(
            source,
            target,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            use_external_data_format=size > LARGEST_FILE,
        )


def _onnx_session(file: Path) -> tuple[tuple[str, ...], Callable[[dict[str, Any]], Any]]:
    """Return the names of a graph's inputs, and what runs it in ONNX Runtime."""
    engine = require("onnxruntime", extra="onnx")
    options = engine.SessionOptions()
    options.intra_op_num_threads = n_threads()
    # Threads that spin between batches take the processor from those that prepare the next one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = engine.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = _checked([each.name for each in session.get_inputs()], file)
    outputs = [each.name for each in session.get_outputs()]
    wanted = [OUTPUT if OUTPUT in outputs else outputs[0]]
    return names, lambda given: session.run(wanted, given)[0]


def _openvino_session(file: Path) -> tuple[tuple[str, ...], Callable[[dict[str, Any]], Any]]:
    """Return the names of a graph's inputs, and what runs it in OpenVINO."""
    engine = require("openvino", extra="openvino")
    core = engine.Core()
    model = core.read_model(str(file))
    names = _checked([each.get_any_name() for each in model.inputs], file)
    settings = {"INFERENCE_NUM_THREADS": n_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", settings)
    output = next((each for each in compiled.outputs if OUTPUT in each.get_names()), None)
    return names, lambda given: compiled(given)[output or compiled.outputs[0]]


def _checked(names: list[str], file: Path) -> tuple[str, ...]:
    unknown = sorted(set(names) - set(INPUTS))
    if unknown:
        raise ValueError(
            f"{file} wants the inputs {', '.join(unknown)}: a text encoder's graph takes "
            f"{', '.join(INPUTS)}; export it for feature extraction"
        )
    return tuple(names)
