"""The views. Chat, Ask and Compare hand their model calls to Tarry and are done at once; Asked and Compared get the
answers. Waiting does what Ask does in the usual way: it waits in its worker."""
import json
import ssl
import time
import urllib.error
import urllib.request

from django.conf import settings
from django.http import Http404
from rest_framework.exceptions import APIException
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView

from . import handoff
from .models import Answer
from .serializers import AnswerSerializer, ConversationSerializer, QuestionSerializer

COMPLETIONS = settings.MODEL_ORIGIN + "/v1/chat/completions"


def prompt(*messages, **options):
    return {"model": settings.MODEL, "messages": list(messages), **options}


def user(text):
    return {"role": "user", "content": text}


def valid(serializer_class, request):
    serializer = serializer_class(data=request.data)
    serializer.is_valid(raise_exception=True)
    return serializer.validated_data


class NotFromTarry(APIException):
    """The request did not come the way that this view needs."""


class ModelFailed(APIException):
    """The model gave no answer; the client learns what it said, and when to try again."""

    def __init__(self, status, wait=None):
        super().__init__(f"The model's service answered {status}.")
        self.status_code = status if status in (429, 503, 504) else 502
        self.wait = wait  # DRF makes a Retry-After of it


class FromTarry(APIView):
    """A view that only requests from Tarry reach. DRF exempts its views from Django's CSRF check; for a resume
    that is right exactly because everything that is not one is refused here, before anything is read."""

    kind = "request"
    feature = "resume"

    def initial(self, request, *args, **kwargs):
        refused = handoff.problem(request, self.kind, self.feature)
        if refused:
            error = NotFromTarry(refused[1])
            error.status_code = refused[0]
            raise error
        super().initial(request, *args, **kwargs)


class RepliesParser(BaseParser):
    """Makes request.data of a resume the list of replies, in the order of the calls."""

    media_type = "application/http"

    def parse(self, stream, media_type=None, parser_context=None):
        return handoff.answers(stream.read())


class Resumed(FromTarry):
    kind = "resume"
    parser_classes = [RepliesParser]


class EventStream(BaseRenderer):
    """Lets a client ask for text/event-stream; what is not a stream, an error, becomes an event of it."""

    media_type = "text/event-stream"
    format = "event-stream"
    charset = None

    def render(self, data, media_type=None, renderer_context=None):
        return b"event: error\ndata: " + JSONRenderer().render(data) + b"\n\n"


def said(reply):
    """What the model said, from one reply of a chat completion."""
    if reply.status != 200:
        wait = reply.headers.get("retry-after", "")
        raise ModelFailed(reply.status, int(wait) if wait.isdigit() else None)
    try:
        return json.loads(reply.body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise ModelFailed(502)


def seconds(reply):
    """What the call took, retries included."""
    return float(reply.headers["tarry-time"])


# 1. The client gets the model's stream, as it comes.
class Chat(FromTarry):
    feature = "relay"
    renderer_classes = [JSONRenderer, EventStream]

    def post(self, request):
        messages = valid(ConversationSerializer, request)["messages"]
        return handoff.handoff("relay", handoff.call(COMPLETIONS, prompt(*messages, stream=True)))


# 2. The app gets the model's answer, stores it and answers the client.
class Ask(FromTarry):
    def post(self, request):
        question = valid(QuestionSerializer, request)["question"]
        # The row is there before the answer is: a resume that comes twice writes the same row twice.
        answer = Answer.objects.create(question=question)
        return handoff.handoff(
            "resume /internal/asked/",
            handoff.call(COMPLETIONS, prompt(user(question))),
            Tarry_State=f"answer={answer.pk}",
        )


class Asked(Resumed):
    def post(self, request):
        [reply] = request.data
        pk = int(request.headers["Tarry-State"].partition("=")[2])
        found = {"text": said(reply), "model": settings.MODEL, "seconds": seconds(reply)}
        if not Answer.objects.filter(pk=pk).update(**found):
            raise Http404
        return Response({"id": pk, **found})


# 3. Two calls side by side: this takes as long as the slower one.
class Compare(FromTarry):
    styles = {
        "short": "Answer in one sentence.",
        "thorough": "Answer thoroughly, with an example.",
    }

    def post(self, request):
        question = user(valid(QuestionSerializer, request)["question"])
        calls = [
            handoff.call(COMPLETIONS, prompt({"role": "system", "content": how}, question), name)
            for name, how in self.styles.items()
        ]
        return handoff.handoff("resume /internal/compared/", *calls)


class Compared(Resumed):
    def post(self, request):
        return Response(
            {
                reply.headers["tarry-call-id"]: {
                    "text": said(reply),
                    "seconds": seconds(reply),
                }
                for reply in request.data
            }
        )


# 4. A plain view: nothing of it has to do with Tarry.
class Answers(APIView):
    def get(self, request):
        latest = Answer.objects.exclude(text="").order_by("-pk")[:10]
        return Response(AnswerSerializer(latest, many=True).data)


# The same as Ask and Asked without Tarry: the worker does nothing else until the model has answered.
class Waiting(APIView):
    tls = ssl.create_default_context()

    def post(self, request):
        question = valid(QuestionSerializer, request)["question"]
        began = time.monotonic()
        reply = self.complete(prompt(user(question)))
        found = {
            "text": said(reply),
            "model": settings.MODEL,
            "seconds": round(time.monotonic() - began, 3),
        }
        answer = Answer.objects.create(question=question, **found)
        return Response({"id": answer.pk, **found})

    def complete(self, body):
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {settings.OPENAI_API_KEY}",
        }
        request = urllib.request.Request(COMPLETIONS, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=120, context=self.tls) as response:
                return handoff.Reply(response.status, {}, response.read())
        except urllib.error.HTTPError as error:
            with error:
                headers = {k.lower(): v for k, v in error.headers.items()}
                return handoff.Reply(error.code, headers, error.read())
        except OSError:
            raise ModelFailed(502)
