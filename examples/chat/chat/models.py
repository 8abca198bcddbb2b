import uuid

from django.db import models


class Answer(models.Model):
    question = models.TextField()
    text = models.TextField()
    title = models.TextField(blank=True)  # the agent gives one
    asked = models.DateTimeField(auto_now_add=True)


class Conversation(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)


class Message(models.Model):
    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="messages")
    role = models.CharField(max_length=20)
    text = models.TextField(blank=True)  # of the assistant: empty while the model writes
    whole = models.BooleanField(default=True)  # False for a reply that was stopped or broke off
    tokens = models.IntegerField(null=True)
    said = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
