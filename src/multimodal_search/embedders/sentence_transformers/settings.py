"""What `SentenceTransformersEmbedder` is made with, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multimodal_search._bounds import check_flags, is_whole
from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchSettings:
    """How a model runs, and how contents are given to it; the arguments of `SentenceTransformersEmbedder`.

    Raises:
        ConfigurationError: One makes no sense.
    """

    device: str | None = None
    dtype: str | None = None
    dimensions: int | None = None
    prompts: Mapping[str, str]
    query_prompt: str | None = None
    document_prompt: str | None = None
    image_prompt: str | None = None
    trust_remote_code: bool = False
    local_files_only: bool = False
    max_tokens: int | None = None
    max_batch_size: int = 32
    threads: int | None = None

    def __post_init__(self) -> None:
        check_flags(trust_remote_code=self.trust_remote_code, local_files_only=self.local_files_only)
        for name in ("dimensions", "max_tokens", "max_batch_size", "threads"):
            value = getattr(self, name)
            if not (value is None and name != "max_batch_size") and not is_whole(value, least=1):
                raise ConfigurationError(f"{name} is a whole number, 1 or more, not {brief(value)}")
        if self.dtype not in (None, *DTYPES):
            raise ConfigurationError(f"dtype is one of {', '.join(DTYPES)}, not {brief(self.dtype)}")
        if self.device is not None and (not isinstance(self.device, str) or not self.device.strip()):
            raise ConfigurationError(f"device is a name such as 'cpu', 'cuda' or 'cuda:1', not {brief(self.device)}")
        for name in ("query_prompt", "document_prompt", "image_prompt"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ConfigurationError(f"{name} is a text, or the name of one of the prompts, not {brief(value)}")
        if not isinstance(self.prompts, Mapping) or not all(
            isinstance(each, str) for pair in self.prompts.items() for each in pair
        ):
            raise ConfigurationError(f"prompts maps names to texts; it is not {brief(self.prompts)}")

    def prompt_of(self, role: str) -> str | None:
        """The prompt that was chosen for a role."""
        return self.query_prompt if role == "query" else self.document_prompt

    def identity(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Those that change vectors."""
        return {
            "dtype": self.dtype_of(config),
            "dimensions": self.dimensions,
            "prompts": dict(self.prompts),
            "query_prompt": self.query_prompt,
            "document_prompt": self.document_prompt,
            "image_prompt": self.image_prompt,
            "max_tokens": self.max_tokens,
        }

    def dtype_of(self, config: Mapping[str, Any]) -> str:
        """Of the weights: as asked for, else as the model's configuration says, on every device.

        Raises:
            ConfigurationError: The model does not work in it.
        """
        inner = config.get("text_config") or {}
        told = next(
            (each for part in (config, inner) for name in ("dtype", "torch_dtype") if (each := part.get(name))), ""
        )
        dtype = self.dtype or (told if told in DTYPES else "float32")
        kinds = {str(config.get("model_type", "")), str(inner.get("model_type", ""))}
        if dtype == "float16" and any(kind.startswith(("gemma3", "embedding_gemma")) for kind in kinds):
            if self.dtype is None:
                return "float32"
            raise ConfigurationError(
                "in float16, numbers within EmbeddingGemma overflow, and its vectors are NaN: use dtype='bfloat16' or "
                "'float32'"
            )
        return dtype
