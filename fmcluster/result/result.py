"""`ClusterResult`: a clustering as one object that can be asked, saved, reported and improved."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.calibration.calibrator import Calibrator
from fmcluster.calibration.from_labels import from_labels
from fmcluster.functional.calibration import with_confidence
from fmcluster.functional.metrics import evaluate
from fmcluster.heads.base import ClusterHead
from fmcluster.result.attached import attach
from fmcluster.result.cluster import Cluster
from fmcluster.result.dataset import to_dataset
from fmcluster.result.editing.apply import are_certain, undo
from fmcluster.result.editing.chain import Unedited, full_names
from fmcluster.result.editing.split import split
from fmcluster.result.files import read_result, write_result
from fmcluster.result.loop.answers import Answers
from fmcluster.result.loop.certify import certify
from fmcluster.result.loop.drift import drift
from fmcluster.result.loop.edits import dissolve, edits, merge, move, recalibrated, rename
from fmcluster.result.loop.levels import at_level, level_tree, levels, tree
from fmcluster.result.loop.outliers import abstain, outlier_score, outliers, top
from fmcluster.result.loop.reference import Sample
from fmcluster.result.loop.update import novel, update
from fmcluster.result.loop.with_answers import with_answers
from fmcluster.result.naming import name_clusters
from fmcluster.result.naming.texts import source_texts
from fmcluster.result.notebook.html import repr_html
from fmcluster.result.notebook.plot import plot
from fmcluster.result.notebook.tables import frame, table
from fmcluster.result.predictor import ClusterPipeline
from fmcluster.utils.blocks import copied, row_max
from fmcluster.utils.ids import IdIndex
from fmcluster.utils.validation import check_labels, label_text
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.preprocess import Preprocessor


@dataclass(frozen=True)
class ClusterResult:
    """A clustering of n rows into k clusters.

    Attributes
    ----------
    labels : (n,) int64
        Cluster of each row, 0..k-1; -1 for rows that came by `update` and fit none.
    proba : (n, k) float32
        Probabilities; rows sum to one and their argmax is the label.
    confidence : (n,) float32
        Calibrated probability that the label is right. Before calibration it is only a `score`,
        and `calibrator` is None.
    score : (n,) float32
        Largest probability of the head before calibration.
    cluster_prior : (k,) float64
        Estimated share of each cluster, sums to one.
    ids : (n,)
        Row ids of the store, or 0..n-1.
    pipeline : ClusterPipeline
        What predicts on new rows; its parts are attributes here too: `head`, `preprocessors`,
        `calibrator`, `names`, `encoder_states` and `provenance` (versions, encoder,
        preprocessing, head, seed, calibration).
    graph : KNNGraph or None
        Neighbors of the rows.
    embeddings, source
        What was clustered, while in this process; neither is saved with the result.
    unedited : Unedited or None
        What the result was before its first edit.
    reference : Sample or None
        Some rows' embeddings, saved with the result, against which new rows are held.
    answers : Answers
        What was answered so far: `labels` by id, `must_link` and `cannot_link` pairs of ids.
    name_audit : tuple of dict
        What namers were asked and answered; saved with the result, never with the pipeline.
    """

    labels: NDArray[np.int64]
    proba: NDArray[np.float32]
    confidence: NDArray[np.float32]
    score: NDArray[np.float32]
    cluster_prior: NDArray[np.float64]
    ids: NDArray[Any]
    pipeline: ClusterPipeline
    graph: KNNGraph | None = None
    embeddings: Any = field(default=None, compare=False)
    source: Any = field(default=None, compare=False)
    unedited: Unedited | None = field(default=None, compare=False, repr=False)
    reference: Sample | None = field(default=None, compare=False, repr=False)
    answers: Answers = field(default_factory=Answers, compare=False, repr=False)
    name_audit: tuple[dict[str, Any], ...] = field(default=(), compare=False, repr=False)

    # Methods that have a file of their own; each takes the result first.
    attach = attach
    to_dataset = to_dataset
    with_answers = with_answers
    name_clusters = name_clusters
    merge, split, rename, move = merge, split, rename, move
    dissolve, undo = dissolve, undo
    edits = property(edits)
    top, abstain, outliers = top, abstain, outliers
    outlier_score = cached_property(outlier_score)
    levels, tree, at_level = cached_property(levels), property(tree), at_level
    _level_tree = cached_property(level_tree)
    _source_texts = cached_property(source_texts)
    certify = certify
    update, novel, drift = update, property(novel), drift
    table, frame, plot = table, frame, plot
    _repr_html_ = repr_html

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.labels)

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return self.proba.shape[1]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each cluster (k,)."""
        return np.bincount(self.labels[self.labels >= 0], minlength=self.n_clusters)

    @property
    def is_calibrated(self) -> bool:
        """Whether `confidence` may be called so."""
        return self.pipeline.is_calibrated

    @property
    def head(self) -> ClusterHead:
        """The fitted head."""
        return self.pipeline.head

    @property
    def preprocessors(self) -> tuple[Preprocessor | None, ...]:
        """The fitted preprocessing of each space, None where there is none."""
        return self.pipeline.preprocessors

    @property
    def calibrator(self) -> Calibrator | None:
        """What made `confidence` of `score`; None where the head calibrates itself."""
        return self.pipeline.calibrator

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the clusters."""
        return self.pipeline.names

    @property
    def encoder_states(self) -> dict[int, dict[str, Any]]:
        """States of the encoders that were fitted on the data, by space number."""
        return self.pipeline.encoder_states

    @property
    def provenance(self) -> dict[str, Any]:
        """How it was made."""
        return self.pipeline.provenance

    def with_pipeline(self, **changes: Any) -> ClusterResult:
        """Return the result with some fields of its pipeline replaced, such as ``names``."""
        return dataclasses.replace(self, pipeline=dataclasses.replace(self.pipeline, **changes))

    def __repr__(self) -> str:
        sizes = np.sort(self.sizes)[::-1]
        word = "confidence" if self.is_calibrated else "score (not calibrated)"
        return (
            f"ClusterResult({self.n_rows} rows, {self.n_clusters} clusters, "
            f"sizes {sizes[0]} / {sizes[len(sizes) // 2]} / {sizes[-1]} (largest / middle / "
            f"smallest), head {self.head.name!r}, mean {word} {self.confidence.mean():.3f})"
        )

    def cluster(self, label: int) -> Cluster:
        """Return one cluster by its number."""
        if not 0 <= label < self.n_clusters:
            raise ValueError(f"cluster {label} is outside 0..{self.n_clusters - 1}")
        return Cluster(self, int(label))

    # As many as are read in a glance.
    def largest(self, count: int = 5) -> list[Cluster]:
        """Return the `count` largest clusters, largest first."""
        return [Cluster(self, int(c)) for c in np.argsort(-self.sizes, kind="stable")[:count]]

    def evaluate(self, y: ArrayLike) -> dict[str, float]:
        """Compare with true labels `y` (n,), in the order of `ids`.

        Returns
        -------
        dict
            acc, nmi, ari, macro_acc, head/medium/tail_acc, ece, brier, nll, auroc, aurc, fpr95 ...
        """
        y = check_labels(y, self.n_rows, name="y")
        return evaluate(y, self.labels, self.proba)

    def predict(self, data: Any, **options: Any) -> NDArray[np.int64]:
        """Return the cluster of new data: raw rows (encoded the same way), arrays or a store.

        Raises
        ------
        StoreMismatchError
            A store of another encoder.
        """
        return self.pipeline.predict(data, **options)

    def predict_proba(self, data: Any, **options: Any) -> NDArray[np.float32]:
        """Return calibrated probabilities (m, k) of new data."""
        return self.pipeline.predict_proba(data, **options)

    def calibrate(
        self, ids: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None
    ) -> ClusterResult:
        """Return a result whose confidence was calibrated on a few labeled rows.

        Parameters
        ----------
        ids : (m,)
            Which rows (values of `ids`) were labeled; 25 to 400 are enough.
        labels : (m,)
            Their true classes, of any kind. Clusters are named after them; rows that were answered
            or moved stay certain.
        weights : (m,), optional
            1 / the chance that each row was chosen, where rows were not chosen evenly at random.

        Raises
        ------
        ValueError
            Unknown or repeated ids, lengths that differ.
        """
        rows = self.rows_of(ids)
        if not len(rows):
            raise ValueError("no labeled rows were given: 25 to 400 are meant")
        y = check_labels(labels, len(rows))
        there = self.labels[rows] >= 0  # a class of a row in no cluster is of none
        if not there.any():
            raise ValueError(
                f"all {len(rows)} labeled rows are in no cluster (-1) and say nothing of one: "
                "with_answers(labels) makes clusters of them"
            )
        fits = weights is not None and np.shape(weights) == there.shape
        calibrator = from_labels(
            self.proba,
            rows[there],
            y[there],
            n_rows_total=self.n_rows,
            weights=np.asarray(weights)[there] if fits else weights,
            confidence=self.confidence,
            base=None if self.pipeline.edits else self.calibrator,
            is_confidence=self.is_calibrated,
        )
        sure = np.clip(calibrator.curves["score"](self.confidence), 1 / self.n_clusters, 1)
        old = full_names(self.names, self.n_clusters)
        found = calibrator.class_of_cluster
        names = tuple(label_text(found.get(c, old[c])) for c in range(self.n_clusters))
        if self.pipeline.edits:  # the calibration is of what the edits made: one more step
            return recalibrated(self, calibrator, names, (ids, labels, weights))
        sure[are_certain(self)] = 1
        found_by = (self.provenance.get("calibration") or {}).get("labeled_ids") or []
        after = self._recalibrated(calibrator, with_confidence(self.proba, sure), names=names)
        # `certify` must not count them again.
        about = {**calibrator.about(), "labeled_ids": [*found_by, *self.ids[rows].tolist()]}
        return after.with_pipeline(provenance={**after.provenance, "calibration": about})

    def with_calibrator(self, calibrator: Calibrator, xs: Any = None) -> ClusterResult:
        """Return the same clustering with probabilities of a calibrator fitted on the head's own.

        Parameters
        ----------
        calibrator : Calibrator
            Fitted on the head's own probabilities, which the result must still have.
        xs : list of arrays, optional
            The embeddings, where the calibrator reads them.
        """
        if self.pipeline.edits:
            raise ValueError(
                f"the result has {len(self.edits)} edit(s), after which its probabilities are no "
                "longer the head's own: give the calibrator first, or calibrate(ids, labels)"
            )
        return self._recalibrated(calibrator, calibrator.transform(self.proba, xs))

    def _recalibrated(
        self, calibrator: Calibrator, proba: NDArray[Any], *, names: tuple[str, ...] | None = None
    ) -> ClusterResult:
        proba = copied(proba, np.float32)
        proba[self.labels < 0] = 1 / self.n_clusters
        changed = self.with_pipeline(
            calibrator=calibrator,
            names=names or self.names,
            provenance={**self.provenance, "calibration": calibrator.about()},
        )
        return dataclasses.replace(changed, proba=proba, confidence=row_max(proba))

    @cached_property
    def index(self) -> IdIndex:
        """Rows by id."""
        return IdIndex(self.ids, tuple(self.provenance.get("skipped_ids") or ()))

    def rows_of(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return the row numbers of some ids; unknown or repeated ids raise ValueError."""
        return self.index.rows_of(ids)

    def report(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write one self-contained HTML page and return its path."""
        from fmcluster.result.report import write_report

        return write_report(self, path, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the whole pipeline (encoder id, preprocessing, head, calibrator) to the Hub."""
        from fmcluster.result.hub import push_to_hub

        return push_to_hub(self, repo_id, **options)

    def save(
        self, folder: str | os.PathLike[str], *, metrics: dict[str, float] | None = None
    ) -> None:
        """Write arrays, tables, tensors and JSON into `folder`; nothing is pickled.

        Parameters
        ----------
        folder : path
            Gets ``labels.npy``, ``proba.npy``, ``prior.npy``, ``clusters.parquet``,
            ``result.json``, ``head/``, what prediction needs, and embeddings of at most 2,000 rows
            (``reference.npy``), which `update` and `drift` hold new rows against.
        metrics : dict, optional
            What `evaluate` gave, kept in ``result.json``.
        """
        write_result(self, folder, metrics=metrics)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> ClusterResult:
        """Read a result that `save` wrote.

        Raises
        ------
        FileNotFoundError
            The folder holds no result.
        CorruptShardError
            A file is damaged, or files do not belong together.
        """
        return cls(**read_result(folder))
