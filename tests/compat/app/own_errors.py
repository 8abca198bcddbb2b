"""Calls that fail at Tarry itself: `own_errors.py BASE-URL` prints, as JSON, what each SDK makes of them."""

import json
import sys

import anthropic
import openai
from google import genai

ASKED = [{"role": "user", "content": "Why?"}]


def failure(call):
    try:
        call()
    except Exception as error:
        return {"by": type(error).__name__, "status": getattr(error, "status_code", None) or getattr(error, "code", None),
                "code": str(getattr(error, "code", None)), "type": getattr(error, "type", None),
                "message": str(getattr(error, "message", None)), "id": getattr(error, "request_id", None)}
    return {}


def main(base):
    asked = openai.OpenAI(base_url=f"{base}/openai/v1", api_key="-").chat.completions
    told = anthropic.Anthropic(base_url=f"{base}/anthropic", api_key="-").messages
    google = genai.Client(api_key="-", http_options={"base_url": f"{base}/gemini"})
    calls = {
        "openai": lambda: asked.create(model="m", messages=ASKED),
        "openai, streamed": lambda: list(asked.create(model="m", messages=ASKED, stream=True)),
        "openai, in a stream": lambda: list(asked.create(model="slow", messages=ASKED, stream=True)),
        "anthropic": lambda: told.create(model="m", max_tokens=9, messages=ASKED),
        "anthropic, streamed": lambda: list(told.create(model="m", max_tokens=9, messages=ASKED, stream=True)),
        "anthropic, in a stream": lambda: list(told.create(model="slow", max_tokens=9, messages=ASKED, stream=True)),
        "google-genai": lambda: google.models.generate_content(model="m", contents="Why?"),
    }
    print(json.dumps({name: failure(call) for name, call in calls.items()}))


main(sys.argv[1])
