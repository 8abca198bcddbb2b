"""The views. `ask`, `agent` and `compare` are ordinary sync views: behind Tarry no worker waits for the model in them, and
without it they work as they always did. `chat` gives its response away: the model's stream goes to the browser."""
import tarry
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from rest_framework.decorators import api_view
from rest_framework.response import Response

from . import llm, tools
from .llm import system, user
from .models import Answer, Conversation, Message
from .serializers import AnswerSerializer, MessageSerializer, QuestionSerializer, SaySerializer


def valid(serializer_class, request):
    serializer = serializer_class(data=request.data)
    serializer.is_valid(raise_exception=True)
    return serializer.validated_data


# 1. Unmodified. The view is left at the call, and run again with the answer: what it does after the call is done once.
@api_view(["POST"])
def ask(request):
    question = valid(QuestionSerializer, request)["question"]
    text = llm.complete(user(question))
    answer = Answer.objects.create(question=question, text=text)
    return Response(AnswerSerializer(answer).data)


# 2. An agent: five calls in sequence, a tool between each two. The view is run six times.
@api_view(["POST"])
def agent(request):
    question = valid(QuestionSerializer, request)["question"]
    plan = llm.complete(system("Name what one must know to answer the question."), user(question))
    # Others store answers meanwhile. With once() each run sees what the first one found, and so asks the model the same.
    known = tarry.once(tools.look_up, question)
    draft = llm.complete(system("Draft an answer."), user(f"{question}\n\nPlan: {plan}\n\nKnown: {known}"))
    length = tools.measure(draft)
    critique = llm.complete(system("Say what is wrong or missing."), user(f"{question}\n\nDraft, {length}: {draft}"))
    more = tarry.once(tools.look_up, critique)
    text = llm.complete(system("Write the final answer."), user(f"{question}\n\nDraft: {draft}\n\n{critique}\n\nKnown: {more}"))
    length = tools.measure(text)
    title = llm.complete(system("Give the answer a title."), user(f"{question}\n\nAnswer, {length}: {text}"))
    answer = Answer.objects.create(question=question, text=text, title=title)
    steps = {"plan": plan, "draft": draft, "critique": critique, "answer": text, "title": title}
    return Response({"id": answer.pk, "steps": steps})


# 3. Side by side: gather() sends both calls in one handoff, so this takes as long as the slower one.
@api_view(["POST"])
def compare(request):
    question = valid(QuestionSerializer, request)["question"]
    short, thorough = tarry.gather(
        lambda: llm.complete(system("Answer in one sentence."), user(question)),
        lambda: llm.complete(system("Answer thoroughly, with an example."), user(question)),
    )
    return Response({"short": short, "thorough": thorough})


# 4. A chat: the stream goes to the browser as the model writes. The worker is done before the first word, and hears of the
# whole reply when it has ended.
@api_view(["POST"])
def chat(request):
    said = valid(SaySerializer, request)
    conversation, _ = Conversation.objects.get_or_create(pk=said["conversation"])
    asked = conversation.messages.create(role="user", text=said["text"])
    history = [{"role": m.role, "content": m.text} for m in conversation.messages.exclude(text="")]
    # The row of the reply is there from the start: to save it twice, should a worker die meanwhile, does no harm.
    reply = conversation.messages.create(role="assistant", whole=False)
    with tarry.capture() as call:
        llm.stream(history)
    return tarry.relay(
        call,
        notify="chat-saved",
        on_error="chat-failed",
        keep_alive="sse",
        on_disconnect="cancel",  # the page's Stop: what was written so far is saved
        state={"asked": asked.pk, "reply": reply.pk},
    )


@tarry.continuation
def chat_saved(request):
    """The reply has ended, or was stopped, or broke off."""
    try:
        done = tarry.completed(request.tarry)
    except ValueError:  # it failed before it began
        return HttpResponse(status=204)
    Message.objects.filter(pk=request.tarry.state["reply"]).update(
        text=done.text, whole=done.whole, tokens=done.usage.get("completion_tokens")
    )
    return HttpResponse(status=204)


@tarry.continuation
def chat_failed(request):
    """The model gave no stream: the browser gets this instead, and the message can be sent once more."""
    Message.objects.filter(pk__in=request.tarry.state.values()).delete()
    [failure] = request.tarry.answers
    response = JsonResponse({"detail": f"The model's service answered {failure.status}."}, status=502)
    if failure.header("retry-after"):
        response["Retry-After"] = failure.header("retry-after")
    return response


# 5. Plain views: nothing of them has to do with Tarry.
@api_view(["GET"])
def conversation(request, pk):
    found = get_object_or_404(Conversation, pk=pk)
    return Response(MessageSerializer(found.messages.exclude(text=""), many=True).data)


@api_view(["GET"])
def answers(request):
    return Response(AnswerSerializer(Answer.objects.order_by("-pk")[:10], many=True).data)
