"""Each view twice: as a function of Django's, and as one of REST framework's."""

from django.http import HttpResponse, JsonResponse
from django.urls import path
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.views import APIView

import answers
import tarry


def patched(request):
    return JsonResponse(answers.patched(request.GET))


def held(request):
    return JsonResponse(answers.held(request.GET))


def relayed(request):
    return answers.relayed(request.GET)


def resumed(request):
    return answers.resumed(request.GET)


@tarry.continuation
def finished(request):
    return JsonResponse(answers.finished(request.tarry))


@tarry.continuation
def noted(request):
    return JsonResponse(answers.noted(request.tarry))


class Patched(APIView):
    def get(self, request):
        return Response(answers.patched(request.query_params))


class Relayed(APIView):
    def get(self, request):
        return answers.relayed(request.query_params)


@api_view(["GET"])
def rest_resumed(request):
    return answers.resumed(request.query_params)


urlpatterns = [
    path("django/patched", patched),
    path("held", held),
    path("django/relay", relayed),
    path("django/resume", resumed),
    path("drf/patched", Patched.as_view()),
    path("drf/relay", Relayed.as_view()),
    path("drf/resume", rest_resumed),
    path("finished", finished),
    path("noted", noted),
    path("ready", lambda request: HttpResponse("ready")),
]
