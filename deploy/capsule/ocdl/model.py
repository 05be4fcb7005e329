"""A model under evaluation: its description (model.json), its ONNX graph in ONNX Runtime, and its scores for rows."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
import onnxruntime

from ocdl.test_set import Row, TestSetError

# Open Inference Protocol v2 datatypes and their NumPy types; BYTES are strings here.
DATATYPES: dict[str, Any] = {
    "BOOL": np.bool_, "BYTES": np.object_,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
# Beyond 2^53 these are decimal strings, as in requests to the model's service; JSON numbers would lose digits there.
LARGE_INTEGERS = ("INT64", "UINT64")
_DECIMAL = re.compile(r"-?[0-9]{1,20}", re.ASCII)


class ModelError(Exception):
    """The model cannot be evaluated; the message names it and the reason."""


@dataclass(frozen=True)
class Signature:
    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    sha256: str
    classes: tuple[str, ...]
    positive: int | None  # index of the positive class of a binary model; None with more than two classes
    threshold: float
    inputs: tuple[Signature, ...]
    score: Callable[[list[Row]], np.ndarray]  # one row of probabilities per row, one column per class


def load_model(graph: Path, description: Path, threads: int = 2) -> Model:
    """Loads both files and checks that they match."""
    content = graph.read_bytes()
    try:
        declared = json.loads(description.read_text(encoding="utf-8"))
        classes = tuple(str(name) for name in declared["classes"])
        inputs = tuple(_signature(entry) for entry in declared["signature"]["inputs"])
        output = str(declared["prediction"]["output"])
        positive = declared["prediction"].get("positive")
        threshold = float(declared.get("threshold", 0.5))
        if len(classes) < 2 or len(set(classes)) != len(classes):
            raise ValueError("classes must be at least two different names")
        if len(classes) == 2 and str(positive) not in classes:
            raise ValueError(f"prediction.positive {positive!r} is not one of the classes {', '.join(classes)}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{description.name}: {type(error).__name__}: {error}") from error
    session = _session(graph.name, content, threads)
    found = {entry.name for entry in session.get_inputs()}
    if found != {entry.name for entry in inputs}:
        named = sorted(entry.name for entry in inputs)
        raise ModelError(f"the inputs of {graph.name} are {sorted(found)}, those in {description.name} {named}")
    if output not in {entry.name for entry in session.get_outputs()}:
        raise ModelError(f"{description.name} names the output {output!r}, which {graph.name} does not have")

    def score(rows: list[Row]) -> np.ndarray:
        feed = {entry.name: _tensor(entry, rows) for entry in inputs}
        try:
            answer = session.run([output], feed)[0]
        except Exception as error:  # ONNX Runtime does not export the types of its exceptions
            raise ModelError(f"{graph.name} fails on the test set from line {rows[0].line} on: {error}") from error
        return _probabilities(graph.name, answer, rows, len(classes), index)

    index = classes.index(str(positive)) if len(classes) == 2 else None
    return Model(hashlib.sha256(content).hexdigest(), classes, index, threshold, inputs, score)


def _session(name: str, content: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        # From bytes instead of a path, so that the graph cannot read other files.
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{name} cannot be loaded: {error}") from error


def _signature(entry: dict[str, Any]) -> Signature:
    datatype = str(entry["datatype"])
    if datatype not in DATATYPES:
        raise ValueError(f"datatype {datatype} is not one of {', '.join(DATATYPES)}")
    shape = tuple(int(length) for length in entry["shape"])
    if not shape or shape[0] != -1:
        raise ValueError(f"input {entry['name']}: the first dimension of its shape must be -1, the number of rows")
    if any(length == -1 for length in shape[1:]):
        raise ValueError(f"input {entry['name']}: only the first dimension of its shape may be -1")
    return Signature(str(entry["name"]), datatype, shape)


def _tensor(entry: Signature, rows: list[Row]) -> np.ndarray:
    return np.stack([_row_of(entry, row) for row in rows])


def _row_of(entry: Signature, row: Row) -> np.ndarray:
    """The values of one row in the shape of the input."""
    where = f"test set line {row.line}: input {entry.name!r}"
    if entry.name not in row.inputs:
        raise TestSetError(f"{where} is missing")
    value = row.inputs[entry.name]
    try:
        flat = np.array(value, dtype=np.object_).reshape(-1)
        wanted = entry.shape[1:]
        if flat.size != int(np.prod(wanted, dtype=np.int64)):
            raise TestSetError(f"{where} has {flat.size} values, which do not fit the shape {list(wanted)}")
        if not all(_fits(one, entry.datatype) for one in flat):
            raise TestSetError(f"{where} has values that are not {entry.datatype}")
        if entry.datatype in LARGE_INTEGERS:
            flat = np.array([int(one) for one in flat], dtype=np.object_)
        # Too large numbers become infinite, which NumPy would only warn about.
        with np.errstate(over="ignore"):
            values = flat.astype(DATATYPES[entry.datatype])
        if entry.datatype.startswith("FP") and not np.isfinite(values).all():
            raise TestSetError(f"{where} has numbers that are too large for {entry.datatype}")
        return values.reshape(wanted)
    except (ValueError, TypeError, OverflowError) as error:
        raise TestSetError(f"{where}: {error}") from error


def _fits(value: object, datatype: str) -> bool:
    if datatype == "BYTES":
        return isinstance(value, str)
    if datatype == "BOOL":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if datatype in LARGE_INTEGERS and isinstance(value, str):
        return _DECIMAL.fullmatch(value) is not None
    return isinstance(value, int) or (datatype.startswith("FP") and isinstance(value, float))


def _probabilities(name: str, answer: Any, rows: list[Row], classes: int, positive: int | None) -> np.ndarray:
    if not isinstance(answer, np.ndarray) or answer.dtype.kind not in "fiu":
        raise ModelError(f"{name}: its prediction is not a numeric tensor: convert the model without zipmap")
    scores = answer.astype(np.float64)
    if positive is not None and scores.size == len(rows) and scores.shape[0] == len(rows):
        # One column: only the probability of the positive class.
        column = scores.reshape(-1)
        scores = np.stack([1 - column, column] if positive == 1 else [column, 1 - column], axis=1)
    if scores.shape != (len(rows), classes):
        raise ModelError(f"{name}: its prediction has the shape {list(answer.shape)} for {len(rows)} rows of {classes} classes")
    for row, one in zip(rows, scores):
        if not np.isfinite(one).all():
            raise ModelError(f"{name}: its prediction for test set line {row.line} ({row.id}) is not a finite number")
    return scores
