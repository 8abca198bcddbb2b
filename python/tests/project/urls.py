from django.urls import path

from . import agent, paid, rows, views

urlpatterns = [
    path("view/", views.view, name="view"),
    path("agent/", agent.view),
    path("agent/unread/", agent.unread_answer, name="unread-answer"),
    path("paid/", paid.agent),
    path("agent/finish/", agent.finish, name="finish"),
    *[path(f"rows/{name}/", view) for name, view in rows.VIEWS.items()],
]
