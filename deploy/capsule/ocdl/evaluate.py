"""The platform's evaluation job: runs a model on a test set and writes report.json.

usage: python3 -m ocdl.evaluate

Inputs: model.onnx, model.json, test.jsonl or test.jsonl.gz, and optionally baseline.onnx with baseline.json (the live
version, evaluated on the same rows; where that is impossible, the report has a note instead of a comparison). The
parameter `thresholds` sets minimums of metrics. Exit status 0: the report was written, whether the model passed or not;
2: the test set or the parameters are invalid; 3: the model is invalid.
"""

import json
import math
import platform
import sys
import time
from typing import Any, Iterator

import numpy as np
import onnxruntime
import sklearn

import ocdl
from ocdl.figures import METRICS, binary_figures, difference, multiclass_figures
from ocdl.model import Model, ModelError, load_model
from ocdl.test_set import Row, TestSetError, digest_of, find_test_set, read_rows

EXIT_TEST_SET = 2
EXIT_MODEL = 3
# Rows in memory at a time; a row may be a large text or image.
BATCH = 64


def evaluate() -> dict[str, Any]:
    """Returns the report on the job's inputs."""
    started = time.monotonic()
    thresholds = _thresholds(ocdl.parameters().get("thresholds", {}))
    model = load_model(ocdl.inputs("model.onnx"), ocdl.inputs("model.json"))
    baseline = _Baseline(model)
    test_set = find_test_set(ocdl.inputs("model.onnx").parent)
    rows = read_rows(test_set, tuple(entry.name for entry in model.inputs), model.classes)
    labels, scores = _score_all(model, baseline, rows)
    figures = _figures(model, labels, scores)
    figures["notes"] += baseline.notes
    checks = [_check(name, minimum, figures["metrics"][name]) for name, minimum in thresholds.items()]
    return {
        "v": 1,
        "model": {"sha256": model.sha256},
        "testSet": {
            "sha256": digest_of(test_set),
            "rows": len(labels),
            "positives": None if model.positive is None else int((labels == model.positive).sum()),
        },
        "classes": list(model.classes),
        "threshold": model.threshold,
        **figures,
        "thresholds": thresholds,
        "checks": checks,
        "passed": all(check["passed"] for check in checks),
        "baseline": baseline.compared(labels, figures["metrics"]),
        "environment": {
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
        },
        "seconds": round(time.monotonic() - started, 3),
    }


def _thresholds(given: object) -> dict[str, float]:
    if not isinstance(given, dict):
        raise TestSetError("parameters: thresholds must be an object of minimums, such as {\"f1\": 0.6}")
    for name, minimum in given.items():
        if name not in METRICS:
            raise TestSetError(f"parameters: unknown metric {name!r}; the metrics are {', '.join(METRICS)}")
        if isinstance(minimum, bool) or not isinstance(minimum, (int, float)) or not math.isfinite(minimum):
            raise TestSetError(f"parameters: the threshold of {name} must be a number, not {minimum!r}")
    return {name: float(minimum) for name, minimum in given.items()}


class _Baseline:
    """The live version, scored on the same rows. If that is impossible, the report has a note instead of a comparison."""

    def __init__(self, model: Model) -> None:
        self.notes: list[str] = []
        self._scores: list[np.ndarray] = []
        self._model: Model | None = None
        graph, description = ocdl.inputs("baseline.onnx"), ocdl.inputs("baseline.json")
        if not graph.exists() and not description.exists():
            return
        try:
            if not graph.exists() or not description.exists():
                raise ModelError("the baseline is incomplete: it needs both baseline.onnx and baseline.json")
            self._model = load_model(graph, description)
            if self._model.classes != model.classes or self._model.positive != model.positive:
                raise ModelError(f"it has the classes {self._model.classes}, this model {model.classes}")
        except (ModelError, OSError) as error:
            self._drop(error)

    def score(self, batch: list[Row]) -> None:
        if self._model is None:
            return
        try:
            self._scores.append(self._model.score(batch))
        except (ModelError, TestSetError) as error:
            self._drop(error)

    def compared(self, labels: np.ndarray, new: dict[str, Any]) -> dict[str, Any] | None:
        if self._model is None:
            return None
        old = _figures(self._model, labels, np.concatenate(self._scores))["metrics"]
        return {"model": {"sha256": self._model.sha256}, "metrics": old, "delta": difference(new, old)}

    def _drop(self, error: Exception) -> None:
        self._model = None
        self.notes.append(f"there is no comparison with the live version, which does not fit this test set: {error}"[:500])


def _score_all(model: Model, baseline: _Baseline, rows: Iterator[Row]) -> tuple[np.ndarray, np.ndarray]:
    """The labels, and the model's scores. The rows are read once, also for the baseline."""
    labels: list[int] = []
    scores: list[np.ndarray] = []
    for batch in _batches(rows):
        labels += [row.label for row in batch]
        scores.append(model.score(batch))
        baseline.score(batch)
        print(f"scored {len(labels)} rows", flush=True)
    return np.array(labels, dtype=np.int64), np.concatenate(scores)


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _figures(model: Model, labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    if model.positive is None:
        return multiclass_figures(labels, scores)
    return binary_figures((labels == model.positive).astype(np.int64), scores[:, model.positive], model.threshold)


def _check(name: str, minimum: float, value: float | None) -> dict[str, Any]:
    # A metric that is undefined on this test set has not reached its minimum.
    return {"metric": name, "minimum": minimum, "value": value, "passed": value is not None and value >= minimum}


def main() -> int:
    try:
        report = evaluate()
        ocdl.outputs("report.json").write_text(json.dumps(report, allow_nan=False, indent=1) + "\n", encoding="utf-8")
        return 0
    except TestSetError as error:
        print(f"ocdl.evaluate: {error}", file=sys.stderr)
        return EXIT_TEST_SET
    except (ModelError, OSError) as error:
        print(f"ocdl.evaluate: {error}", file=sys.stderr)
        return EXIT_MODEL


if __name__ == "__main__":
    sys.exit(main())
