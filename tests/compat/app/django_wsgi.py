import os

import tarry

tarry.patch_all()

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_settings")

from django.core.wsgi import get_wsgi_application  # noqa: E402

import answers  # noqa: E402

application = tarry.wsgi(get_wsgi_application())
answers.load_all()
