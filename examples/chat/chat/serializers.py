from rest_framework import serializers

from .models import Answer, Message


class QuestionSerializer(serializers.Serializer):
    question = serializers.CharField(max_length=20000)


class SaySerializer(serializers.Serializer):
    conversation = serializers.UUIDField()
    text = serializers.CharField(max_length=20000)


class AnswerSerializer(serializers.ModelSerializer):
    class Meta:
        model = Answer
        fields = ["id", "question", "text", "title", "asked"]


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["role", "text", "whole", "tokens"]
