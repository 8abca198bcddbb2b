"""The app of examples/chat between a server, the provider stand-in and Tarry."""

import json
import os
import pathlib
import sqlite3
import subprocess
import sys

from .apps import Granian
from .tarry import REPO

APP = REPO / "examples/chat"
SECRET = "worker-secret"


class Example:
    """`server` is gunicorn with sync workers, or "granian"; `origin` is the model, by default a provider stand-in over
    TLS that gets `provider` as arguments. `python` decides which libraries the app finds."""

    def __init__(self, bed, server="gunicorn", workers=1, python=sys.executable, provider=(), origin=None, pool=None, up=None,
                 listen=None):
        self.folder = pathlib.Path(bed.folder)
        self.provider = None
        options = {"set_header": ["Authorization: Bearer test-key"], "retry_first_pause": "20ms"}
        env = {"DJANGO_ALLOWED_HOSTS": "*", "TARRY_SECRET": SECRET, "PYTHONPATH": f"{REPO / 'python'}:{APP}",
               "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "HOME": str(self.folder),
               "DATABASE_PATH": str(self.folder / "chat.sqlite3")}
        if origin is None:
            self.provider = bed.provider(args=["--tokens", "20", "--quiet", *provider])
            origin = f"https://{self.provider.https}"
            options["ca_file"] = self.provider.ca
            env.update(SSL_CERT_FILE=self.provider.ca, REQUESTS_CA_BUNDLE=self.provider.ca)
        env["MODEL_ORIGIN"] = origin
        subprocess.run([python, "manage.py", "migrate", "-v", "0"], cwd=APP, env=dict(os.environ, **env), check=True)
        if server == "granian":
            self.server = bed.add(Granian("project.wsgi:application", APP, python, env))
        else:
            self.server = bed.gunicorn("project.wsgi:application", workers=workers, bind=f"unix:{self.folder}/app.sock",
                                       env=env, python=python)
        (self.folder / "secret").write_text(SECRET + "\n")
        conf = bed.conf(self.server, slots=workers)
        conf.log["level"] = "info"
        conf.pool.update({"secret_file": str(self.folder / "secret"), "queue_timeout": "60s"}, **(pool or {}))
        conf.listens[conf.address].update(listen or {})
        conf.upstreams["model"] = dict({"origin": origin}, **options, **(up or {}))
        conf.routes.append(("/internal/", {"workers": "app", "internal": True}))
        self.tarry = bed.tarry(conf)

    def post(self, path, body, **headers):
        return self.tarry.post(path, json.dumps(body), dict({"Content-Type": "application/json"}, **headers))

    def rows(self, query):
        with sqlite3.connect(self.folder / "chat.sqlite3", timeout=20) as db:
            return db.execute(query).fetchall()
