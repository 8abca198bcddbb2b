"""What the agent does between its calls."""
import re

from django.db.models import Q

from .models import Answer


def look_up(text):
    """Titles and beginnings of earlier answers that share a longer word with the text."""
    words = sorted(set(re.findall(r"\w{6,}", text.lower())))[:5]
    if not words:
        return []
    about = Q()
    for word in words:
        about |= Q(question__icontains=word)
    found = Answer.objects.filter(about).order_by("-pk")[:2]
    return [f"{answer.question[:60]}: {answer.text[:100]}" for answer in found]


def measure(text):
    """How long a text is, in words."""
    words = len(text.split())
    sentences = max(1, len(re.findall(r"[.!?](?:\s|$)", text)))
    return f"{words} words in {sentences} sentences"
