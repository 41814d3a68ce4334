"""The Sinkhorn solver against POT, the limits it must honour, and what it must refuse."""

from __future__ import annotations

import dataclasses
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_fork import run_forked
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from fmcluster.functional._ot_rows import Rows
from fmcluster.functional.ot import sinkhorn

pot = pytest.importorskip("ot")


def uniform(size):
    return np.full(size, 1.0 / size)


def random_prior(rng, k):
    return rng.dirichlet(np.full(k, 2.0)) * 0.9 + 0.1 / k


def objective(plan, scores, epsilon):
    positive = plan[plan > 0]
    return -(plan * scores).sum() + epsilon * (positive * np.log(positive)).sum()


def clustered_scores(n, k, *, seed=0, spread=0.3):
    """Cosines of rows to k directions, with sizes that fall like 1 / rank."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(k, 32))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    share = 1.0 / np.arange(1, k + 1)
    rows = centers[rng.choice(k, n, p=share / share.sum())] + spread * rng.normal(size=(n, 32))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) @ centers.T


@pytest.mark.parametrize("seed", range(50))
def test_balanced_agrees_with_pot(seed):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(5, 60)), int(rng.integers(2, 12))
    scores, prior, epsilon = rng.normal(size=(n, k)), random_prior(rng, k), rng.uniform(0.05, 1)
    row_mass = random_prior(rng, n)
    result = sinkhorn(scores, row_marginal=row_mass, col_marginal=prior, epsilon=epsilon, tol=1e-10)
    expected = pot.sinkhorn(
        row_mass, prior, -scores, epsilon, method="sinkhorn_log", numItermax=20000, stopThr=1e-12
    )
    np.testing.assert_allclose(result.plan, expected, atol=1e-6 * expected.max(), rtol=1e-5)
    assert objective(result.plan, scores, epsilon) <= objective(expected, scores, epsilon) + 1e-8
    exact = pot.emd2(row_mass, prior, -scores)
    assert -(result.plan * scores).sum() >= exact - 1e-9


@pytest.mark.filterwarnings("ignore:If reg_type")
@pytest.mark.parametrize("penalty", [0.01, 0.3, 1.0, 20.0])
def test_semi_relaxed_agrees_with_pot(penalty):
    rng = np.random.default_rng(3)
    scores, prior = rng.normal(size=(60, 7)), random_prior(rng, 7)
    result = sinkhorn(scores, col_marginal=prior, epsilon=0.2, col_penalty=penalty, tol=1e-11)
    expected = pot.unbalanced.sinkhorn_unbalanced(
        uniform(60),
        prior,
        -scores,
        reg=0.2,
        reg_m=(np.inf, penalty),
        reg_type="entropy",
        numItermax=50000,
        stopThr=1e-14,
    )
    np.testing.assert_allclose(result.plan, expected, atol=1e-6 / 60)
    np.testing.assert_allclose(result.plan.sum(1), uniform(60), rtol=1e-9)


@pytest.mark.parametrize("rho", [0.05, 0.5, 0.95])
def test_partial_agrees_with_pot_on_a_virtual_cluster(rho):
    rng = np.random.default_rng(5)
    scores, prior = -rng.exponential(size=(80, 6)), random_prior(rng, 6)
    result = sinkhorn(scores, col_marginal=prior, epsilon=0.1, rho=rho, tol=1e-11)
    extended = np.append(-scores, np.zeros((80, 1)), axis=1)
    expected = pot.sinkhorn(
        uniform(80),
        np.append(rho * prior, 1 - rho),
        extended,
        0.1,
        method="sinkhorn_log",
        numItermax=20000,
        stopThr=1e-13,
    )[:, :-1]
    np.testing.assert_allclose(result.plan, expected, atol=1e-6 / 80)
    np.testing.assert_allclose(result.plan.sum(), rho, rtol=1e-9)
    assert (result.row_marginal <= 1 / 80 + 1e-12).all()


def reference_partial(scores, *, rho, epsilon, penalty, n_iter=20000):
    """Solve P2OT's problem by the textbook scaling loop in float64."""
    n, k = scores.shape
    kernel = np.append(np.exp(scores / epsilon), np.ones((n, 1)), axis=1)
    target = np.append(np.full(k, rho / k), 1 - rho)
    power = np.append(np.full(k, penalty / (penalty + epsilon)), 1.0)
    b = np.ones(k + 1)
    for _ in range(n_iter):
        a = 1 / n / (kernel @ b)
        b = (target / (a @ kernel)) ** power
    return (a[:, None] * kernel * b)[:, :k]


