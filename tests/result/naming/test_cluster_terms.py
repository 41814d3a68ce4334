"""Which terms are found in texts, and which of them tell a cluster from its neighbors."""

import numpy as np
import pytest
from helpers_languages import QUESTIONS, TELLING, bank_texts

from fmcluster.result.naming.phrases import term_table
from fmcluster.result.naming.terms import cluster_terms, confusion, term_scores
from fmcluster.utils.words import stop_words


def sure(labels, k, p=0.9):
    """Probabilities with p for the label, the rest even."""
    proba = np.full((len(labels), k), (1 - p) / max(k - 1, 1))
    proba[np.arange(len(labels)), labels] = p
    return proba


FILLERS = ("blue", "long", "wide", "cold", "warm")


def names_of(texts, labels, k, proba=None, **options):
    labels = np.asarray(labels, np.int64)
    table = term_table(texts, options.pop("languages", ["en"]))
    return cluster_terms(table, labels, sure(labels, k) if proba is None else proba, **options)


def test_shares_and_scores_are_those_of_the_formula():
    draw = np.random.default_rng(0)
    words = [f"w{i}x" for i in range(12)]
    texts = [". ".join(draw.choice(words, 4, replace=False)) for _ in range(60)]  # no phrases
    labels = draw.integers(0, 3, 60)
    proba = draw.dirichlet(np.ones(3), 60)
    table = term_table(texts, ["en"])
    near = confusion(labels, proba)
    weight = proba[np.arange(60), labels]
    holds = np.array([[word in text.split(". ") for word in table.terms] for text in texts])
    inside = np.stack([weight * (labels == c) for c in range(3)])
    held, rows = inside @ holds, inside.sum(axis=1)
    overall = held.sum(axis=0) / rows.sum()
    for c, (terms, scores) in enumerate(term_scores(table, labels, proba)):
        p = (held[c] + overall) / (rows[c] + 1)
        others = rows.sum() - rows[c]
        b = 0.5 * near[c] @ (held / rows[:, None]) + 0.5 * (held.sum(axis=0) - held[c]) / others
        b = (b * others + 0.5 * overall) / (others + 0.5)
        q = np.maximum(p - np.sqrt(p * (1 - p) / (rows[c] + 1)), 1e-9)
        q = q if (q > b).any() else p
        divergence = q * np.log(q / b) + (1 - q) * np.log((1 - q) / (1 - b))
        np.testing.assert_allclose(scores, np.where(q > b, divergence, 0)[terms], atol=1e-6)


def test_words_keep_their_signs_and_stop_words_are_no_terms():
    texts = ["the c++ compiler", "a c++ error", "the c# class", "some c# class"]
    first, second = names_of(texts, [0, 0, 1, 1], 2)
    assert first[0].startswith("c++") and second[0].startswith("c#")
    assert not {"the", "a", "some"} & set(" ".join(first + second).split())


def test_nothing_but_stop_words_gives_no_terms():
    assert names_of(["the", "and"], [0, 1], 2) == [[], []]
    assert names_of([], [], 2) == [[], []]


def test_a_single_cluster_is_named_by_what_most_of_its_rows_hold():
    texts = [f"refund. {'lamp' if i % 3 else 'chair'}" for i in range(30)]
    assert names_of(texts, np.zeros(30), 1) == [["refund", "lamp", "chair"]]


def test_a_pair_of_words_stays_together_even_where_one_is_a_stop_word():
    topics = ("top up the account", "close the account for me", "a card for the account")
    texts = [f"{topics[i % 3]} number {i}" for i in range(60)]
    found = names_of(texts, np.arange(60) % 3, 3)
    assert found[0][0] == "top up"
    assert "card" in found[2] and "up" not in found[0]


def test_a_stop_word_that_follows_many_words_makes_no_pair():
    texts = [f"{word} up {i}" for i in range(20) for word in ("wake", "pick", "look", "grow")]
    found = names_of(texts, np.arange(80) % 4, 4)
    assert found == [["wake"], ["pick"], ["look"], ["grow"]]


def test_what_two_rows_happen_to_hold_does_not_come_before_what_most_do():
    """Half of the neighbors' rows hold the rate too; two rows alone hold a rare word."""
    texts = [f"exchange rate {'lighthouse' if i < 2 else i}" for i in range(24)]
    texts += [f"{'exchange rate' if i % 2 else 'transfer'} wrong {i}" for i in range(24)]
    near = np.repeat([[0.6, 0.4], [0.4, 0.6]], 24, axis=0)
    first, _ = names_of(texts, np.repeat([0, 1], 24), 2, near)
    assert first[0] == "exchange rate"


def test_three_words_around_a_stop_word_are_a_term_only_where_they_stand_together():
    texts = [f"proof of identity {i}" for i in range(20)]
    texts += [f"a fee {'for a card' if i < 3 else 'again'} {i}. card {i}" for i in range(40)]
    texts += ["American Express to add money", "American Express to add cash"] * 3
    texts += [f"{word} of a lamp to {word} add {i}" for i in range(9) for word in FILLERS]
    terms = {term.lower() for term in term_table(texts, ["en"]).terms}
    assert "proof of identity" in terms and "american express" in terms
    assert not {"fee for a", "fee for card", "for a card", "express to add"} & terms


