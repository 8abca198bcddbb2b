from rest_framework import serializers

from .models import Answer


class QuestionSerializer(serializers.Serializer):
    question = serializers.CharField(max_length=20000)


class MessageSerializer(serializers.Serializer):
    role = serializers.ChoiceField(["user", "assistant"])
    content = serializers.CharField(max_length=20000)


class ConversationSerializer(serializers.Serializer):
    messages = MessageSerializer(many=True, allow_empty=False)


class AnswerSerializer(serializers.ModelSerializer):
    class Meta:
        model = Answer
        fields = ["id", "question", "text", "model", "seconds", "asked"]