@pytest.mark.parametrize("rho", [0.1, 0.5, 0.9])
def test_partial_and_semi_relaxed_together_equal_the_scaling_loop(rho):
    scores = np.log(np.random.default_rng(1).dirichlet(np.ones(5), size=50))
    result = sinkhorn(scores, epsilon=0.1, rho=rho, col_penalty=1.0, tol=1e-11)
    expected = reference_partial(scores, rho=rho, epsilon=0.1, penalty=1.0)
    np.testing.assert_allclose(result.plan, expected, atol=1e-9)


def test_small_penalty_frees_the_sizes_and_infinite_holds_them():
    scores = clustered_scores(400, 6)
    free = sinkhorn(scores, epsilon=0.05, col_penalty=1e-4).col_marginal
    hard = np.bincount(scores.argmax(1), minlength=6) / 400
    held = sinkhorn(scores, epsilon=0.05, tol=1e-9)
    nearly = sinkhorn(scores, epsilon=0.05, col_penalty=1e9, tol=1e-9)
    assert np.abs(free - hard).sum() < 0.1
    np.testing.assert_allclose(nearly.plan, held.plan, atol=1e-9)
    np.testing.assert_allclose(held.col_marginal, 1 / 6, rtol=1e-8)
    distances = [
        np.abs(sinkhorn(scores, epsilon=0.05, col_penalty=p).col_marginal - 1 / 6).sum()
        for p in (0.01, 0.1, 1.0, 10.0)
    ]
    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize("epsilon", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"rho": 0.3}, {"rho": 0.3, "col_penalty": 1.0}])
def test_always_finite(epsilon, scale, dtype, options):
    rng = np.random.default_rng(0)
    scores = (-scale * rng.random((200, 9))).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = sinkhorn(scores, epsilon=epsilon, max_iter=150, **options)
    for values in (result.plan, result.row_potential, result.col_potential, result.col_marginal):
        assert np.isfinite(values).all()
    assert result.plan.dtype == dtype
    rows = result.plan.sum(1)
    np.testing.assert_allclose(rows, result.row_marginal, atol=1e-5)
    assert rows.max() <= 1 / 200 * (1 + 1e-3)


def test_small_epsilon_reaches_the_exact_plan():
    rng = np.random.default_rng(2)
    scores = rng.random((60, 6))
    result = sinkhorn(scores, epsilon=2e-4, tol=1e-6)
    assert result.status == "converged"
    exact = -pot.emd2(uniform(60), uniform(6), -scores)
    assert (result.plan * scores).sum() == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("options", [{}, {"rho": 0.5}, {"rho": 0.5, "col_penalty": 1.0}])
def test_float32_is_near_float64(options):
    scores = clustered_scores(3000, 25)
    wide = sinkhorn(scores, epsilon=0.05, tol=1e-8, **options).plan
    narrow = sinkhorn(scores.astype(np.float32), epsilon=0.05, tol=2e-6, **options).plan
    assert np.abs(wide - narrow).sum() < 1e-3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-100, 100), st.sampled_from([1.0, 0.4]))
def test_permutation_and_shift_invariance(seed, shift, rho):
    rng = np.random.default_rng(seed)
    scores, prior = rng.normal(size=(30, 5)), random_prior(rng, 5)
    options = {"epsilon": 0.3, "rho": rho, "tol": 1e-9}
    plan = sinkhorn(scores, col_marginal=prior, **options).plan
    rows, cols = rng.permutation(30), rng.permutation(5)
    permuted = sinkhorn(scores[rows][:, cols], col_marginal=prior[cols], **options).plan
    np.testing.assert_allclose(permuted, plan[rows][:, cols], atol=1e-8)
    shifted = sinkhorn(scores + shift, col_marginal=prior, **options).plan
    np.testing.assert_allclose(shifted, plan, atol=1e-8)
    np.testing.assert_allclose(plan.sum(0), rho * prior, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 9),
    st.sampled_from([0.01, 0.05, 1.0]),
    st.sampled_from([1.0, 0.9, 0.2]),
    st.sampled_from([np.inf, 5.0, 0.1]),
    st.sampled_from([1e-3, 1.0, 300.0]),
    st.integers(0, 10_000),
)
def test_every_plan_has_its_rows_mass_and_columns(n, k, epsilon, rho, penalty, scale, seed):
    rng = np.random.default_rng(seed)
    scores, prior = scale * rng.normal(size=(n, k)), random_prior(rng, k)
    options = {"rho": rho, "col_penalty": penalty, "tol": 1e-7, "max_iter": 3000}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = sinkhorn(scores, col_marginal=prior, epsilon=epsilon, **options)
    plan = result.plan
    assert np.isfinite(plan).all() and (plan >= 0).all()
    assert plan.sum(1).max() <= 1 / n + 1e-9  # no row gives more than it has
    if rho == 1:
        np.testing.assert_allclose(plan.sum(1), 1 / n, rtol=1e-6)
    if result.status == "converged":
        assert plan.sum() == pytest.approx(rho, abs=1e-5)
        if penalty == np.inf:
            assert np.abs(plan.sum(0) - rho * prior).sum() < 1e-5


