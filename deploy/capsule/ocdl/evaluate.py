"""The platform's evaluation job: runs a model over a test set and writes report.json.

usage: python3 -m ocdl.evaluate

Inputs: model.onnx, model.json, test.jsonl or test.jsonl.gz, and optionally baseline.onnx with baseline.json (the
version that is live, judged on the same rows). Parameter `thresholds` gives the minimum of each metric that matters.
Exit status 0 means that the report was written, whether the model passed or not; 2 that the test set or the
parameters are not usable, 3 that a model is not.
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
# Rows of texts or images stay in memory only this many at a time.
BATCH = 64


def evaluate() -> dict[str, Any]:
    """Makes the report of the job's inputs."""
    started = time.monotonic()
    thresholds = _thresholds(ocdl.parameters().get("thresholds", {}))
    model = load_model(ocdl.inputs("model.onnx"), ocdl.inputs("model.json"))
    baseline = _baseline(model)
    test_set = find_test_set(ocdl.inputs("model.onnx").parent)
    models = [model] if baseline is None else [model, baseline]
    labels, scores = _score_all(models, read_rows(test_set, _input_names(models), model.classes))
    figures = _figures(model, labels, scores[0])
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
        "baseline": None if baseline is None else _compared(baseline, labels, scores[1], figures["metrics"]),
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
        raise TestSetError("parameters: thresholds is an object of minimums, such as {\"f1\": 0.6}")
    for name, minimum in given.items():
        if name not in METRICS:
            raise TestSetError(f"parameters: no metric is called {name!r}; they are {', '.join(METRICS)}")
        if isinstance(minimum, bool) or not isinstance(minimum, (int, float)) or not math.isfinite(minimum):
            raise TestSetError(f"parameters: the threshold of {name} is {minimum!r}, not a number")
    return {name: float(minimum) for name, minimum in given.items()}


def _baseline(model: Model) -> Model | None:
    graph, description = ocdl.inputs("baseline.onnx"), ocdl.inputs("baseline.json")
    if not graph.exists() and not description.exists():
        return None
    if not graph.exists() or not description.exists():
        raise ModelError("baseline.onnx and baseline.json come together; one of them is missing")
    baseline = load_model(graph, description)
    if baseline.classes != model.classes or baseline.positive != model.positive:
        raise ModelError(f"the baseline tells {baseline.classes} apart, the model {model.classes}: they cannot be compared")
    return baseline


def _input_names(models: list[Model]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry.name for model in models for entry in model.inputs))


def _score_all(models: list[Model], rows: Iterator[Row]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Every model's scores on the same rows, read once."""
    labels: list[int] = []
    scores: list[list[np.ndarray]] = [[] for _ in models]
    for batch in _batches(rows):
        labels += [row.label for row in batch]
        for model, own in zip(models, scores):
            own.append(model.score(batch))
        print(f"scored {len(labels)} rows", flush=True)
    return np.array(labels, dtype=np.int64), [np.concatenate(own) for own in scores]


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
    # A metric that is not defined on this test set has not reached its minimum.
    return {"metric": name, "minimum": minimum, "value": value, "passed": value is not None and value >= minimum}


def _compared(baseline: Model, labels: np.ndarray, scores: np.ndarray, new: dict[str, Any]) -> dict[str, Any]:
    old = _figures(baseline, labels, scores)["metrics"]
    return {"model": {"sha256": baseline.sha256}, "metrics": old, "delta": difference(new, old)}


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