def test_clusters_with_the_same_best_term_are_told_apart_by_weaker_ones():
    """Nine in ten rows of both hold the same word; each has a word of a few rows beside it."""
    texts = [f"disposable. {'limit' if i % 10 == 0 else ''} {i}" for i in range(60)]
    texts += [f"disposable. {'order' if i % 10 == 0 else ''} {i}" for i in range(60)]
    texts += [f"refund {i}" for i in range(200)]
    first, second, third = names_of(texts, np.repeat([0, 1, 2], [60, 60, 200]), 3)
    assert first[0] == second[0] == "disposable" and third == ["refund"]
    assert first[1:] == ["limit"] and second[1:] == ["order"]


def test_forms_of_one_word_count_together_and_are_shown_as_most_write_it():
    verbs = ("expires", "expired", "expiring", "expire")
    texts = [f"my card {verbs[i % 4]} in week {i}" for i in range(20)]
    texts += [f"my card {'was stolen'} in week {i}" for i in range(20)]
    texts += ["the card expires", "it expires"]
    found = names_of(texts, np.r_[np.zeros(20), np.ones(20), [0, 0]].astype(int), 2)
    assert found[0][0].split()[-1] == "expires" and "stolen" in found[1][0]


def test_capitals_that_begin_a_sentence_are_no_part_of_a_name_but_others_are():
    texts = [f"Refund please {i}. My ATM is broken. Refund now" for i in range(20)]
    texts += [f"Address change {i}" for i in range(20)]
    found = names_of(texts, np.repeat([0, 1], 20), 2, n_terms=5)
    assert "ATM" in " ".join(found[0]) and "refund" in " ".join(found[0])
    assert "Refund" not in " ".join(found[0]) and found[1][0].startswith("address")


def test_what_a_cluster_shares_with_its_neighbors_is_not_what_names_it():
    """Clusters 0 and 1 are taken for one another and both speak of transfers, 2 does not."""
    kinds = ("transfer declined", "transfer pending", "address")
    texts = [f"{kinds[i % 3]} {i}" for i in range(90)]
    labels = np.arange(90) % 3
    near = np.array([[0.6, 0.4, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 1.0]])[labels]
    found = names_of(texts, labels, 3, near, n_terms=1)
    assert "declined" in found[0][0] and "pending" in found[1][0]


def test_rows_count_by_their_confidence():
    texts = [f"{'refund' if i < 12 else 'noise'} {i}" for i in range(32)]
    texts += [f"other {i}" for i in range(32)]
    labels = np.repeat([0, 1], 32)
    p = np.where(np.arange(64) < 12, 0.6, 0.9)[:, None]
    proba = np.where(np.eye(2)[labels] > 0, p, 1 - p)
    assert names_of(texts, labels, 2, proba, n_terms=1)[0] == ["noise"]
    proba[12:32] = [0.1, 0.9]  # rows that most likely belong elsewhere
    assert names_of(texts, labels, 2, proba, n_terms=1)[0] == ["refund"]


def test_a_cluster_of_a_row_that_likely_belongs_elsewhere_has_a_name():
    texts = [f"refund {i}" for i in range(30)] + [f"limit {i}" for i in range(30)]
    proba = np.full((60, 3), 0.02)
    proba[np.arange(60), np.repeat([0, 1], 30)] = 0.96
    proba[59] = [0.01, 0.98, 0.01]
    labels = np.r_[np.zeros(30), np.ones(29), 2].astype(int)
    assert names_of(texts, labels, 3, proba)[2] == ["limit"]


def test_terms_of_a_name_share_no_word_and_weak_ones_are_left_out():
    texts = [f"exchange rate today {i}" if i % 2 else f"delivery {i}" for i in range(60)]
    first, second = names_of(texts, np.arange(60) % 2, 2, n_terms=5)
    assert first == ["delivery"]
    words = [word for term in second for word in term.split()]
    assert len(words) == len(set(words)) and {"exchange", "rate"} <= set(words)


@pytest.mark.parametrize("language", sorted(QUESTIONS))
def test_names_in_six_languages_hold_the_topic_and_no_stop_word(language):
    texts, topics = bank_texts(language)
    found = names_of(texts, topics, 4, languages=[language])
    for terms, telling in zip(found, TELLING[language], strict=True):
        assert any(telling in term.lower() for term in terms[:2]), (terms, telling)
        assert not set(terms) & stop_words([language])


def test_names_do_not_depend_on_the_order_of_rows_nor_on_who_is_asked_first():
    texts, topics = bank_texts("de")
    topics, draw = np.array(topics), np.random.default_rng(0)
    plain = names_of(texts, topics, 4, languages=["de"])
    order = draw.permutation(len(texts))
    assert names_of([texts[i] for i in order], topics[order], 4, languages=["de"]) == plain


def test_confusion_is_by_the_probabilities_of_the_rows():
    labels = np.array([0, 0, 1, 2])
    proba = np.array([[0.7, 0.3, 0], [0.9, 0, 0.1], [0, 1, 0], [0.2, 0.2, 0.6]])
    near = confusion(labels, proba)
    np.testing.assert_allclose(near, [[0, 0.75, 0.25], [0, 0, 0], [0.5, 0.5, 0]], atol=1e-12)
