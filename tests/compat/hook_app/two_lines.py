"""A project that has Tarry's two lines in its wsgi.py, for other servers."""

import tarry

tarry.patch_all()

from plain_django import application as django  # noqa: E402

application = tarry.wsgi(django)
