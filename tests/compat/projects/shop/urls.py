from django.conf import settings
from django.contrib import admin
from django.http import HttpResponse
from django.urls import include, path, re_path
from django.views.static import serve
from wagtail.admin import urls as wagtail_admin_urls

urlpatterns = [
    path("ok", lambda request: HttpResponse("ok")),
    path("admin/", admin.site.urls),
    path("cms/", include(wagtail_admin_urls)),
    path("ai-assistant/", include("django_ai_assistant.urls")),
    path("explorer/", include("explorer.urls")),
    path("rosetta/", include("rosetta.urls")),
    re_path(r"^media/(?P<path>.*)$", serve, {"document_root": settings.MEDIA_ROOT}),
]
