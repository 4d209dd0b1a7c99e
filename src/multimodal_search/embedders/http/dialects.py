"""What the services are asked, and how they answer: five dialects of one request.

Limits and fields are those of the vendors' pages, which each class names.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias

from multimodal_search.contents import Content, Image, Mixed, Modality, Text
from multimodal_search.embedders.http.images import data_uri
from multimodal_search.embedders.service.contents import file_of, parts_of
from multimodal_search.errors import EmbedderResponseError, UnsupportedContentError
from multimodal_search.types import Role

DialectName: TypeAlias = Literal["cohere", "openai-chat", "infinity", "jina", "voyage"]

_ALL: frozenset[Modality] = frozenset({"text", "image", "mixed"})
_EITHER: frozenset[Modality] = frozenset({"text", "image"})


class Dialect(ABC):
    """How one kind of service is spoken to.

    Attributes:
        path: Of the endpoint, below the address of the API.
        models_path: Where the service says which models it has; None if it does not.
        names_capabilities: Whether it says there what they can do.
        vendor: The address of the vendor's own API; empty where everybody runs their own.
        key_variables: The environment variables that may hold a key for the vendor's API, or for one's own server.
        prompts: What the vendor calls the roles.
        modalities: What can be sent; the model may do less.
        max_contents: Most contents in a request.
        max_bytes: Most bytes of the contents in a request.
        batch_size: How many contents a call has, unless the user says otherwise.
        concurrency: The same for requests in flight.
        image_size: The same for the longer side of an image, in pixels.
    """

    path: ClassVar[str]
    models_path: ClassVar[str | None] = None
    names_capabilities: ClassVar[bool] = False
    vendor: ClassVar[str] = ""
    key_variables: ClassVar[tuple[str, ...]] = ()
    prompts: ClassVar[Mapping[Role, str]] = MappingProxyType({})
    modalities: ClassVar[frozenset[Modality]] = _ALL
    max_contents: ClassVar[int]
    max_bytes: ClassVar[float] = math.inf
    batch_size: ClassVar[int] = 16
    concurrency: ClassVar[int] = 32
    image_size: ClassVar[int] = 1024

    @abstractmethod
    def body(self, contents: Sequence[Content], *, model: str, prompt: str, dimensions: int | None) -> dict[str, Any]:
        """The JSON of a request."""

    def rows(self, answer: Any, *, count: int) -> list[object]:
        """The vectors of an answer, in the order of the contents; unchecked."""
        return in_order(answer["data"], count=count)

    def check(self, content: Content) -> None:  # noqa: B027 (most dialects refuse nothing)
        """Refuse a content that the dialect has no words for.

        Raises:
            UnsupportedContentError: It is one.
        """

    def requests(self, contents: Sequence[Content]) -> list[Sequence[int]]:
        """The numbers of the contents that may stand in one request, for each request."""
        return [
            range(at, min(at + self.max_contents, len(contents))) for at in range(0, len(contents), self.max_contents)
        ]


class Cohere(Dialect):
    """Cohere's Embed API, version 2, which vLLM speaks as well.

    https://docs.cohere.com/reference/embed, https://docs.vllm.ai/en/latest/serving/openai_compatible_server/
    """

    path = "/v2/embed"
    models_path = "/v1/models"  # vLLM's
    vendor = "https://api.cohere.com"
    key_variables = ("COHERE_API_KEY", "CO_API_KEY")
    prompts = MappingProxyType({"document": "search_document", "query": "search_query"})
    max_contents = 96
    max_bytes = 19e6  # of 20 MB, with the JSON around them

    def body(self, contents: Sequence[Content], *, model: str, prompt: str, dimensions: int | None) -> dict[str, Any]:
        """The JSON of a request."""
        optional = {"input_type": prompt or None, "output_dimension": dimensions}
        return {
            "model": model,
            "inputs": [{"content": _content(each)} for each in contents],
            "embedding_types": ["float"],
            **{name: value for name, value in optional.items() if value is not None},
        }

    def rows(self, answer: Any, *, count: int) -> list[object]:
        """The vectors of an answer, which are in the order of the contents."""
        return list(answer["embeddings"]["float"])


class OpenAIChat(Dialect):
    """OpenAI's embeddings with the messages of a chat instead of a text, as vLLM embeds images.

    https://docs.vllm.ai/en/latest/models/pooling_models/ (Embeddings API, chat-like inputs)
    """

    path = "/v1/embeddings"
    models_path = "/v1/models"
    key_variables = ("VLLM_API_KEY",)
    max_contents = 1
    batch_size = 1

    def body(self, contents: Sequence[Content], *, model: str, prompt: str, dimensions: int | None) -> dict[str, Any]:
        """The JSON of a request; the prompt is what the system says."""
        said = [("system", [{"type": "text", "text": prompt}])] if prompt else []
        messages = [*said, ("user", _content(contents[0]))]
        return {
            "model": model,
            "messages": [{"role": role, "content": content} for role, content in messages],
            "encoding_format": "float",
            **({} if dimensions is None else {"dimensions": dimensions}),
        }


class Infinity(Dialect):
    """The server infinity (https://github.com/michaelfeil/infinity), version 0.0.78."""

    path = "/embeddings"
    models_path = "/models"
    names_capabilities = True
    key_variables = ("INFINITY_API_KEY",)
    modalities = _EITHER
    max_contents = 2048
    batch_size = 32
    concurrency = 4  # it fills a GPU from its own queue
    image_size = 768  # its models see the middle square, at 224 to 384 pixels
    _MAX_IMAGES = 32

    def body(self, contents: Sequence[Content], *, model: str, prompt: str, dimensions: int | None) -> dict[str, Any]:
        """The JSON of a request, of texts or of images."""
        # Without `modality`, a text and an image look alike.
        is_text = isinstance(contents[0], Text)
        return {
            "model": model,
            "input": [each.text if isinstance(each, Text) else _uri(each) for each in contents],
            "modality": "text" if is_text else "image",
            **({} if dimensions is None else {"dimensions": dimensions}),
        }

    def requests(self, contents: Sequence[Content]) -> list[Sequence[int]]:
        """Texts and images apart, and no more than 32 images together."""
        texts = [number for number, each in enumerate(contents) if isinstance(each, Text)]
        images = [number for number, each in enumerate(contents) if not isinstance(each, Text)]
        parts = [(texts, self.max_contents), (images, self._MAX_IMAGES)]
        return [kind[at : at + limit] for kind, limit in parts for at in range(0, len(kind), limit)]


class Jina(Dialect):
    """Jina's embeddings, whose dialect SGLang's is like.

    https://api.jina.ai/redoc#tag/embeddings
    """

    path = "/v1/embeddings"
    vendor = "https://api.jina.ai"
    key_variables = ("JINA_API_KEY",)
    prompts = MappingProxyType({"document": "retrieval.passage", "query": "retrieval.query"})
    modalities = _EITHER
    max_contents = 512
    image_size = 512

    def body(self, contents: Sequence[Content], *, model: str, prompt: str, dimensions: int | None) -> dict[str, Any]:
        """The JSON of a request."""
        optional = {"task": prompt or None, "dimensions": dimensions}
        return {
            "model": model,
            "input": [self._input(each) for each in contents],
            "embedding_type": "float",
            **{name: value for name, value in optional.items() if value is not None},
        }

    def check(self, content: Content) -> None:
        """Refuse a mixture of several texts or images.

        Raises:
            UnsupportedContentError: It is one.
        """
        kinds = [type(part) is Text for part in parts_of(content)]
        if kinds.count(True) > 1 or kinds.count(False) > 1:
            raise UnsupportedContentError("Jina's API takes one text and one image together: leave out the others")

    def _input(self, content: Content) -> dict[str, str]:
        if isinstance(content, Mixed):
            return {name: value for part in content.parts for name, value in self._input(part).items()}
        if isinstance(content, Text):
            return {"text": content.text}
        return {"image": _uri(content).partition(",")[2]}


class Voyage(Dialect):
    """Voyage AI's multimodal embeddings.

    https://docs.voyageai.com/reference/multimodal-embeddings-api
    """

    path = "/v1/multimodalembeddings"
    vendor = "https://api.voyageai.com"
    key_variables = ("VOYAGE_API_KEY",)
    prompts = MappingProxyType({"document": "document", "query": "query"})
    max_contents = 1000

    def body(self, contents: Sequence[Content], *, model: str, prompt: str, dimensions: int | None) -> dict[str, Any]:
        """The JSON of a request."""
        optional = {"input_type": prompt or None, "output_dimension": dimensions}
        return {
            "model": model,
            "inputs": [{"content": [self._part(part) for part in parts_of(each)]} for each in contents],
            **{name: value for name, value in optional.items() if value is not None},
        }

    def _part(self, part: Content) -> dict[str, str]:
        if isinstance(part, Text):
            return {"type": "text", "text": part.text}
        return {"type": "image_base64", "image_base64": _uri(part)}


DIALECTS: Mapping[DialectName, Dialect] = MappingProxyType(
    {"cohere": Cohere(), "openai-chat": OpenAIChat(), "infinity": Infinity(), "jina": Jina(), "voyage": Voyage()}
)


def in_order(data: Any, *, count: int) -> list[object]:
    """The vectors of OpenAI's list of embeddings, by their `index`.

    Raises:
        EmbedderResponseError: There are as many as there should be, but not one for each index.
    """
    if len(data) == count:  # else whoever counts them says so
        numbers = [each["index"] for each in data]
        if sorted(numbers) != list(range(count)):
            raise EmbedderResponseError(
                f"the service numbers its {count} vectors {str(numbers)[:60]} instead of 0 to {count - 1}: it has a "
                "fault, tell its operator"
            )
        data = sorted(data, key=lambda each: each["index"])
    return [each["embedding"] for each in data]


def _content(content: Content) -> list[dict[str, Any]]:
    """The parts of a content, as OpenAI and Cohere write them."""
    return [
        {"type": "text", "text": part.text}
        if isinstance(part, Text)
        else {"type": "image_url", "image_url": {"url": _uri(part)}}
        for part in parts_of(content)
    ]


def _uri(content: Content) -> str:
    assert isinstance(content, Image)  # noqa: S101 (the callers have looked)
    return data_uri(file_of(content))
