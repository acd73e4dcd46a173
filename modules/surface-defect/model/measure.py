"""Figures about scores: area under the ROC curve, precision, recall, threshold.

Purpose: the definitions that training and evaluation share.
"""

import numpy as np


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Probability that a defective image scores above a good one; ties count a half."""
    bad, good = scores[labels == 1], scores[labels == 0]
    ordered = np.sort(good)
    below = np.searchsorted(ordered, bad, "left")
    at_most = np.searchsorted(ordered, bad, "right")
    return float((below + at_most).mean() / 2 / len(good))


def precision_recall(scores, labels, threshold) -> tuple[float, float]:
    """Precision and recall when a score of at least `threshold` means defective."""
    said = scores >= threshold
    right = int((said & (labels == 1)).sum())
    return right / max(int(said.sum()), 1), right / max(int((labels == 1).sum()), 1)


def best_threshold(scores, labels) -> float:
    """The threshold, to 2 decimals, with the highest F1; the middle one among equals."""
    tried = np.round(np.arange(0.05, 0.96, 0.01), 2)
    found = []
    for threshold in tried:
        precision, recall = precision_recall(scores, labels, threshold)
        found.append(2 * precision * recall / max(precision + recall, 1e-9))
    best = np.flatnonzero(np.asarray(found) >= max(found) - 1e-12)
    return float(tried[best[len(best) // 2]])


def summary(scores, labels, threshold) -> dict[str, float]:
    """All figures of one set of scores, rounded to 4 decimals."""
    precision, recall = precision_recall(scores, labels, threshold)
    return {
        "images": int(len(labels)),
        "auc": round(auc(scores, labels), 4),
        "precision": round(precision, 4),
        "recall": round(recall, 4),
    }
