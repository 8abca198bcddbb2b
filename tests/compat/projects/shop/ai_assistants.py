"""An assistant of django-ai-assistant, as its manual shows one."""

from django.conf import settings
from django_ai_assistant import AIAssistant, method_tool
from langchain_openai import ChatOpenAI

from shop.models import Product


class ShopAssistant(AIAssistant):
    id = "shop_assistant"
    name = "Shop Assistant"
    instructions = "You help in a shop."
    model = "gpt-4o-mini"

    def get_llm(self):
        return ChatOpenAI(model=self.get_model(), api_key="a-key", base_url=settings.MODEL)

    @method_tool
    def stock(self, product: str) -> str:
        """How many of a product there are."""
        return f"{Product.objects.count()} of {product}"
