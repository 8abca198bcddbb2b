import os

import tarry

tarry.patch_all(secret=os.environ["TARRY_SECRET"], resume=os.environ["APP_RESUME"])

from flask import Flask, request  # noqa: E402

import answers  # noqa: E402

application = app = Flask(__name__)
app.wsgi_app = tarry.wsgi(app.wsgi_app)
answers.load_all()


@app.get("/flask/patched")
def patched():
    return answers.patched(request.args)


@app.get("/held")
def held():
    return answers.held(request.args)


@app.get("/flask/relay")
def relayed():
    return answers.relayed(request.args)


@app.get("/flask/resume")
def resumed():
    return answers.resumed(request.args)


@app.post("/finished")
def finished():
    return answers.finished(tarry.resumed(request.environ))


@app.post("/noted")
def noted():
    return answers.noted(tarry.resumed(request.environ))


@app.errorhandler(tarry.TarryError)
def refused(error):
    return {"error": str(error)}, 403


@app.get("/ready")
def ready():
    return "ready"
