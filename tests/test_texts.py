"""Texts as classes: the logits are the model's own, and every call knows them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from zoo import ZOO

import tokentm
from tokentm import InvalidOptionError, InvalidTargetError, TextTarget, Trace, UnsupportedModelError, text_target
from tokentm.methods import METHODS

PROMPTS = ["a photo of a cat", "a dog", "two boats"]
LENGTH = 8


class Tokenizer:
    """Letters as tokens, as a tokenizer of Hugging Face answers."""

    def __init__(self):
        self.paddings = []

    def __call__(self, texts, padding, truncation, return_tensors):
        self.paddings.append(padding)
        ids = [[3 + ord(letter) % 50 for letter in text[: LENGTH - 1]] + [2] for text in texts]
        ids = torch.tensor([one + [2] * (LENGTH - len(one)) for one in ids])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.fixture(scope="module", autouse=True)
def quiet():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokentm.discovery._tell", lambda _text: None)
        yield


def named(name):
    specimen = next(one for one in ZOO if one.name == name)
    try:
        return specimen.build(), specimen.images(2)
    except ImportError as error:
        pytest.skip(str(error))


BY_RULES = {
    *("transformer_attribution", "tokentm_libra_gradient", "libra_generic_attention", "libra_fullgrad_plus"),
    *("libra_input_x_gradient", "attnlrp", "cp_lrp", "reslrp"),
}
"""There is no rule for a cosine, or its length is a constant; in a function of features it has its own gradient."""


@pytest.mark.parametrize("name", ["CLIPModel", "MetaClip2Model", "SiglipModel", "Aimv2Model"])
def test_logits_of_prompts_are_the_models_own(name, relative):
    model, images = named(f"Hugging Face {name}")
    tokenizer = Tokenizer()
    text = text_target(model, tokenizer, PROMPTS)
    given = tokenizer(PROMPTS, padding=True, truncation=True, return_tensors="pt")
    own = model(pixel_values=images, **given).logits_per_image
    found = tokentm.explain(model, images, text)
    torch.testing.assert_close(found.logits, own, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.target, own.argmax(1))
    assert found.class_names == tuple(PROMPTS)
    sigmoid = name == "SiglipModel"
    assert found.outputs == ("sigmoid" if sigmoid else "softmax")
    assert tokenizer.paddings[0] == ("max_length" if sigmoid else True)

    embeds = F.normalize(model.get_text_features(**given).pooler_output, dim=1).detach()

    def of_dog(features):
        return model.logit_scale.exp().detach() * (F.normalize(features, dim=1) @ embeds[1])

    for method in set(METHODS) - BY_RULES:
        mine = tokentm.explain(model, images, text["a dog"], method)
        expected = tokentm.explain(model, images, of_dog, method)
        torch.testing.assert_close(mine.scores, expected.scores, rtol=2e-3, atol=1e-6, msg=method)
    assert mine.target.tolist() == [1, 1]
    for method in BY_RULES - {"transformer_attribution"}:
        scores = tokentm.explain(model, images, text["a dog"], method).scores
        assert torch.isfinite(scores).all()
        assert scores.any()


def test_open_clip_reads_texts_too():
    model, images = named("open_clip CLIP, image and text")

    def tokenizer(texts):
        ids = [[3 + ord(letter) % 50 for letter in text] for text in texts]
        return torch.tensor([(one + [0] * model.context_length)[: model.context_length] for one in ids])

    text = text_target(model, tokenizer, {"cat": PROMPTS[0], "dog": PROMPTS[1]})
    image, prompts = model(images, tokenizer(PROMPTS[:2]))[:2]
    own = model.logit_scale.exp() * image @ prompts.T
    found = tokentm.explain(model, images, text["dog"])
    torch.testing.assert_close(found.logits, own.detach(), rtol=1e-4, atol=1e-4)
    assert found.class_names == ("cat", "dog")
    assert found.target.tolist() == [1, 1]


def test_several_prompts_of_a_class_are_averaged():
    model, images = named("Hugging Face CLIPModel")
    single = text_target(model, Tokenizer(), PROMPTS[:2])
    averaged = text_target(model, Tokenizer(), {"both": PROMPTS[:2], "boats": PROMPTS[2]})
    torch.testing.assert_close(averaged.features[0], F.normalize(single.features.mean(0), dim=0))
    assert tokentm.explain(model, images, averaged).logits.shape == (2, 2)


def test_a_record_keeps_its_prompts(tmp_path):
    model, images = named("Hugging Face CLIPModel")
    text = text_target(model, Tokenizer(), PROMPTS)
    trace = tokentm.record(model, images, text[2])
    assert trace.class_names == tuple(PROMPTS)
    assert trace.target.tolist() == [2, 2]
    trace.save(tmp_path / "record.safetensors")
    again = Trace.load(tmp_path / "record.safetensors", model, text[2])
    before = METHODS["integrated_gradients"](trace).scores
    assert torch.equal(METHODS["integrated_gradients"](again).scores, before)


def test_a_model_with_its_prompts_is_a_classifier():
    model, images = named("Hugging Face CLIPModel")
    text = text_target(model, Tokenizer(), PROMPTS)
    classifier = text.classifier(model)
    found = tokentm.explain(classifier, images, 1)
    expected = tokentm.explain(model, images, text[1])
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(classifier(images), expected.logits)
    assert not classifier.training


def test_what_is_wrong_is_said():
    model, images = named("Hugging Face CLIPModel")
    for prompts in ("a cat", 3, [], {"cat": []}, [1, 2]):
        with pytest.raises(InvalidOptionError, match="prompt"):
            text_target(model, Tokenizer(), prompts)
    text = text_target(model, Tokenizer(), PROMPTS)
    for name in ("a cow", 3, -1, True):
        with pytest.raises(InvalidTargetError, match="expected one of 'a photo of a cat', 'a dog', 'two boats'"):
            text[name]
    with pytest.raises(UnsupportedModelError, match="a model of images and texts"):
        text_target(torch.nn.Linear(2, 2), Tokenizer(), PROMPTS)
    other = TextTarget(("a",), torch.ones(1, 3), 1.0, 0.0, "softmax")
    with pytest.raises(UnsupportedModelError, match=r"features of images \(batch, 3\) in the space of the texts"):
        tokentm.explain(model, images, other)


def test_prompts_are_the_classes_of_the_explorer():
    from PIL import Image
    from torchvision.transforms import ToTensor

    from tokentm_widgets import explore

    model, _ = named("Hugging Face CLIPModel")
    picture = Image.effect_noise((48, 48), 80).convert("RGB")
    text = text_target(model, Tokenizer(), PROMPTS)
    explorer = explore(model, picture, transform=ToTensor(), target=text)
    wanted = tokentm.explain(model, ToTensor()(picture)[None], text)
    assert explorer.overview.target is None
    assert explorer.overview.shown["explained"] == PROMPTS[int(wanted.target)]
    torch.testing.assert_close(explorer.explanation.scores, wanted.scores, rtol=1e-3, atol=1e-7)
    explorer.overview.target = 2
    assert explorer.trace.target.tolist() == [2]
    explorer.overview.view = "removal"
    assert PROMPTS[2] in repr(explorer.view)
    assert explore(model, picture, transform=ToTensor(), target=text["a dog"]).overview.target == 1


def test_a_model_of_ones_own_is_opened_with_its_description():
    from PIL import Image
    from test_own_models import described, own_vit
    from torchvision.transforms import ToTensor

    from tokentm_widgets import explore

    model = own_vit()
    explorer = explore(model, Image.new("RGB", (24, 16), "red"), transform=ToTensor(), anatomy=described(model))
    assert explorer.trace.anatomy.name == "OwnViT"
    explorer.overview.view = "layers"
    assert explorer.view is not None
