import os

import tarry

tarry.patch_all()  # before the app is imported: the libraries that it calls models with are caught as they are loaded

from django.core.wsgi import get_wsgi_application  # noqa: E402

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
application = tarry.wsgi(get_wsgi_application())
