"""The model, asked by OpenAI's SDK where it is installed and by requests where it is not. Nothing in here knows of Tarry."""
from django.conf import settings
from rest_framework.exceptions import APIException

try:
    import openai
except ImportError:
    openai = None
    import requests


class ModelFailed(APIException):
    """The model gave no answer; the client learns what it said, and when to try again."""

    def __init__(self, status, wait=None):
        super().__init__(f"The model's service answered {status}." if status else "The model's service cannot be reached.")
        self.status_code = status if status in (429, 503, 504) else 502
        self.wait = float(wait) if (wait or "").isdigit() else None  # DRF makes a Retry-After of it


def system(text):
    return {"role": "system", "content": text}


def user(text):
    return {"role": "user", "content": text}


if openai:
    # Made once, when the module is loaded: each new client reads all CA certificates again.
    client = openai.OpenAI(base_url=settings.MODEL_ORIGIN + "/v1", api_key=settings.OPENAI_API_KEY)

    def complete(*messages):
        """What the model answers."""
        try:
            done = client.chat.completions.create(model=settings.MODEL, messages=list(messages))
        except openai.APIStatusError as e:
            raise ModelFailed(e.status_code, e.response.headers.get("retry-after"))
        except openai.APIConnectionError:
            raise ModelFailed(None)
        return done.choices[0].message.content

    def stream(messages):
        """The call whose answer is a stream of events."""
        return client.chat.completions.create(
            model=settings.MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
        )

else:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {settings.OPENAI_API_KEY}"

    def create(messages, **options):
        body = {"model": settings.MODEL, "messages": list(messages), **options}
        return session.post(settings.MODEL_ORIGIN + "/v1/chat/completions", json=body, timeout=120)

    def complete(*messages):
        try:
            response = create(messages)
            response.raise_for_status()
        except requests.HTTPError as e:
            raise ModelFailed(e.response.status_code, e.response.headers.get("retry-after"))
        except requests.RequestException:
            raise ModelFailed(None)
        return response.json()["choices"][0]["message"]["content"]

    def stream(messages):
        return create(messages, stream=True, stream_options={"include_usage": True})
