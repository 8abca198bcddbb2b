from django.urls import path

from . import agent, views

urlpatterns = [
    path("view/", views.view, name="view"),
    path("agent/", agent.view),
    path("agent/finish/", agent.finish, name="finish"),
]
