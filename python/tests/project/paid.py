"""An agent that charges a card, asks three questions in a row, and sends a mail; and places at which its worker is killed."""

import contextlib
import os
import signal

from django.http import JsonResponse

import tarry

from .agent import ask

LEDGER = os.environ.get("LEDGER", "")


def book(what, mark):
    """Done for good, whatever becomes of the worker or of a transaction."""
    with open(os.path.join(LEDGER, "ledger"), "ab", buffering=0) as file:
        file.write(f"{what} {mark}\n".encode())
        os.fsync(file.fileno())


def kill(request, moment):
    """Kills the worker if the client asked for this moment, written HOP.MOMENT; each moment once for an exchange."""
    wanted = request.GET.get("kill", "").split(",")
    name = f"{request.META.get('HTTP_TARRY_HOP')}.{moment}"
    if name not in wanted:
        return
    with contextlib.suppress(FileExistsError):
        os.close(os.open(os.path.join(LEDGER, f"{request.GET['mark']}.{name}"), os.O_CREAT | os.O_EXCL))
        os.kill(os.getpid(), signal.SIGKILL)


def done(work):
    """A worker may die between the work and the note that it is done: then it is for the view to decide."""
    try:
        return tarry.once(work)
    except tarry.OnceUncertain:
        return "uncertain"


def agent(request):
    mark = request.GET["mark"]

    def charge():
        kill(request, "before charging")
        book("charge", mark)
        kill(request, "while charging")
        return f"receipt of {mark}"

    def mail():
        book("mail", mark)
        return "sent"

    kill(request, "start")
    receipt = done(charge)
    kill(request, "charged")
    text = mark
    for n in range(3):
        text = ask(f"{n}.{text}").split(":", 1)[1].split()[0]
        kill(request, f"answered {n}")
    sent = done(mail)
    kill(request, "end")
    return JsonResponse({"receipt": receipt, "text": text, "mail": sent})


class KillingMiddleware:
    """The outermost: the response, a handoff too, is made and not yet sent."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        kill(request, "made")
        return response
