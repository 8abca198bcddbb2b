import fcntl
import os
import tempfile

from django.db import models


class Row(models.Model):
    text = models.CharField(max_length=100)

    class Meta:
        app_label = "project"


def make_tables():
    """What migrate does, for the project of the end-to-end tests; of several workers by the first one."""
    from django.core.management import call_command
    from django.db import connection

    name = os.environ["TARRY_TEST_DATABASE"].replace("/", "_").replace(":", "_")
    with open(os.path.join(tempfile.gettempdir(), f"{name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if "project_row" not in connection.introspection.table_names():
            call_command("migrate", verbosity=0)
            if os.environ.get("TARRY_ONCE_STORE") == "database":
                call_command("createcachetable", verbosity=0)
            with connection.schema_editor() as editor:
                editor.create_model(Row)
        connection.close()
