"""For the end-to-end tests: what a project's wsgi.py looks like. The views are in agent.py and sdk.py."""

import os

import tarry

tarry.patch_all()

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

from django.core.wsgi import get_wsgi_application  # noqa: E402

application = tarry.wsgi(get_wsgi_application())

if os.environ.get("MAKE_TABLES") == "1":
    from project.models import make_tables

    make_tables()
