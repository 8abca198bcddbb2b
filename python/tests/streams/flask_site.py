"""A Flask app that streams what a model says."""

import os

import openai
from flask import Flask, Response, stream_with_context

application = Flask(__name__)
gpt = openai.OpenAI(api_key="k", base_url=f"{os.environ['MODEL_ORIGIN']}/v1", max_retries=0)


def tokens(name):
    for event in gpt.chat.completions.create(model="m", messages=[{"role": "user", "content": name}], stream=True):
        if event.choices and event.choices[0].delta.content:
            yield event.choices[0].delta.content


@application.get("/plain/<name>")
def plain(name):
    return Response((f"data: {token}\n\n" for token in tokens(name)), mimetype="text/event-stream")


@application.get("/context/<name>")
def context(name):
    """The request is there while the response is made."""
    from flask import request

    return Response(stream_with_context(f"data: {token} {request.path}\n\n" for token in tokens(name)), mimetype="text/event-stream")


@application.get("/ok")
def ok():
    return "ok"