def test_plan_is_the_exponential_of_the_potentials():
    scores = clustered_scores(100, 4)
    result = sinkhorn(scores, epsilon=0.07, rho=0.6, tol=1e-8)
    potentials = result.row_potential[:, None] + scores + result.col_potential
    np.testing.assert_allclose(result.plan, np.exp(potentials / 0.07), rtol=1e-9)
    np.testing.assert_allclose(result.plan_rows(slice(10, 20)), result.plan[10:20])
    with pytest.raises(ValueError, match="step 2"):
        result.plan_rows(slice(0, 10, 2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.error = 0.0


@pytest.mark.parametrize("options", [{}, {"rho": 0.5}, {"col_penalty": 1.0}])
def test_warm_start_needs_fewer_passes_and_ends_at_the_same_plan(options):
    scores = clustered_scores(2000, 20)
    cold = sinkhorn(scores, epsilon=0.02, **options)
    again = sinkhorn(scores, epsilon=0.02, init=cold, **options)
    moved = sinkhorn(scores + 1e-3, epsilon=0.02, init=cold.col_potential, **options)
    assert again.n_iter <= 3 <= cold.n_iter
    assert moved.n_iter <= cold.n_iter
    assert np.abs(again.plan - cold.plan).sum() < 1e-4


def test_blocks_do_not_change_the_answer(tmp_path):
    scores = clustered_scores(1000, 8)
    whole = sinkhorn(scores, epsilon=0.05, tol=1e-9)
    path = tmp_path / "scores.npy"
    np.save(path, scores)
    mapped = np.load(path, mmap_mode="r")
    streamed = sinkhorn(mapped, epsilon=0.05, tol=1e-9, block_rows=77)
    np.testing.assert_allclose(streamed.plan, whole.plan, atol=1e-9)
    parts = [streamed.plan_rows(slice(s, s + 300)) for s in range(0, 1000, 300)]
    np.testing.assert_allclose(np.concatenate(parts), streamed.plan)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_streaming_holds_far_less_than_the_scores():
    """Peak memory of the process, so in a process of its own."""
    program = """
import numpy as np
from fmcluster.functional._ot_rows import Rows
from fmcluster.functional.ot import sinkhorn
def peak():
    # Not ru_maxrss: a child inherits that from its parent.
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])
sinkhorn(np.zeros((600, 400), np.float32), block_rows=300)
scores = np.random.default_rng(0).random((30_000, 400), dtype=np.float32)
before = peak()
result = sinkhorn(scores, epsilon=0.1, block_rows=1000, rho=0.8)
result.plan_rows(slice(0, 1000))
after = peak()
assert result.status == "converged"
assert (after - before) * 1024 < 0.5 * scores.nbytes, (before, after, scores.nbytes)
"""
    run_forked(program, timeout=120)


@pytest.mark.parametrize("share", [250, 899, 0])
def test_columns_are_reduced_over_processes(share):
    """Two threads in lockstep stand for two processes that hold uneven shares of the rows."""
    scores, prior = clustered_scores(900, 6), random_prior(np.random.default_rng(0), 6)
    barrier, held, answers = threading.Barrier(2), {}, {}

    def work(rank, rows):
        def reduce(values):
            held[rank] = values
            barrier.wait(timeout=30)
            total = held[0] + held[1]
            barrier.wait(timeout=30)
            return total

        answers[rank] = sinkhorn(
            scores[rows], col_marginal=prior, epsilon=0.05, rho=0.7, tol=1e-8, reduce=reduce
        )

    threads = [
        threading.Thread(target=work, args=(0, slice(0, share))),
        threading.Thread(target=work, args=(1, slice(share, 900))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = sinkhorn(scores, col_marginal=prior, epsilon=0.05, rho=0.7, tol=1e-8)
    both = np.concatenate([answers[0].plan, answers[1].plan])
    np.testing.assert_allclose(both, whole.plan, atol=1e-8)
    np.testing.assert_array_equal(answers[0].col_potential, answers[1].col_potential)


def test_torch_in_torch_out():
    scores = clustered_scores(200, 5)
    tensor = torch.tensor(scores, requires_grad=True)
    result = sinkhorn(tensor, epsilon=0.05, tol=1e-8)
    assert isinstance(result.plan, torch.Tensor) and not result.plan.requires_grad
    np.testing.assert_allclose(
        result.plan.numpy(), sinkhorn(scores, epsilon=0.05, tol=1e-8).plan, atol=1e-10
    )


def test_input_is_not_written_to():
    for dtype in (np.float16, np.float32, np.float64):
        scores = clustered_scores(100, 4).astype(dtype)
        before = scores.copy()
        scores.setflags(write=False)
        sinkhorn(scores, epsilon=0.1, rho=0.5).plan  # noqa: B018
        np.testing.assert_array_equal(scores, before)


def test_one_cluster_and_one_row():
    np.testing.assert_allclose(sinkhorn(np.ones((4, 1))).plan, 0.25)
    np.testing.assert_allclose(sinkhorn(np.zeros((1, 3)), tol=1e-9).plan, 1 / 3)


def test_non_convergence_warns_and_is_in_the_status():
    scores = clustered_scores(500, 10)
    with pytest.warns(ConvergenceWarning, match="stopped after 2 passes"):
        result = sinkhorn(scores, epsilon=0.05, max_iter=2, tol=1e-12)
    assert result.status == "max_iter" and result.error > 1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sinkhorn(scores, epsilon=0.05).status == "converged"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"col_marginal": [0.5, 0.6, 0.1]}, "sums to 1.2"),
        ({"col_marginal": [0.5, 0.5, 0.0]}, "entry 2 is 0"),
        ({"col_marginal": [0.5, 0.5]}, r"shape \(2,\), expected \(3,\)"),
        ({"row_marginal": [0.5, 0.5]}, r"shape \(2,\), expected \(4,\)"),
        ({"row_marginal": [0.5, 0.5, 0.5, 0.5]}, "sums to 2"),
        ({"row_marginal": [0.5, 0.5, 0.0, 0.0]}, "its least is 0.0"),
        ({"rho": 0.0}, r"rho=0.0 is outside \(0, 1\]"),
        ({"rho": 1.5}, r"rho=1.5 is outside"),
        ({"rho": float("nan")}, "rho=nan"),
        ({"epsilon": 0.0}, "epsilon=0.0"),
        ({"epsilon": -1.0}, "epsilon=-1.0"),
        ({"col_penalty": 0.0}, "col_penalty=0.0"),
        ({"col_penalty": float("nan")}, "col_penalty=nan"),
        ({"init": [1.0, 2.0]}, r"init has shape \(2,\)"),
    ],
)
def test_bad_input_is_quoted(options, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn(np.zeros((4, 3)), **options)


def test_bad_scores_are_quoted():
    scores = np.zeros((4, 3))
    scores[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"scores\[2, 1\] is nan"):
        sinkhorn(scores)
    with pytest.raises(ValueError, match=r"scores\[2, 1\] is nan"):
        sinkhorn(torch.tensor(scores))
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        sinkhorn(np.zeros(3))
    with pytest.raises(TypeError, match="numeric"):
        sinkhorn(np.array([["a", "b"]]))


@pytest.mark.parametrize(("k", "epsilon", "newton"), [(400, 0.2, False), (8, 0.002, True)])
def test_curvature_is_paid_for_only_where_plain_steps_are_slow(monkeypatch, k, epsilon, newton):
    calls = []
    curvature = Rows.curvature

    def counted(self, g, step):
        calls.append(step)
        return curvature(self, g, step)

    monkeypatch.setattr(Rows, "curvature", counted)
    scores = np.random.default_rng(0).random((600, k))
    result = sinkhorn(scores, epsilon=epsilon, tol=1e-6)
    assert result.status == "converged"
    assert bool(calls) is newton
    np.testing.assert_allclose(result.plan.sum(0), 1 / k, atol=1e-6)
