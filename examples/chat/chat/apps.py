from django.apps import AppConfig
from django.db.backends.signals import connection_created


def tune_sqlite(connection, **kwargs):
    """A write-ahead log: a commit does not wait for the disk, and readers do not wait for a writer."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = wal")
            cursor.execute("PRAGMA synchronous = normal")


class ChatConfig(AppConfig):
    name = "chat"

    def ready(self):
        connection_created.connect(tune_sqlite)
