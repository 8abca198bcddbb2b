from django.urls import path
from django.views.generic import TemplateView

from chat import views

urlpatterns = [
    path("", TemplateView.as_view(template_name="chat/index.html")),
    path("api/ask/", views.ask),
    path("api/agent/", views.agent),
    path("api/compare/", views.compare),
    path("api/chat/", views.chat),
    path("api/conversations/<uuid:pk>/", views.conversation),
    path("api/answers/", views.answers),
    # Only Tarry comes here: its conf marks /internal/ as internal, and tarry.continuation refuses all else.
    path("internal/chat/saved/", views.chat_saved, name="chat-saved"),
    path("internal/chat/failed/", views.chat_failed, name="chat-failed"),
]
