"""The view is whatever the test says."""

now = {}


def view(request):
    return now["view"](request)


class OuterMiddleware:
    """Marks each response, and may make a call of its own or look at the form."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        before = now.get("outer")
        if before:
            before(request)
        response = self.get_response(request)
        response["X-Outer"] = "seen"
        return response
