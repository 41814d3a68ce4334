"""A multilingual encoder: a tiny XLM-R of random weights in its real format, six languages."""

import logging

import numpy as np
import pytest
from helpers_languages import QUESTIONS, bank_texts

import fmcluster as fmc
from fmcluster.embedding.encoders import resolve

TEXTS = [text for language in QUESTIONS for text in bank_texts(language)[0]]


@pytest.fixture(scope="module")
def xlmr_folder(tmp_path_factory):
    """Weights drawn at random, pieces of words as in XLM-R: Unigram over all the texts."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

    folder = tmp_path_factory.mktemp("xlmr")
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = Tokenizer(models.Unigram())
    pieces.normalizer = normalizers.NFKC()
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=600, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    pieces.train_from_iterator(TEXTS, trainer)
    ends = [(token, pieces.token_to_id(token)) for token in ("<s>", "</s>")]
    pieces.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    names = dict(
        zip(
            ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), special, strict=True
        )
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces, cls_token="<s>", sep_token="</s>", model_max_length=64, **names
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
        initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    XLMRobertaModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_rows_are_those_of_the_reference_library(xlmr_folder, batch):
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(xlmr_folder) for kind in (AutoModel, AutoTokenizer))
    expected = []
    with torch.no_grad():
        for text in TEXTS:  # one at a time: no padding
            state = model.eval()(**tokenizer(text, return_tensors="pt")).last_hidden_state
            expected.append(state[0].mean(dim=0).numpy())
    encoder = resolve(str(xlmr_folder), modality="text", precision="fp32", batch_size=batch)
    found = encoder.encode(TEXTS)
    cosines = (found * expected).sum(1)
    cosines /= np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    assert cosines.min() >= 0.9999


def test_texts_of_six_languages_are_embedded_clustered_named_and_not_warned_of(
    xlmr_folder, tmp_path, caplog
):
    with caplog.at_level(logging.WARNING):
        store = fmc.embed(TEXTS, encoder=[str(xlmr_folder), "tfidf"], folder=tmp_path / "s")
    assert "English" not in caplog.text
    result = fmc.cluster(store, n_clusters=6, head="kmeans")
    assert len(set(result.names)) == 6
    assert result.predict(TEXTS[:30]).tolist() == result.labels[:30].tolist()
