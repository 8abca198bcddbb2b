"""A Flask app that has never heard of Tarry."""

import os

import requests
from flask import Flask, request

application = Flask(__name__)


@application.route("/ok", methods=["GET", "POST"])
def ok():
    return "ok"


@application.route("/ask")
def ask():
    return requests.post(os.environ["MODEL_ORIGIN"] + "/v1/ask", data=request.args["q"], timeout=120).text
