"""Tiny models of random weights, saved by transformers as real ones are."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tiny_models
import torch
import transformers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

SIDE = 32
_LAYERS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
_TEXT = {**_LAYERS, "vocab_size": tiny_models.VOCABULARY, "eos_token_id": 1, "bos_token_id": 2, "pad_token_id": 0}
_SIZE = {"height": SIDE, "width": SIDE}


def siglip(folder: Path) -> None:
    """Of fixed size, with a tokenizer that keeps the case and gives no mask, as those published with SigLIP 2 do."""
    config = transformers.SiglipConfig(
        text_config={**_TEXT, "max_position_embeddings": 64, "projection_size": 32},
        vision_config={**_LAYERS, "image_size": SIDE, "patch_size": 8},
    )
    _save(folder, transformers.SiglipModel, config)
    images = SiglipImageProcessorPil(size=_SIZE, resample=2)
    transformers.SiglipProcessor(images, _tokenizer(model_input_names=["input_ids"])).save_pretrained(folder)


def siglip2(folder: Path) -> None:
    """NaFlex: an image keeps its shape, in patches of its own number."""
    config = transformers.Siglip2Config(
        text_config={**_TEXT, "max_position_embeddings": 64, "projection_size": 32},
        vision_config={**_LAYERS, "num_patches": 256, "patch_size": 16},
    )
    _save(folder, transformers.Siglip2Model, config)
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁"]
    letters = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = transformers.Siglip2Tokenizer(vocab={token: number for number, token in enumerate(letters)}, merges=[])
    transformers.Siglip2Processor(Siglip2ImageProcessorPil(), tokenizer).save_pretrained(folder)


def clip(folder: Path) -> None:
    """As it is saved by transformers, without a file of sentence-transformers; in two shards, half as exact."""
    config = transformers.CLIPConfig(
        text_config={**_TEXT, "max_position_embeddings": 77, "eos_token_id": 1},
        vision_config={**_LAYERS, "image_size": SIDE, "patch_size": 8},
        projection_dim=24,
    )
    _save(folder, transformers.CLIPModel, config)
    images = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=_SIZE)
    transformers.CLIPProcessor(images, _tokenizer()).save_pretrained(folder)


def clip_with_modules(folder: Path) -> None:
    """As sentence-transformers saves it, with a projection in a module of its own, and prompts."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    clip(folder / "plain")
    plain = SentenceTransformer(str(folder / "plain"), device="cpu", local_files_only=True)
    torch.manual_seed(1)
    dense = Dense(24, 16, module_input_name="sentence_embedding", module_output_name="sentence_embedding")
    prompts = {"SearchQuery": "find: ", "Retrieval-document": "this: ", "other": "no: "}
    made = SentenceTransformer(modules=[plain[0], dense, Normalize()], prompts=prompts, device="cpu")
    made.save(str(folder), create_model_card=False)


def static(folder: Path) -> None:
    """A table of vectors of tokens, with a tokenizer that is not one of transformers'."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    torch.manual_seed(0)
    made = SentenceTransformer(modules=[StaticEmbedding(tiny_models.tokenizer(), embedding_dim=16)], device="cpu")
    made.save(str(folder), create_model_card=False)


def routed(folder: Path) -> None:
    """Texts through BERT, images through CLIP, as sentence-transformers routes them."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Router, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    clip(folder / "clip")
    bert = transformers.BertConfig(**_LAYERS, vocab_size=tiny_models.VOCABULARY, max_position_embeddings=40)
    _save(folder / "bert", transformers.BertModel, bert)
    _tokenizer().save_pretrained(folder / "bert")
    texts = [Transformer(str(folder / "bert")), Pooling(32, pooling_mode="mean"), Dense(32, 24)]
    routes = {"text": texts, "image": [Transformer(str(folder / "clip"))]}
    mappings = {(None, name): name for name in routes}
    made = SentenceTransformer(modules=[Router(routes, route_mappings=mappings)], device="cpu")
    made.save(str(folder), create_model_card=False)


def gemma3(folder: Path) -> None:
    """Takes texts, images and both in the messages of a chat."""
    first = tiny_models.VOCABULARY  # of the three tokens for images
    text = {
        **_TEXT,
        "vocab_size": first + 3,
        "head_dim": 16,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "sliding_window": 128,
    }
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config={**_LAYERS, "image_size": SIDE, "patch_size": 8, "vision_use_head": False},
        mm_tokens_per_image=4,
        image_token_index=first,
        boi_token_index=first + 1,
        eoi_token_index=first + 2,
    )
    _save(folder, transformers.Gemma3Model, config)
    tokens = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = _tokenizer(list(tokens.values()), **tokens)
    template = (
        "{% for message in messages %}{% for item in message['content'] %}"
        "{% if item['type'] == 'image' %}<start_of_image>{% else %}{{ item['text'] }}{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    images = Gemma3ImageProcessorPil(size=_SIZE)
    transformers.Gemma3Processor(images, tokenizer, chat_template=template, image_seq_length=4).save_pretrained(folder)


def large(folder: Path) -> None:
    """A SigLIP of ViT-B/16's size, for benchmarks: speed does not depend on weights."""
    base = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    config = transformers.SiglipConfig(
        text_config={**_TEXT, **base, "max_position_embeddings": 64, "projection_size": 768},
        vision_config={**base, "image_size": 224, "patch_size": 16},
    )
    transformers.SiglipModel(config).save_pretrained(folder)
    images = SiglipImageProcessorPil(size={"height": 224, "width": 224}, resample=2)
    transformers.SiglipProcessor(images, _tokenizer()).save_pretrained(folder)


def siglip_as_onnx(torch_folder: Path, folder: Path) -> None:
    """The weights of a SigLIP that transformers has saved, in onnx-community's layout. Needs the package onnx."""

    class Tower(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, given: Any) -> tuple[Any, Any]:
            made = self.model(given)
            return made.last_hidden_state, made.pooler_output

    model = transformers.SiglipModel.from_pretrained(torch_folder).eval()
    (folder / "onnx").mkdir(parents=True)
    towers = {
        "vision_model": (model.vision_model, "pixel_values", torch.zeros(2, 3, SIDE, SIDE)),
        "text_model": (model.text_model, "input_ids", torch.zeros(2, 64, dtype=torch.int64)),
    }
    for name, (tower, given, example) in towers.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # this exporter is the old one: the new one takes ten times as long
            torch.onnx.export(
                Tower(tower).eval(),
                (example,),
                str(folder / "onnx" / f"{name}.onnx"),
                input_names=[given],
                output_names=["last_hidden_state", "pooler_output"],
                dynamic_axes={each: {0: "batch"} for each in (given, "last_hidden_state", "pooler_output")},
                dynamo=False,
            )
    model.config.save_pretrained(folder)
    SiglipImageProcessorPil(size=_SIZE, resample=2).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)


MODELS = {"siglip": siglip, "siglip2": siglip2, "clip": clip, "modules": clip_with_modules}


def _save(folder: Path, kind: Any, config: Any) -> None:
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # transformers begins near zero, where all is alike
            parameter.copy_(torch.randn(parameter.shape) * 0.15)
    model.save_pretrained(folder)


def _tokenizer(special: Sequence[str] = (), **more: Any) -> Any:
    made = tiny_models.tokenizer()
    made.add_special_tokens(list(special))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="</s>", pad_token="<pad>", bos_token="<bos>", **more
    )


def edit(path: Path, **changes: Any) -> None:
    """Change a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")
