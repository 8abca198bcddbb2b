import os

SECRET_KEY = "tests"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "project.urls"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "tarry.django",
    "project",
]
MIDDLEWARE = [
    "project.views.OuterMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "tarry.django.Middleware",
]
# A file, not memory: what is committed is committed, for other threads and processes too.
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["TARRY_TEST_DATABASE"], "OPTIONS": {"timeout": 20}}
}
DATABASES["default"]["ATOMIC_REQUESTS"] = os.environ.get("ATOMIC_REQUESTS") == "1"
if os.environ["TARRY_TEST_DATABASE"].startswith("postgresql:"):
    name, port, user = os.environ["TARRY_TEST_DATABASE"].split(":")[1:]
    DATABASES["default"].update(
        ENGINE="django.db.backends.postgresql", NAME=name, HOST="127.0.0.1", PORT=port, USER=user, OPTIONS={}
    )
    DATABASES["default"]["CONN_MAX_AGE"] = int(os.environ.get("CONN_MAX_AGE", "0"))
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if "TARRY_TEST_CACHE" in os.environ:
    CACHES["default"] = {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": os.environ["TARRY_TEST_CACHE"],
    }
    CACHES["database"] = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "shared_cache"}
if "TARRY_ONCE_STORE" in os.environ:
    TARRY_ONCE_STORE = os.environ["TARRY_ONCE_STORE"]
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
if os.environ.get("SITE_CACHE") == "1":
    MIDDLEWARE = ["django.middleware.cache.UpdateCacheMiddleware", *MIDDLEWARE[:-1]]
    MIDDLEWARE += ["django.middleware.cache.FetchFromCacheMiddleware", "tarry.django.Middleware"]
if "LEDGER" in os.environ:
    MIDDLEWARE = ["project.paid.KillingMiddleware", *MIDDLEWARE]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [os.path.join(os.path.dirname(__file__), "templates")],
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = True
