from django.db import models


class Answer(models.Model):
    question = models.TextField()
    text = models.TextField(blank=True)  # empty while the model is still thinking
    model = models.CharField(max_length=100, blank=True)
    seconds = models.FloatField(null=True)  # what the model took
    asked = models.DateTimeField(auto_now_add=True)
