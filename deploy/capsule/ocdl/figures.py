"""The figures of a report: metrics, confusion matrix, curves and histogram, computed from labels and scores."""

from typing import Any

import numpy as np
from sklearn import metrics

METRICS = ("accuracy", "precision", "recall", "f1", "roc_auc", "average_precision")
# A chart shows no more points than this.
CURVE_POINTS = 200
HISTOGRAM_BINS = 20
# Decimals of figures: enough to compare, few enough to read.
DECIMALS = 6


def binary_figures(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, Any]:
    """Figures of a binary model; `labels` are 1 for the positive class."""
    predicted = (scores >= threshold).astype(np.int64)
    both = len(np.unique(labels)) == 2
    notes = [] if both else ["all rows have the same label: roc_auc and average_precision are undefined"]
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, average="binary", pos_label=1, zero_division=0
    )
    curves: dict[str, Any] = {"roc": [], "precision_recall": []}
    if both:
        false_rate, true_rate, _ = metrics.roc_curve(labels, scores)
        precisions, recalls, _ = metrics.precision_recall_curve(labels, scores)
        # In order of increasing recall, for charts.
        curves = {"roc": _thin(false_rate, true_rate), "precision_recall": _thin(recalls[::-1], precisions[::-1])}
    return {
        "metrics": _rounded(
            accuracy=metrics.accuracy_score(labels, predicted),
            precision=precision,
            recall=recall,
            f1=f1,
            roc_auc=metrics.roc_auc_score(labels, scores) if both else None,
            average_precision=metrics.average_precision_score(labels, scores) if both else None,
        ),
        "confusion": metrics.confusion_matrix(labels, predicted, labels=[0, 1]).tolist(),
        "curves": curves,
        "histogram": _histogram(labels, scores),
        "notes": notes,
    }


def multiclass_figures(labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Figures of a model with more than two classes, which predicts the most probable class; macro averages."""
    classes = list(range(scores.shape[1]))
    predicted = scores.argmax(axis=1)
    every = len(np.unique(labels)) == len(classes)
    notes = [] if every else ["some classes have no rows: roc_auc and average_precision are undefined"]
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, average="macro", zero_division=0
    )
    one_hot = np.eye(len(classes), dtype=np.int64)[labels]
    return {
        "metrics": _rounded(
            accuracy=metrics.accuracy_score(labels, predicted),
            precision=precision,
            recall=recall,
            f1=f1,
            roc_auc=metrics.roc_auc_score(one_hot, scores, average="macro") if every else None,
            average_precision=metrics.average_precision_score(one_hot, scores, average="macro") if every else None,
        ),
        "confusion": metrics.confusion_matrix(labels, predicted, labels=classes).tolist(),
        "curves": {"roc": [], "precision_recall": []},
        "histogram": None,
        "notes": notes,
    }


def difference(new: dict[str, Any], old: dict[str, Any]) -> dict[str, float | None]:
    """The difference of each metric from the baseline's."""
    return {
        name: None if new[name] is None or old[name] is None else round(new[name] - old[name], DECIMALS)
        for name in METRICS
    }


def _rounded(**values: Any) -> dict[str, float | None]:
    return {name: None if value is None else round(float(value), DECIMALS) for name, value in values.items()}


def _thin(xs: np.ndarray, ys: np.ndarray) -> list[list[float]]:
    """At most CURVE_POINTS points, including the first and the last one."""
    at = np.unique(np.linspace(0, len(xs) - 1, min(len(xs), CURVE_POINTS)).round().astype(int))
    return [[round(float(xs[i]), DECIMALS), round(float(ys[i]), DECIMALS)] for i in at]


def _histogram(labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    low, high = min(0.0, float(scores.min())), max(1.0, float(scores.max()))
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    counts = {name: np.histogram(scores[labels == label], edges)[0].tolist() for name, label in (("negative", 0), ("positive", 1))}
    return {"edges": [round(float(edge), DECIMALS) for edge in edges], **counts}
