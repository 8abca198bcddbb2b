"""Where calls may go without a conf: the well-known services, and what the environment names beside them."""

from __future__ import annotations

import os
import re
import urllib.parse
from typing import Mapping, NamedTuple

WELL_KNOWN = {
    "openai": "https://api.openai.com",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "vertex": "https://aiplatform.googleapis.com",
    "mistral": "https://api.mistral.ai",
    "codestral": "https://codestral.mistral.ai",
    "groq": "https://api.groq.com",
    "openrouter": "https://openrouter.ai",
    "deepseek": "https://api.deepseek.com",
    "cohere": "https://api.cohere.com",
    "cohere-ai": "https://api.cohere.ai",
    "together": "https://api.together.xyz",
    "together-ai": "https://api.together.ai",
    "fireworks": "https://api.fireworks.ai",
    "perplexity": "https://api.perplexity.ai",
    "xai": "https://api.x.ai",
    "cerebras": "https://api.cerebras.ai",
    "sambanova": "https://api.sambanova.ai",
    "nvidia": "https://integrate.api.nvidia.com",
    "deepinfra": "https://api.deepinfra.com",
    "huggingface": "https://router.huggingface.co",
    "replicate": "https://api.replicate.com",
    "fal": "https://fal.run",
    "fal-queue": "https://queue.fal.run",
    "ai21": "https://api.ai21.com",
    "voyage": "https://api.voyageai.com",
    "jina": "https://api.jina.ai",
    "elevenlabs": "https://api.elevenlabs.io",
    "deepgram": "https://api.deepgram.com",
    "assemblyai": "https://api.assemblyai.com",
    "stability": "https://api.stability.ai",
    "github-models": "https://models.github.ai",
    "moonshot": "https://api.moonshot.ai",
    "dashscope": "https://dashscope-intl.aliyuncs.com",
    "zai": "https://api.z.ai",
}

# Variables in which the libraries themselves look for another address.
NAMED_BY = (
    "OPENAI_BASE_URL",
    "OPENAI_API_BASE",
    "AZURE_OPENAI_ENDPOINT",
    "AZURE_INFERENCE_ENDPOINT",
    "ANTHROPIC_BASE_URL",
    "GOOGLE_GEMINI_BASE_URL",
    "MISTRAL_BASE_URL",
    "GROQ_BASE_URL",
    "COHERE_BASE_URL",
    "CO_API_URL",
    "OPENROUTER_BASE_URL",
    "DEEPSEEK_BASE_URL",
    "LITELLM_PROXY_API_BASE",
    "OLLAMA_HOST",
)
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


class Origin(NamedTuple):
    name: str  # of the upstream section
    origin: str
    source: str  # what names it, for people


class BadOrigin(ValueError):
    """Something in TARRY_ORIGINS that no call could go to."""


def all_origins(environ: Mapping[str, str] = os.environ) -> list[Origin]:
    """Each origin once. Raises BadOrigin for a mistake in TARRY_ORIGINS; what others' variables hold is passed over if it is no
    address."""
    found = [Origin(name, origin, "built in") for name, origin in WELL_KNOWN.items()]
    known = {origin.origin for origin in found}

    def add(name: str, origin: str, source: str) -> None:
        if origin not in known:
            known.add(origin)
            found.append(Origin(name, origin, source))

    for i, text in enumerate(re.split(r"[\s,]+", environ.get("TARRY_ORIGINS", "").strip())):
        if text:
            add(f"own-{i + 1}", own(text), "TARRY_ORIGINS")
    for variable in NAMED_BY:
        named = origin_of(environ.get(variable, ""))
        if named:
            add(variable.lower().replace("_", "-"), named, variable)
    for variable in REGIONS:
        region = environ.get(variable, "")
        if re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", region):
            add(f"bedrock-{region}", f"https://bedrock-runtime.{region}.amazonaws.com", variable)
    return found


def own(text: str) -> str:
    """One word of TARRY_ORIGINS: an origin, or a URL whose path does not matter."""
    origin = origin_of(text)
    if origin is None:
        raise BadOrigin(f"TARRY_ORIGINS: {text!r} is no origin; write them like https://api.example.com, with commas between")
    return origin


def origin_of(url: str) -> "str | None":
    """scheme://host[:port] of a URL, without a port that goes without saying; None if there is none."""
    try:
        parts = urllib.parse.urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[a-z0-9.:_-]+", host):
        return None
    if ":" in host:
        host = f"[{host}]"
    if port is None or port == {"http": 80, "https": 443}[parts.scheme]:
        return f"{parts.scheme}://{host}"
    return f"{parts.scheme}://{host}:{port}"
