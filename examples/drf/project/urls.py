from django.urls import path
from django.views.generic import TemplateView

from chat import views

urlpatterns = [
    path("", TemplateView.as_view(template_name="chat/index.html")),
    path("api/chat/", views.Chat.as_view()),
    path("api/ask/", views.Ask.as_view()),
    path("api/compare/", views.Compare.as_view()),
    path("api/waiting/", views.Waiting.as_view()),
    path("api/answers/", views.Answers.as_view()),
    # Only resumes come here: Tarry's conf marks /internal/ as internal, and the views check it once more.
    path("internal/asked/", views.Asked.as_view()),
    path("internal/compared/", views.Compared.as_view()),
]
