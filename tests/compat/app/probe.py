"""An app that does nothing, to find out what its server lets through. As Django's settings it names itself."""

SECRET_KEY = "for a probe"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "probe"
WSGI_APPLICATION = "probe.application"
urlpatterns = []


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
